"""Memberships: joining, inviting, leaving, removing, banning, knocking, forgetting (client-server API "Room membership").

Whichever way a client asks, by these operations or by `PUT .../state/m.room.member`, it ends in the same jobs.
"""

from __future__ import annotations

from typing import Any

import orjson
from twisted.internet.defer import Deferred

from heichat_appliance import ids
from heichat_appliance.db.engine import FOREVER, Engine, Transaction
from heichat_appliance.errors import MatrixError, bad_json, forbidden, invalid_param, not_found
from heichat_appliance.protocol.auth import join_rule, may_authorise_join
from heichat_appliance.protocol.content import ContentError, check_client_content
from heichat_appliance.services.invitees import Invitees
from heichat_appliance.services.profiles import member_content
from heichat_appliance.services.timeline import NotAllowed, RoomView, Timeline, not_in_room
from heichat_appliance.store import account_data, aliases, profiles, state
from heichat_appliance.store.events import Execute
from heichat_appliance.store.profiles import Display

MEMBER = "m.room.member"


class Membership:
    """Changes who is in a room."""

    def __init__(self, engine: Engine, timeline: Timeline, invitees: Invitees) -> None:
        self._engine = engine
        self._timeline = timeline
        self._invitees = invitees

    # -- oneself -------------------------------------------------------------------------------------------------

    def join(self, user_id: str, room: str, reason: str | None = None) -> Deferred[str]:
        """Join a room, by its ID or an alias; the room ID. Nothing happens if the person is in it.

        404 M_NOT_FOUND for an unknown room or alias, 403 M_FORBIDDEN without invitation (or what else the room asks for).
        """
        return self._engine.write(self._join_job, user_id, checked_room(room), reason)

    def _join_job(self, tx: Transaction, user_id: str, room: str, reason: str | None) -> str:
        view = self._timeline.view(tx, resolve(tx, room))
        if view.membership(user_id) != "join":
            content = member_content(profiles.display(tx.execute, user_id))
            self._add_join(tx, view, user_id, with_reason(content, reason))
        return view.room_id

    def _add_join(self, tx: Transaction, view: RoomView, user_id: str, content: dict[str, Any]) -> str:
        """Join with this content; for a restricted room the server finds out who lets the person in."""
        if view.membership(user_id) not in ("join", "invite") and join_rule(view) in ("restricted", "knock_restricted"):  # type: ignore[arg-type]
            content = {**content, "join_authorised_via_users_server": self._authoriser(tx, view, user_id)}
        return self._append(tx, view, user_id, user_id, content)

    @staticmethod
    def _authoriser(tx: Transaction, view: RoomView, user_id: str) -> str:
        """Somebody who may invite, if the person fulfils a condition of a restricted room (spec "Restricted rooms")."""
        rules = view.get(("m.room.join_rules", ""))
        conditions = rules.content.get("allow") if rules is not None else None
        rooms = [
            one.get("room_id")
            for one in (conditions if isinstance(conditions, list) else [])
            if isinstance(one, dict) and one.get("type") == "m.room_membership"
        ]
        if not any(_is_joined(tx, user_id, room_id) for room_id in rooms):
            raise NotAllowed(
                "you are neither invited nor in one of the rooms whose members may join / "
                "Sie sind weder eingeladen noch in einem der Räume, deren Mitglieder beitreten dürfen"
            )
        levels = view.get(("m.room.power_levels", ""))
        named = levels.content.get("users", {}) if levels is not None else {}
        somebody = state.first_members_at(tx.execute, view.room_id, ("join",), FOREVER - 1, 1)
        for candidate in (*view.levels.creators, *named, *somebody):
            if may_authorise_join(candidate, view, view.levels):  # type: ignore[arg-type]
                return candidate
        raise NotAllowed("nobody in this room may let you in / In diesem Raum darf Sie niemand hereinlassen")

    def leave(self, user_id: str, room_id: str, reason: str | None = None) -> Deferred[None]:
        """Leave, decline an invitation, or take back a knock; nothing happens for one who has left. 403 M_FORBIDDEN."""
        return self._engine.write(self._leave_job, user_id, room_id, reason)

    def _leave_job(self, tx: Transaction, user_id: str, room_id: str, reason: str | None) -> None:
        view = self._acquainted_view(tx, room_id, user_id)
        if view.membership(user_id) != "leave":
            self._append(tx, view, user_id, user_id, with_reason({"membership": "leave"}, reason))

    def knock(self, user_id: str, room: str, reason: str | None = None) -> Deferred[str]:
        """Ask to be invited; the room ID. Nothing happens for one who has knocked. 403 M_FORBIDDEN, 404 M_NOT_FOUND."""
        return self._engine.write(self._knock_job, user_id, checked_room(room), reason)

    def _knock_job(self, tx: Transaction, user_id: str, room: str, reason: str | None) -> str:
        view = self._timeline.view(tx, resolve(tx, room))
        if view.membership(user_id) != "knock":
            content = member_content(profiles.display(tx.execute, user_id), "knock")
            self._append(tx, view, user_id, user_id, with_reason(content, reason))
        return view.room_id

    def forget(self, user_id: str, room_id: str) -> Deferred[None]:
        """Forget a room that the person has left or is banned from; 400 M_UNKNOWN if they have not left it."""
        return self._engine.write(self._forget_job, user_id, room_id)

    @staticmethod
    def _forget_job(tx: Transaction, user_id: str, room_id: str) -> None:
        now = state.membership_now(tx.execute, user_id, room_id)
        if now is None:
            raise not_found("you were never in this room / Sie waren nie in diesem Raum")
        if now.membership not in ("leave", "ban"):
            raise MatrixError(400, "M_UNKNOWN", "you have not left this room / Sie haben diesen Raum nicht verlassen")
        state.forget(tx, user_id, room_id)

    def joined_rooms(self, user_id: str) -> list[str]:
        """The rooms that the person is in."""
        return state.rooms_of_user_now(self._engine.read, user_id)

    # -- others --------------------------------------------------------------------------------------------------

    async def invite(self, sender: str, room_id: str, target: str, reason: str | None = None) -> None:
        """Invite somebody; nothing happens if they are invited.

        403 M_FORBIDDEN (also for users of other servers), 403 M_INVITE_BLOCKED, 404 M_NOT_FOUND for nobody of this
        university.
        """
        content = with_reason({"membership": "invite"}, reason)
        names = await self._known_to_member(sender, room_id, target)
        await self._engine.write(self._invite_job, sender, room_id, target, content, names.get(target))

    async def _known_to_member(self, sender: str, room_id: str, target: str) -> dict[str, str | None]:
        """Look the target up, but not for strangers to the room."""
        self._invitees.check(target)
        now = state.membership_now(self._engine.read, sender, room_id)
        if now is None or now.membership != "join":
            raise not_in_room()
        return await self._invitees.require([target])

    def _invite_job(
        self, tx: Transaction, sender: str, room_id: str, target: str, content: dict[str, Any], name: str | None
    ) -> str:
        view = self._timeline.member_view(tx, room_id, sender)
        current = view.get((MEMBER, target))
        if current is not None and current.content["membership"] == "invite":
            return current.event_id
        return self.add_invite(tx, view, sender, target, content, name)

    def add_invite(
        self, tx: Transaction, view: RoomView, sender: str, target: str, content: dict[str, Any], name: str | None
    ) -> str:
        """Invite within a job. `content` has the membership and what else the event shall say; `name` is the display
        name of somebody who has no account yet."""
        if view.levels.user(sender) < view.levels.invite:
            raise NotAllowed(
                "you don't have the power level to invite people into this room / "
                "Sie dürfen in diesen Raum niemanden einladen"
            )
        if blocks_invites(tx.execute, target):
            raise invite_blocked(target)
        shown = profiles.display(tx.execute, target)
        profile = member_content(Display(shown.display_name or name, shown.avatar_url))
        return self._append(tx, view, sender, target, {**profile, **content})

    def kick(self, sender: str, room_id: str, target: str, reason: str | None = None) -> Deferred[None]:
        """Remove somebody who is in the room, invited, or knocking. 403 M_FORBIDDEN."""
        content = with_reason({"membership": "leave"}, reason)
        wrong = f"{target} is not in this room / {target} ist nicht in diesem Raum"
        return self._change(sender, room_id, target, content, ("join", "invite", "knock"), wrong)

    def ban(self, sender: str, room_id: str, target: str, reason: str | None = None) -> Deferred[None]:
        """Ban somebody, in the room or not. 403 M_FORBIDDEN."""
        return self._change(sender, room_id, target, with_reason({"membership": "ban"}, reason), None, "")

    def unban(self, sender: str, room_id: str, target: str, reason: str | None = None) -> Deferred[None]:
        """Lift a ban. 403 M_FORBIDDEN, also for somebody who is not banned."""
        content = with_reason({"membership": "leave"}, reason)
        wrong = f"{target} is not banned from this room / {target} ist nicht aus diesem Raum verbannt"
        return self._change(sender, room_id, target, content, ("ban",), wrong)

    def _change(
        self,
        sender: str,
        room_id: str,
        target: str,
        content: dict[str, Any],
        before: tuple[str, ...] | None,
        wrong: str,
    ) -> Deferred[None]:
        """Write a membership of somebody else, whose membership must be one of `before` (None: any)."""
        checked_user(target)

        def job(tx: Transaction) -> None:
            view = self._timeline.member_view(tx, room_id, sender)
            if before is not None and view.membership(target) not in before:
                raise NotAllowed(wrong)
            self._append(tx, view, sender, target, content)

        return self._engine.write(job)

    # -- any way -------------------------------------------------------------------------------------------------

    async def put_member(self, sender: str, room_id: str, target: str, content: dict[str, Any]) -> str:
        """`PUT .../state/m.room.member/{target}`: the event ID. Holds to the same rules as the operations above."""
        try:
            check_client_content(MEMBER, target, content)
        except ContentError as error:
            raise bad_json(str(error))
        if "third_party_invite" in content:
            raise forbidden(
                "content.third_party_invite: this server knows no third-party identifiers / "
                "Dieser Server kennt keine Kennungen Dritter"
            )
        content = {key: value for key, value in content.items() if key != "join_authorised_via_users_server"}
        name = None
        if content["membership"] == "invite":
            name = (await self._known_to_member(sender, room_id, target)).get(target)
        return await self._engine.write(self._put_job, sender, room_id, target, content, name)

    def _put_job(
        self, tx: Transaction, sender: str, room_id: str, target: str, content: dict[str, Any], name: str | None
    ) -> str:
        if content["membership"] == "invite":
            return self._invite_job(tx, sender, room_id, target, content, name)
        if sender != target:
            view = self._timeline.member_view(tx, room_id, sender)
        elif content["membership"] in ("join", "knock"):
            view = self._timeline.view(tx, room_id)
        else:
            view = self._acquainted_view(tx, room_id, sender)
        if sender == target and content["membership"] == "join":
            return self._add_join(tx, view, sender, content)
        return self._append(tx, view, sender, target, content)

    def add_creator(self, tx: Transaction, view: RoomView, creator: str) -> None:
        """The creator's own join, the second event of a room."""
        self._append(tx, view, creator, creator, member_content(profiles.display(tx.execute, creator)))

    def _append(self, tx: Transaction, view: RoomView, sender: str, target: str, content: dict[str, Any]) -> str:
        """Add the member event, or give the present one's ID if it says the same by the same sender."""
        known = view.unchanged(MEMBER, target, sender, content)
        if known is not None:
            return known
        return self._timeline.append(tx, view, type=MEMBER, sender=sender, state_key=target, content=content).event_id

    def _acquainted_view(self, tx: Transaction, room_id: str, user_id: str) -> RoomView:
        """The view of a room that the person was ever invited to or in; strangers and unknown rooms look the same."""
        if state.membership_now(tx.execute, user_id, room_id) is None:
            raise not_in_room()
        return self._timeline.view(tx, room_id)


