"""The authorisation rules for m.room.member (spec rooms/v11 "Authorisation rules" 4; rooms/v12 5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

from heichat_appliance.protocol import canonicaljson
from heichat_appliance.protocol.authbase import State, domain_of, membership_of, refuse
from heichat_appliance.protocol.pdu import Pdu, decode_base64, signature_is_valid
from heichat_appliance.protocol.powerlevels import PowerLevels
from heichat_appliance.protocol.roomversions import RoomVersion

_NO_KNOCK = {
    "ban": ("you are banned from this room", "Sie sind aus diesem Raum verbannt"),
    "invite": ("you are invited to this room already", "Sie sind in diesen Raum schon eingeladen"),
    "join": ("you are in this room already", "Sie sind schon in diesem Raum"),
}


def check_member(version: RoomVersion, pdu: Pdu, state: State, create: Pdu, levels: PowerLevels) -> None:
    """Raise AuthError if the membership event is not allowed after `state`. `create` and `levels` are of that state."""
    membership = pdu.content.get("membership")
    # rooms/v11 4.1 (v12 5.1)
    if pdu.state_key is None or membership is None:
        refuse(
            version,
            "4.1",
            "m.room.member needs a state_key and content.membership",
            "m.room.member braucht state_key und content.membership",
        )
    # rooms/v11 4.2.1 (v12 5.2.1). Whether a signature is right is for whoever receives events; we only made this one.
    if "join_authorised_via_users_server" in pdu.content:
        authoriser = pdu.content["join_authorised_via_users_server"]
        if not isinstance(authoriser, str) or domain_of(authoriser) not in pdu.raw["signatures"]:
            refuse(
                version,
                "4.2.1",
                "content.join_authorised_via_users_server must be a user of this server",
                "content.join_authorised_via_users_server muss eine Nutzer-ID dieses Servers sein",
            )
    if membership == "join":
        _check_join(version, pdu, state, create, levels)
    elif membership == "invite":
        _check_invite(version, pdu, pdu.state_key, state, levels)
    elif membership == "leave":
        _check_leave(version, pdu, pdu.state_key, state, levels)
    elif membership == "ban":
        _check_ban(version, pdu, pdu.state_key, state, levels)
    elif membership == "knock":
        _check_knock(version, pdu, state)
    else:
        # rooms/v11 4.8 (v12 5.8)
        refuse(
            version,
            "4.8",
            "content.membership must be join, invite, leave, ban or knock",
            "content.membership muss join, invite, leave, ban oder knock sein",
        )


def _check_join(version: RoomVersion, pdu: Pdu, state: State, create: Pdu, levels: PowerLevels) -> None:
    """rooms/v11 4.3 (v12 5.3)"""
    # rooms/v11 4.3.1 (v12 5.3.1); version 10 says "the creator", i.e. content.creator
    first = create.content.get("creator") if version.creator_in_content else create.sender
    if pdu.prev_events == [create.event_id] and pdu.state_key == first:
        return
    # rooms/v11 4.3.2 (v12 5.3.2)
    if pdu.sender != pdu.state_key:
        refuse(version, "4.3.2", "you can join a room only for yourself", "einem Raum beitreten kann man nur selbst")
    current = membership_of(state, pdu.sender)
    # rooms/v11 4.3.3 (v12 5.3.3)
    if current == "ban":
        refuse(version, "4.3.3", "you are banned from this room", "Sie sind aus diesem Raum verbannt")
    rule = join_rule(state)
    # rooms/v11 4.3.4 (v12 5.3.4)
    if rule in ("invite", "knock") and current in ("invite", "join"):
        return
    # rooms/v11 4.3.5 (v12 5.3.5)
    if rule in ("restricted", "knock_restricted"):
        # rooms/v11 4.3.5.1 (v12 5.3.5.1)
        if current in ("join", "invite"):
            return
        # rooms/v11 4.3.5.2 (v12 5.3.5.2)
        authoriser = pdu.content.get("join_authorised_via_users_server")
        if not isinstance(authoriser, str) or not may_authorise_join(authoriser, state, levels):
            refuse(
                version, "4.3.5.2", "you are not allowed to join this room", "Sie dürfen diesem Raum nicht beitreten"
            )
        # rooms/v11 4.3.5.3 (v12 5.3.5.3)
        return
    # rooms/v11 4.3.6 (v12 5.3.6)
    if rule != "public":
        # rooms/v11 4.3.7 (v12 5.3.7)
        refuse(version, "4.3.7", "you are not invited to this room", "Sie sind in diesen Raum nicht eingeladen")


def may_authorise_join(user_id: str, state: State, levels: PowerLevels) -> bool:
    """Whether a user may stand for a restricted join as `join_authorised_via_users_server` (rooms/v11 4.3.5.2)."""
    return membership_of(state, user_id) == "join" and levels.user(user_id) >= levels.invite


def join_rule(state: State) -> object:
    """The join rule of a room, "invite" if it has none (client-server API "m.room.join_rules")."""
    event = state.get(("m.room.join_rules", ""))
    return "invite" if event is None else event.content.get("join_rule")


def _check_invite(version: RoomVersion, pdu: Pdu, target: str, state: State, levels: PowerLevels) -> None:
    """rooms/v11 4.4 (v12 5.4)"""
    # rooms/v11 4.4.1 (v12 5.4.1)
    if "third_party_invite" in pdu.content:
        _check_third_party_invite(version, pdu, target, state)
        return
    # rooms/v11 4.4.2 (v12 5.4.2)
    if membership_of(state, pdu.sender) != "join":
        refuse(version, "4.4.2", "you are not in this room", "Sie sind nicht in diesem Raum")
    # rooms/v11 4.4.3 (v12 5.4.3)
    current = membership_of(state, target)
    if current in ("join", "ban"):
        if current == "join":
            refuse(version, "4.4.3", f"{target} is in this room already", f"{target} ist schon in diesem Raum")
        refuse(version, "4.4.3", f"{target} is banned from this room", f"{target} ist aus diesem Raum verbannt")
    # rooms/v11 4.4.4 (v12 5.4.4)
    if levels.user(pdu.sender) < levels.invite:
        # rooms/v11 4.4.5 (v12 5.4.5)
        refuse(
            version, "4.4.5", "you may not invite people into this room", "Sie dürfen in diesen Raum niemanden einladen"
        )


def _check_third_party_invite(version: RoomVersion, pdu: Pdu, target: str, state: State) -> None:
    """rooms/v11 4.4.1 (v12 5.4.1)"""
    # rooms/v11 4.4.1.1 (v12 5.4.1.1)
    if membership_of(state, target) == "ban":
        refuse(version, "4.4.1.1", f"{target} is banned from this room", f"{target} ist aus diesem Raum verbannt")
    # rooms/v11 4.4.1.2 (v12 5.4.1.2)
    invite = pdu.content["third_party_invite"]
    signed = invite.get("signed") if isinstance(invite, dict) else None
    if not isinstance(signed, dict):
        refuse(
            version,
            "4.4.1.2",
            "content.third_party_invite.signed is missing",
            "content.third_party_invite.signed fehlt",
        )
    # rooms/v11 4.4.1.3 (v12 5.4.1.3)
    mxid, token = signed.get("mxid"), signed.get("token")
    if not isinstance(mxid, str) or not isinstance(token, str):
        refuse(
            version,
            "4.4.1.3",
            "content.third_party_invite.signed needs mxid and token",
            "content.third_party_invite.signed braucht mxid und token",
        )
    # rooms/v11 4.4.1.4 (v12 5.4.1.4)
    if mxid != target:
        refuse(
            version, "4.4.1.4", "the invitation by mail is another user's", "die Einladung per Mail gilt jemand anderem"
        )
    # rooms/v11 4.4.1.5 (v12 5.4.1.5)
    origin = state.get(("m.room.third_party_invite", token))
    if origin is None:
        refuse(
            version,
            "4.4.1.5",
            "there is no invitation by mail with this token",
            "es gibt keine Einladung per Mail mit diesem Token",
        )
    # rooms/v11 4.4.1.6 (v12 5.4.1.6)
    if pdu.sender != origin.sender:
        refuse(
            version,
            "4.4.1.6",
            "the invitation by mail was sent by another user",
            "die Einladung per Mail hat jemand anderes verschickt",
        )
    # rooms/v11 4.4.1.7 (v12 5.4.1.7)
    if not _is_signed(signed, _public_keys(origin.content)):
        # rooms/v11 4.4.1.8 (v12 5.4.1.8)
        refuse(
            version,
            "4.4.1.8",
            "the invitation by mail has no valid signature",
            "die Einladung per Mail hat keine gültige Signatur",
        )


def _public_keys(content: Mapping[str, Any]) -> list[VerifyKey]:
    """The keys of an m.room.third_party_invite event: `public_key`, and `public_key` of each of `public_keys`."""
    found = [content.get("public_key")]
    more = content.get("public_keys")
    if isinstance(more, list):
        found += [item.get("public_key") for item in more if isinstance(item, dict)]
    keys = []
    for text in found:
        if isinstance(text, str):
            try:
                keys.append(VerifyKey(decode_base64(text.replace("-", "+").replace("_", "/"))))
            except (ValueError, CryptoError):
                continue  # not an Ed25519 key, so no signature can match it
    return keys


def _is_signed(signed: dict[str, Any], keys: list[VerifyKey]) -> bool:
    servers = signed.get("signatures")
    if not isinstance(servers, dict):
        return False
    message = canonicaljson.encode({key: item for key, item in signed.items() if key not in ("signatures", "unsigned")})
    signatures = [
        text
        for by_key in servers.values()
        if isinstance(by_key, dict)
        for key_id, text in by_key.items()
        if key_id.startswith("ed25519:") and isinstance(text, str)
    ]
    return any(signature_is_valid(key, message, text) for key in keys for text in signatures)


def _check_leave(version: RoomVersion, pdu: Pdu, target: str, state: State, levels: PowerLevels) -> None:
    """rooms/v11 4.5 (v12 5.5)"""
    current = membership_of(state, target)
    # rooms/v11 4.5.1 (v12 5.5.1)
    if pdu.sender == target:
        if current not in ("invite", "join", "knock"):
            refuse(version, "4.5.1", "you are not in this room", "Sie sind nicht in diesem Raum")
        return
    # rooms/v11 4.5.2 (v12 5.5.2)
    if membership_of(state, pdu.sender) != "join":
        refuse(version, "4.5.2", "you are not in this room", "Sie sind nicht in diesem Raum")
    own = levels.user(pdu.sender)
    # rooms/v11 4.5.3 (v12 5.5.3)
    if current == "ban" and own < levels.ban:
        refuse(
            version,
            "4.5.3",
            "you may not lift bans in this room",
            "Sie dürfen in diesem Raum keine Verbannung aufheben",
        )
    # rooms/v11 4.5.4 (v12 5.5.4)
    if own < levels.kick or levels.user(target) >= own:
        # rooms/v11 4.5.5 (v12 5.5.5)
        refuse(
            version,
            "4.5.5",
            f"you may not remove {target} from this room",
            f"Sie dürfen {target} nicht aus diesem Raum entfernen",
        )


def _check_ban(version: RoomVersion, pdu: Pdu, target: str, state: State, levels: PowerLevels) -> None:
    """rooms/v11 4.6 (v12 5.6)"""
    # rooms/v11 4.6.1 (v12 5.6.1)
    if membership_of(state, pdu.sender) != "join":
        refuse(version, "4.6.1", "you are not in this room", "Sie sind nicht in diesem Raum")
    own = levels.user(pdu.sender)
    # rooms/v11 4.6.2 (v12 5.6.2)
    if own < levels.ban or levels.user(target) >= own:
        # rooms/v11 4.6.3 (v12 5.6.3)
        refuse(
            version,
            "4.6.3",
            f"you may not ban {target} from this room",
            f"Sie dürfen {target} nicht aus diesem Raum verbannen",
        )


def _check_knock(version: RoomVersion, pdu: Pdu, state: State) -> None:
    """rooms/v11 4.7 (v12 5.7)"""
    # rooms/v11 4.7.1 (v12 5.7.1)
    if join_rule(state) not in ("knock", "knock_restricted"):
        refuse(version, "4.7.1", "this room does not take knocks", "in diesem Raum kann man nicht anklopfen")
    # rooms/v11 4.7.2 (v12 5.7.2)
    if pdu.sender != pdu.state_key:
        refuse(version, "4.7.2", "you can knock only for yourself", "anklopfen kann man nur selbst")
    # rooms/v11 4.7.3 (v12 5.7.3)
    current = membership_of(state, pdu.sender)
    if current in ("ban", "invite", "join"):
        # rooms/v11 4.7.4 (v12 5.7.4)
        refuse(version, "4.7.4", *_NO_KNOCK[current])
