"""Creating rooms (client-server API "POST createRoom"): one job over all events, so half a room can't exist."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from msgspec import Struct

from heichat_appliance import ids
from heichat_appliance.db.engine import Engine, Transaction
from heichat_appliance.errors import MatrixError, bad_json, forbidden, invalid_param
from heichat_appliance.protocol import roomdefaults
from heichat_appliance.protocol.content import ContentError, check_client_content
from heichat_appliance.protocol.roomdefaults import Preset
from heichat_appliance.protocol.roomversions import DEFAULT, ROOM_VERSIONS, RoomVersion
from heichat_appliance.services import roomstate
from heichat_appliance.services.aliases import Aliases, full_alias
from heichat_appliance.services.invitees import Invitees, Names
from heichat_appliance.services.membership import Membership, blocks_invites, invite_blocked
from heichat_appliance.services.timeline import NotAllowed, RoomView, Timeline
from heichat_appliance.store import aliases as alias_store
from heichat_appliance.store import keys

#: One room's beginning is one job, and that must stay short.
MAX_INVITES = 200
MAX_INITIAL_STATE = 100

#: State that a room begins with in ways of its own.
_NOT_INITIAL = frozenset(("m.room.create", "m.room.member"))


class InitialState(Struct):
    """An event of `initial_state`."""

    type: str
    content: dict[str, Any]
    state_key: str = ""


class NewRoom(Struct):
    """What a client says about a new room; the names are those of the specification."""

    visibility: Literal["public", "private"] | None = None
    room_alias_name: str | None = None
    name: str | None = None
    topic: str | None = None
    invite: list[str] | None = None
    invite_3pid: list[Any] | None = None
    room_version: str | None = None
    creation_content: dict[str, Any] | None = None
    initial_state: list[InitialState] | None = None
    preset: Preset | None = None
    is_direct: bool | None = None
    power_level_content_override: dict[str, Any] | None = None


@dataclass(slots=True)
class Plan:
    """A checked NewRoom with every default filled in."""

    creator: str
    version: RoomVersion
    create_content: dict[str, Any]
    preset: Preset
    power_levels: dict[str, Any]
    state: list[InitialState]
    invite: list[str]
    invite_content: dict[str, Any]
    published: bool
    alias: str | None = None
    names: Names = field(default_factory=dict)


class Rooms:
    """Makes rooms."""

    def __init__(
        self, engine: Engine, timeline: Timeline, membership: Membership, invitees: Invitees, aliases: Aliases,
        policies: Sequence[Any], server_name: str, *, encrypt_direct: bool = False,
    ) -> None:  # fmt: skip
        """`policies`: the providers of extension.IRoomPolicy. `encrypt_direct`: direct chats begin with encryption if
        everybody in them has a device that can encrypt."""
        self._engine = engine
        self._timeline = timeline
        self._membership = membership
        self._invitees = invitees
        self._aliases = aliases
        self._policies = tuple(policies)
        self._server_name = server_name
        self._encrypt_direct = encrypt_direct

    async def create(self, creator: str, room: NewRoom) -> str:
        """Create a room; its ID.

        400 M_BAD_JSON, M_INVALID_PARAM, M_UNSUPPORTED_ROOM_VERSION, M_ROOM_IN_USE (alias), M_INVALID_ROOM_STATE (the
        creator may not do what the request implies); 403 M_FORBIDDEN (policies, people of other servers); 404 for
        invited people whom nobody knows; 403 M_INVITE_BLOCKED if all of the invited take no invitations. Then there is
        no room. If only some of them take none, the room begins without these, as the spec allows ("Invite permission").
        """
        plan = self._plan(creator, room)
        plan.names = await self._invitees.require(plan.invite, "invite")
        return await self._engine.write(self._create_job, plan)

    # -- planning ------------------------------------------------------------------------------------------------

    def _plan(self, creator: str, room: NewRoom) -> Plan:
        version = supported_version(room.room_version or DEFAULT, "room_version")
        if room.invite_3pid:
            raise forbidden(
                "invite_3pid: this server knows no e-mail addresses or telephone numbers, invite by user ID / "
                "Dieser Server kennt keine E-Mail-Adressen oder Telefonnummern, bitte mit der Nutzerkennung einladen"
            )
        invited = list(dict.fromkeys(room.invite or []))
        _check_number(invited, MAX_INVITES, "invite")
        invite = [target for target in invited if not blocks_invites(self._engine.read, target)]
        if invited and not invite:
            raise invite_blocked(invited[0])
        _check_number(room.initial_state or [], MAX_INITIAL_STATE, "initial_state")
        published = room.visibility == "public"
        if published:
            self._aliases.check_publish(creator, None)
        preset = room.preset or ("public_chat" if published else "private_chat")
        override = room.power_level_content_override or {}
        return Plan(
            creator=creator,
            version=version,
            create_content=_create_content(version, creator, preset, invite, room.creation_content or {}),
            preset=preset,
            power_levels=roomdefaults.power_levels(version, creator, preset, invite, override),
            state=self._state(room, preset, [creator, *invite]),
            invite=invite,
            invite_content={"membership": "invite", **({"is_direct": True} if room.is_direct else {})},
            published=published,
            alias=None if room.room_alias_name is None else full_alias(room.room_alias_name, self._server_name),
        )

    def _state(self, room: NewRoom, preset: Preset, people: list[str]) -> list[InitialState]:
        """The events of the preset, of `initial_state`, and those implied by name and topic, each overriding the ones
        before it. `people`: who creates the room and who is invited."""
        initial = room.initial_state or []
        for index, event in enumerate(initial):
            if event.type in _NOT_INITIAL:
                raise bad_json(f"initial_state.{index}: {event.type} can't be set here")
        last = []
        if room.name:
            last.append(InitialState("m.room.name", {"name": room.name}))
        if room.topic:
            last.append(InitialState("m.room.topic", roomdefaults.topic(room.topic)))
        said = {(event.type, event.state_key) for event in (*initial, *last)}
        defaults = roomdefaults.preset_state(preset)
        if self._encrypt_direct and room.is_direct and self._can_encrypt(people):
            defaults.append(roomdefaults.ENCRYPTION)
        first = [
            InitialState(type, self._settled(type, content)) for type, content in defaults if (type, "") not in said
        ]
        if room.preset is not None:
            initial = [InitialState(e.type, self._settled(e.type, e.content), e.state_key) for e in initial]
        overridden = {event.type for event in last}
        return [*first, *(e for e in initial if e.type not in overridden or e.state_key), *last]

    def _can_encrypt(self, people: list[str]) -> bool:
        """Whether all have a device with keys; somebody without could never read what is written before they get one."""
        return keys.people_with_devices(self._engine.read, people).issuperset(people)

    def _settled(self, type: str, content: dict[str, Any]) -> dict[str, Any]:
        for policy in self._policies:
            content = policy.preset_content(type, content)
        return content

    # -- making --------------------------------------------------------------------------------------------------

    def _create_job(self, tx: Transaction, plan: Plan) -> str:
        try:
            return self._make(tx, plan)
        except NotAllowed as error:
            raise MatrixError(400, "M_INVALID_ROOM_STATE", f"this room can't be made: {error.message}")

    def _make(self, tx: Transaction, plan: Plan) -> str:
        room_id = None if plan.version.room_id_is_create_hash else ids.new_room_id(self._server_name)
        view = self._timeline.create_room(tx, plan.version, room_id, plan.creator, plan.create_content)
        self._membership.add_creator(tx, view, plan.creator)
        self._set(tx, view, plan.creator, "m.room.power_levels", "", plan.power_levels)
        if plan.alias is not None:
            self._aliases.add(tx, plan.alias, view.room_id, plan.creator, taken=(400, "M_ROOM_IN_USE"))
            self._set(tx, view, plan.creator, "m.room.canonical_alias", "", {"alias": plan.alias})
        for event in plan.state:
            self._set(tx, view, plan.creator, event.type, event.state_key, event.content)
        for target in plan.invite:
            self._membership.add_invite(tx, view, plan.creator, target, plan.invite_content, plan.names.get(target))
        if plan.published:
            alias_store.set_published(tx, view.room_id, True)
        return view.room_id

    def _set(
        self, tx: Transaction, view: RoomView, creator: str, type: str, state_key: str, content: dict[str, Any]
    ) -> None:
        try:
            roomstate.check(tx, view, type, state_key, content)
            self._timeline.append(tx, view, type=type, sender=creator, state_key=state_key, content=content)
        except MatrixError as error:
            error.message = f"{type}: {error.message}"
            raise


def supported_version(identifier: str, name: str) -> RoomVersion:
    """The room version of an identifier; 400 M_UNSUPPORTED_ROOM_VERSION for one that this server does not make."""
    version = ROOM_VERSIONS.get(identifier)
    if version is None:
        raise MatrixError(
            400, "M_UNSUPPORTED_ROOM_VERSION", f"{name}: this server makes rooms of version {', '.join(ROOM_VERSIONS)}"
        )
    return version


def _create_content(
    version: RoomVersion, creator: str, preset: Preset, invite: list[str], extra: dict[str, Any]
) -> dict[str, Any]:
    """The content of m.room.create: what the client wants, the version, and who else is a creator."""
    content = {key: value for key, value in extra.items() if key != "creator"}
    content["room_version"] = version.identifier
    try:
        check_client_content("m.room.create", "", content)
    except ContentError as error:
        raise bad_json(f"creation_{error}")
    if version.creator_in_content:
        content["creator"] = creator
    if version.additional_creators and preset == "trusted_private_chat":
        creators = dict.fromkeys([*content.get("additional_creators", []), *invite])
        content["additional_creators"] = [user_id for user_id in creators if user_id != creator]
    return content


def _check_number(values: Sequence[object], limit: int, name: str) -> None:
    if len(values) > limit:
        raise invalid_param(f"{name}: at most {limit} at once; invite or set the others afterwards")