def resolve(tx: Transaction, room: str) -> str:
    """The room ID of a room ID or alias; 404 M_NOT_FOUND for an alias that leads nowhere."""
    if not room.startswith("#"):
        return room
    found = aliases.get(tx.execute, room)
    if found is None:
        raise not_found(f"there is no room alias {room} / Den Raumalias {room} gibt es nicht")
    return found.room_id


def checked_room(room: str) -> str:
    """`room` if it is a room ID or an alias, else 400 M_INVALID_PARAM."""
    try:
        if room.startswith("#"):
            ids.parse_room_alias(room)
        else:
            ids.check_room_id(room)
    except ValueError as error:
        raise invalid_param(f"roomIdOrAlias: {error}")
    return room


def checked_user(user_id: str) -> str:
    """`user_id` if it is one, else 400 M_INVALID_PARAM."""
    try:
        ids.parse_user_id(user_id)
    except ValueError as error:
        raise invalid_param(f"user_id: {error}")
    return user_id


def with_reason(content: dict[str, Any], reason: str | None) -> dict[str, Any]:
    """`content` with the reason, if there is one."""
    return content if reason is None else {**content, "reason": reason}


def _is_joined(tx: Transaction, user_id: str, room_id: object) -> bool:
    now = state.membership_now(tx.execute, user_id, room_id) if isinstance(room_id, str) else None
    return now is not None and now.membership == "join"


def blocks_invites(execute: Execute, user_id: str) -> bool:
    """Whether a person takes no invitations (client-server API "Invite permission")."""
    content = account_data.get(execute, user_id, "", "m.invite_permission_config")
    return content is not None and orjson.loads(content).get("default_action") == "block"


def invite_blocked(user_id: str) -> MatrixError:
    """What somebody hears who invites such a person."""
    return MatrixError(
        403, "M_INVITE_BLOCKED", f"{user_id} takes no invitations / {user_id} nimmt keine Einladungen an"
    )
