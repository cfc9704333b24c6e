"""The authorisation rules for m.room.power_levels (spec rooms/v11 "Authorisation rules" 9; rooms/v12 10)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heichat_appliance import ids
from heichat_appliance.protocol.authbase import AuthError, State, refuse
from heichat_appliance.protocol.pdu import Pdu
from heichat_appliance.protocol.powerlevels import PowerLevels
from heichat_appliance.protocol.roomversions import RoomVersion

#: The levels that stand in the content by themselves.
LEVELS = ("users_default", "events_default", "state_default", "ban", "redact", "kick", "invite")


def check_power_levels(version: RoomVersion, pdu: Pdu, state: State, levels: PowerLevels) -> None:
    """Raise AuthError if the power_levels event is not allowed after `state`, whose levels are `levels`."""
    content = pdu.content
    # rooms/v11 9.1 (v12 10.1)
    for key in LEVELS:
        if key in content and type(content[key]) is not int:
            refuse(version, "9.1", f"content.{key} must be an integer", f"content.{key} muss eine ganze Zahl sein")
    # rooms/v11 9.2 (v12 10.2)
    for key in ("events", "notifications"):
        if key in content and not _is_level_map(content[key]):
            refuse(
                version,
                "9.2",
                f"content.{key} must be an object with integers",
                f"content.{key} muss ein Objekt mit ganzen Zahlen sein",
            )
    # rooms/v11 9.3 (v12 10.3)
    users = content.get("users", {})
    if not _is_level_map(users) or not all(map(ids.is_user_id, users)):
        refuse(
            version,
            "9.3",
            "content.users must be an object of user IDs with integers",
            "content.users muss ein Objekt von Nutzer-IDs mit ganzen Zahlen sein",
        )
    # rooms/v12 10.4
    if levels.privileged and not levels.creators.isdisjoint(users):
        raise AuthError(
            "content.users must not have a creator / wer den Raum erstellt hat, darf nicht in content.users stehen",
            f"rooms/v{version.identifier} 10.4",
        )
    current = state.get(("m.room.power_levels", ""))
    # rooms/v11 9.4 (v12 10.5)
    if current is None:
        return
    own = levels.user(pdu.sender)
    # rooms/v11 9.5 (v12 10.6)
    for key in LEVELS:
        _check_change(version, "9.5", f"content.{key}", current.content.get(key), content.get(key), own)
    # rooms/v11 9.6 and 9.7 (v12 10.7 and 10.8)
    for part in ("events", "notifications"):
        old, new = current.content.get(part, {}), content.get(part, {})
        for key in old.keys() | new.keys():
            _check_entry(version, f"content.{part}.{key}", old.get(key), new.get(key), own)
    _check_users(version, pdu.sender, current.content.get("users", {}), users, own)


def _check_change(version: RoomVersion, rule: str, name: str, old: int | None, new: int | None, own: int) -> None:
    """A level that is added, changed or removed: neither the old nor the new one may be above the sender's own."""
    if old == new:
        return
    # rooms/v11 9.5.1 (v12 10.6.1)
    if old is not None and old > own:
        refuse(version, f"{rule}.1", f"{name} is above your own power level", f"{name} ist höher als Ihre eigene Stufe")
    # rooms/v11 9.5.2 (v12 10.6.2)
    if new is not None and new > own:
        refuse(
            version,
            f"{rule}.2",
            f"{name} would be above your own power level",
            f"{name} wäre höher als Ihre eigene Stufe",
        )


def _check_entry(version: RoomVersion, name: str, old: int | None, new: int | None, own: int) -> None:
    if old == new:
        return
    # rooms/v11 9.6.1 (v12 10.7.1)
    if old is not None and old > own:
        refuse(version, "9.6.1", f"{name} is above your own power level", f"{name} ist höher als Ihre eigene Stufe")
    # rooms/v11 9.7.1 (v12 10.8.1)
    if new is not None and new > own:
        refuse(
            version, "9.7.1", f"{name} would be above your own power level", f"{name} wäre höher als Ihre eigene Stufe"
        )


def _check_users(version: RoomVersion, sender: str, old: Mapping[str, int], new: Mapping[str, int], own: int) -> None:
    for user_id in old.keys() | new.keys():
        before, after = old.get(user_id), new.get(user_id)
        if before == after:
            continue
        name = f"content.users.{user_id}"
        # rooms/v11 9.8.1 (v12 10.9.1)
        if before is not None and user_id != sender and before >= own:
            refuse(
                version,
                "9.8.1",
                f"{name} is not below your own power level",
                f"{name} ist nicht unter Ihrer eigenen Stufe",
            )
        # rooms/v11 9.9.1 (v12 10.10.1)
        if after is not None and after > own:
            refuse(
                version,
                "9.9.1",
                f"{name} would be above your own power level",
                f"{name} wäre höher als Ihre eigene Stufe",
            )


def _is_level_map(value: Any) -> bool:
    return isinstance(value, dict) and all(type(level) is int for level in value.values())
