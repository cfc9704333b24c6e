"""The authorisation rules of room versions 10, 11 and 12 (spec rooms/v10, v11, v12, "Authorisation rules").

History is linear here, so an event is judged once, by the room's state before it. Rules are numbered in comments as in
rooms/v11; version 10 has the same numbers. Version 12 puts a rule 2 and a rule 10.4 in between, see authbase.refuse.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heichat_appliance import ids
from heichat_appliance.protocol.authbase import AuthError, State, domain_of, membership_of, refuse
from heichat_appliance.protocol.authlevels import check_power_levels
from heichat_appliance.protocol.authmember import check_member, join_rule, may_authorise_join
from heichat_appliance.protocol.content import ContentError, check_client_content
from heichat_appliance.protocol.pdu import Pdu, auth_event_keys
from heichat_appliance.protocol.powerlevels import PowerLevels
from heichat_appliance.protocol.roomversions import RoomVersion

__all__ = [
    "AuthError",
    "ContentError",
    "State",
    "check",
    "check_client_content",
    "depends_on_sender_alone",
    "join_rule",
    "may_authorise_join",
    "may_redact",
    "membership_of",
    "select_auth_events",
]

_JUDGED_BY_CONTENT = frozenset(("m.room.create", "m.room.member", "m.room.power_levels", "m.room.third_party_invite"))


def select_auth_events(
    version: RoomVersion, type: str, sender: str, state_key: str | None, content: Mapping[str, Any], state: State
) -> list[str]:
    """The IDs of the events of `state` that a new event must name as its auth_events."""
    keys = auth_event_keys(version, type, sender, state_key, content)
    return [event.event_id for key in keys if (event := state.get(key)) is not None]


def depends_on_sender_alone(type: str, state_key: str | None) -> bool:
    """Whether `check` and `select_auth_events` say the same of all events of this type by one sender in the same state.

    So it is for message events: only state events are judged by their state key (rooms/v11 8) and, of these types, by content.
    """
    return state_key is None and type not in _JUDGED_BY_CONTENT


def may_redact(version: RoomVersion, redacter: str, target_sender: str, power_levels: PowerLevels) -> bool:
    """Whether a redaction takes effect (spec "Handling redactions", the same in all versions).

    The spec's second condition compares domains, which would let everyone on a server of one domain redact everyone:
    here it is the whole user ID.
    """
    return redacter == target_sender or power_levels.user(redacter) >= power_levels.redact


def check(version: RoomVersion, pdu: Pdu, state: State, power_levels: PowerLevels | None = None) -> None:
    """Raise AuthError if the event is not allowed after `state`, the state of its room before it.

    `state` may be any mapping from (type, state key) to the event; it is only asked with .get. `power_levels`, if
    given, is the view of exactly this state's create and power_levels events (to spare making it again).
    """
    # rooms/v11 1 (v12 1)
    if pdu.type == "m.room.create":
        _check_create(version, pdu)
        return
    create = state.get(("m.room.create", ""))
    if create is None:
        refuse(version, "2.4", "the room has no m.room.create event", "der Raum hat kein m.room.create-Ereignis")
    # rooms/v12 2
    if version.room_id_is_create_hash and pdu.room_id != "!" + create.event_id[1:]:
        raise AuthError(
            "the room ID is not that of m.room.create / die Raum-ID ist nicht die von m.room.create",
            "rooms/v12 2",
        )
    _check_auth_events(version, pdu, state, create)
    # rooms/v11 3 (v12 4)
    if create.content.get("m.federate") is False and domain_of(pdu.sender) != domain_of(create.sender):
        refuse(version, "3", "the room is closed to other servers", "der Raum ist für andere Server geschlossen")
    levels = power_levels or PowerLevels(version, create, state.get(("m.room.power_levels", "")))
    # rooms/v11 4 (v12 5)
    if pdu.type == "m.room.member":
        check_member(version, pdu, state, create, levels)
        return
    # rooms/v11 5 (v12 6)
    if membership_of(state, pdu.sender) != "join":
        refuse(version, "5", "you are not in this room", "Sie sind nicht in diesem Raum")
    # rooms/v11 6 (v12 7)
    if pdu.type == "m.room.third_party_invite":
        # rooms/v11 6.1 (v12 7.1)
        if levels.user(pdu.sender) < levels.invite:
            refuse(
                version,
                "6.1",
                "you may not invite people into this room",
                "Sie dürfen in diesen Raum niemanden einladen",
            )
        return
    # rooms/v11 7 (v12 8)
    if levels.event(pdu.type, pdu.state_key is not None) > levels.user(pdu.sender):
        refuse(
            version,
            "7",
            f"you may not send {pdu.type} in this room",
            f"Sie dürfen {pdu.type} in diesem Raum nicht senden",
        )
    # rooms/v11 8 (v12 9)
    if pdu.state_key is not None and pdu.state_key.startswith("@") and pdu.state_key != pdu.sender:
        refuse(
            version,
            "8",
            "a state_key that begins with @ must be your own user ID",
            "ein state_key mit @ muss Ihre eigene Nutzer-ID sein",
        )
    # rooms/v11 9 (v12 10)
    if pdu.type == "m.room.power_levels":
        check_power_levels(version, pdu, state, levels)
    # rooms/v11 10 (v12 11): otherwise, allow


def _check_create(version: RoomVersion, pdu: Pdu) -> None:
    # rooms/v11 1.1
    if pdu.prev_events:
        refuse(version, "1.1", "the room exists already", "den Raum gibt es schon")
    # rooms/v12 1.2
    if version.room_id_is_create_hash:
        if "room_id" in pdu.raw:
            refuse(version, "1.2", "m.room.create must not have a room ID", "m.room.create darf keine Raum-ID haben")
    # rooms/v11 1.2
    elif domain_of(pdu.room_id) != domain_of(pdu.sender):
        refuse(
            version,
            "1.2",
            "the room ID must be of the creator's server",
            "die Raum-ID muss vom erstellenden Server sein",
        )
    # rooms/v11 1.3. A recognised version is as wrong as an unknown one if it is not the one whose rules are followed.
    if pdu.content.get("room_version", version.identifier) != version.identifier:
        refuse(
            version,
            "1.3",
            f"content.room_version must be {version.identifier}",
            f"content.room_version muss {version.identifier} sein",
        )
    # rooms/v10 1.4
    if version.creator_in_content and "creator" not in pdu.content:
        refuse(version, "1.4", "content.creator is missing", "content.creator fehlt")
    # rooms/v12 1.4
    if version.additional_creators and "additional_creators" in pdu.content:
        creators = pdu.content["additional_creators"]
        if not isinstance(creators, list) or not all(map(ids.is_user_id, creators)):
            refuse(
                version,
                "1.4",
                "content.additional_creators must be a list of user IDs",
                "content.additional_creators muss eine Liste von Nutzer-IDs sein",
            )


def _check_auth_events(version: RoomVersion, pdu: Pdu, state: State, create: Pdu) -> None:
    """rooms/v11 2 (v12 3). 2.3 and 2.5 hold of themselves: what is in the state of a room was not rejected there."""
    selected = select_auth_events(version, pdu.type, pdu.sender, pdu.state_key, pdu.content, state)
    if pdu.auth_events == selected:
        return
    # rooms/v11 2.1 (v12 3.1)
    if len(set(pdu.auth_events)) != len(pdu.auth_events):
        refuse(version, "2.1", "auth_events names an event twice", "auth_events nennt ein Ereignis zweimal")
    # rooms/v11 2.2 (v12 3.2)
    if not set(pdu.auth_events).issubset(selected):
        refuse(version, "2.2", "auth_events names a wrong event", "auth_events nennt ein falsches Ereignis")
    # rooms/v11 2.4
    if version.create_in_auth_events and create.event_id not in pdu.auth_events:
        refuse(version, "2.4", "auth_events lacks m.room.create", "in auth_events fehlt m.room.create")
