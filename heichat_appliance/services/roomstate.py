"""What state clients may set, beyond the authorisation rules: by createRoom and by `PUT .../state/...`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heichat_appliance.db.engine import Transaction
from heichat_appliance.errors import MatrixError, bad_json, forbidden, invalid_param
from heichat_appliance.protocol.content import ContentError, check_client_content
from heichat_appliance.services.timeline import RoomView
from heichat_appliance.store import aliases


def check(tx: Transaction, view: RoomView, type: str, state_key: str, content: Mapping[str, Any]) -> None:
    """Raise 400 M_BAD_JSON (M_INVALID_PARAM for aliases), 400 M_BAD_ALIAS, or 403 M_FORBIDDEN if it may not be set."""
    try:
        check_client_content(type, state_key, content)
    except ContentError as error:
        raise (invalid_param if type == "m.room.canonical_alias" else bad_json)(str(error))
    if type == "m.room.canonical_alias":
        _check_aliases(tx, view, content)
    elif type == "m.room.encryption":
        _check_encryption(view, content)


def _check_aliases(tx: Transaction, view: RoomView, content: Mapping[str, Any]) -> None:
    """New aliases must lead to this room (client-server API "PUT .../state/..."); what is there already is let be."""
    current = view.get(("m.room.canonical_alias", ""))
    known = _aliases(current.content) if current is not None else set()
    for alias in _aliases(content) - known:
        found = aliases.get(tx.execute, alias)
        if found is None or found.room_id != view.room_id:
            raise MatrixError(400, "M_BAD_ALIAS", f"content: the alias {alias} does not point to this room")


def _aliases(content: Mapping[str, Any]) -> set[str]:
    alternatives = content.get("alt_aliases")
    found = [content.get("alias"), *(alternatives if isinstance(alternatives, list) else [])]
    return {alias for alias in found if isinstance(alias, str) and alias}


def _check_encryption(view: RoomView, content: Mapping[str, Any]) -> None:
    """Encryption stays on once it is on, with the algorithm that clients in the room have agreed on."""
    current = view.get(("m.room.encryption", ""))
    algorithm = current.content.get("algorithm") if current is not None else None
    if algorithm is not None and content["algorithm"] != algorithm:
        raise forbidden(
            "content.algorithm: encryption can't be changed once it is on / "
            "Eine eingeschaltete Verschlüsselung kann nicht geändert werden"
        )
