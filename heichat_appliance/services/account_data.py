"""What a person's clients keep on the server for themselves: account data, tags, filters.

Source: client-server API "Client Config", "Room Tagging", "Filtering".
"""

from __future__ import annotations

from typing import Any

import orjson
from twisted.internet.defer import Deferred

from heichat_appliance import ids
from heichat_appliance.db.engine import Engine, Transaction
from heichat_appliance.errors import MatrixError, forbidden, invalid_param, not_found
from heichat_appliance.protocol.filters import parse_filter
from heichat_appliance.services.pushrules import PUSH_RULES, PushRules
from heichat_appliance.store import account_data as store
from heichat_appliance.store import state

TAGS = "m.tag"
FULLY_READ = "m.fully_read"
#: Types that clients read but change in other ways only ("Client Config", "Server Behaviour").
SERVER_MANAGED = (FULLY_READ, PUSH_RULES)

#: The most bytes of one value, and of all values of a person; the most values of a person.
MAX_VALUE = 64 * 1024
MAX_TOTAL = 16 * 2**20
MAX_VALUES = 10_000
#: The most tags of a room.
MAX_TAGS = 100
#: The most filters of a person, and the most bytes of one.
MAX_FILTERS = 1_000
MAX_FILTER = 64 * 1024


class AccountData:
    """Global account data (`room_id` None) and that of rooms."""

    def __init__(self, engine: Engine, push_rules: PushRules) -> None:
        self._engine = engine
        self._push_rules = push_rules

    def get(self, user_id: str, room_id: str | None, type: str) -> bytes:
        """The content as JSON; 404 M_NOT_FOUND if there is none."""
        if type == PUSH_RULES and room_id is None:
            return orjson.dumps(self._push_rules.content(user_id))
        content = store.get(self._engine.read, user_id, _checked_room(room_id), type)
        if content is None:
            raise not_found(f"there is no account data of type {type}")
        return content.encode()

    def put(self, user_id: str, room_id: str | None, type: str, content: dict[str, Any]) -> Deferred[None]:
        """Set a value.

        Raises 405 M_BAD_JSON for types that the server manages, 413 M_TOO_LARGE; fails with 403 M_FORBIDDEN for a room
        that the person never had to do with, and when they have stored too much already.
        """
        _check_id(type, "type")
        if type in SERVER_MANAGED:
            raise MatrixError(405, "M_BAD_JSON", f"{type} can't be set through this API")
        return self._engine.write(self._put, user_id, _checked_room(room_id), type, _encoded(content))

    def _put(self, tx: Transaction, user_id: str, room_id: str, type: str, content: str) -> None:
        if room_id:
            _check_acquainted(tx, user_id, room_id)
        before = store.get(tx.execute, user_id, room_id, type)
        if before is None or len(before) < len(content):
            count, length = store.usage(tx.execute, user_id)
            if (before is None and count >= MAX_VALUES) or length + len(content) - len(before or "") > MAX_TOTAL:
                raise forbidden(
                    "you have stored as much account data as is allowed / Sie haben so viele Kontodaten gespeichert, "
                    "wie erlaubt ist"
                )
        store.put(tx, user_id, room_id, type, content)

    # -- tags ----------------------------------------------------------------------------------------------------

    def tags(self, user_id: str, room_id: str) -> dict[str, Any]:
        """The tags that the person gave to a room."""
        return _tags(store.get(self._engine.read, user_id, _checked_room(room_id), TAGS))

    def put_tag(self, user_id: str, room_id: str, tag: str, value: dict[str, Any]) -> Deferred[None]:
        """Give a room a tag. Raises 400 M_INVALID_PARAM for a bad name or order, fails as `put` does."""
        _check_id(tag, "tag")
        order = value.get("order")
        if order is not None and (isinstance(order, bool) or not isinstance(order, int | float) or not 0 <= order <= 1):
            raise invalid_param("order must be a number from 0 to 1")
        return self._engine.write(self._change_tags, user_id, _checked_room(room_id), tag, value)

    def delete_tag(self, user_id: str, room_id: str, tag: str) -> Deferred[None]:
        """Take a tag off a room; nothing happens if it has none of this name."""
        return self._engine.write(self._change_tags, user_id, _checked_room(room_id), tag, None)

    def _change_tags(self, tx: Transaction, user_id: str, room_id: str, tag: str, value: dict[str, Any] | None) -> None:
        before = _tags(store.get(tx.execute, user_id, room_id, TAGS))
        tags = {name: order for name, order in before.items() if name != tag}
        if value is not None:
            tags[tag] = value
        if len(tags) > max(MAX_TAGS, len(before)):
            raise forbidden(f"a room can't have more than {MAX_TAGS} tags")
        if tags != before:
            self._put(tx, user_id, room_id, TAGS, _encoded({"tags": tags}))


class Filters:
    """Filters that clients store to name them in /sync."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def get(self, user_id: str, filter_id: str) -> bytes:
        """A stored filter as JSON, as it was sent; 404 M_NOT_FOUND if there is none."""
        number = int(filter_id) if filter_id.isascii() and filter_id.isdigit() and len(filter_id) < 10 else 0
        found = store.get_filter(self._engine.read, user_id, number)
        if found is None:
            raise not_found("there is no such filter")
        return found.encode()

    def put(self, user_id: str, filter: dict[str, Any]) -> Deferred[str]:
        """Store a filter; its ID (the same for the same filter). Raises 400 M_BAD_JSON, 413 M_TOO_LARGE."""
        try:
            parse_filter(filter)
        except ValueError as error:
            raise MatrixError(400, "M_BAD_JSON", str(error))
        text = orjson.dumps(filter, option=orjson.OPT_SORT_KEYS)
        if len(text) > MAX_FILTER:
            raise MatrixError(413, "M_TOO_LARGE", f"a filter must not have more than {MAX_FILTER} bytes")
        return self._engine.write(self._put, user_id, text.decode())

    @staticmethod
    def _put(tx: Transaction, user_id: str, filter: str) -> str:
        filter_id = store.find_filter(tx.execute, user_id, filter)
        if filter_id is None:
            filter_id = store.last_filter_id(tx.execute, user_id) + 1
            if filter_id > MAX_FILTERS:
                raise forbidden(f"you have stored {MAX_FILTERS} filters already; put filters into the request instead")
            store.insert_filter(tx, user_id, filter_id, filter)
        return str(filter_id)


def _encoded(content: dict[str, Any]) -> str:
    text = orjson.dumps(content)
    if len(text) > MAX_VALUE:
        raise MatrixError(413, "M_TOO_LARGE", f"a value must not have more than {MAX_VALUE} bytes")
    return text.decode()


def _check_id(value: str, what: str) -> None:
    try:
        ids.check_length(value, what)
    except ValueError as error:
        raise invalid_param(str(error))


def _checked_room(room_id: str | None) -> str:
    """The room as the tables have it: '' for none."""
    if room_id is None:
        return ""
    try:
        return ids.check_room_id(room_id)
    except ValueError as error:
        raise invalid_param(f"roomId: {error}")


def _check_acquainted(tx: Transaction, user_id: str, room_id: str) -> None:
    """Whoever was ever invited or in a room may keep things about it; strangers and unknown rooms look the same."""
    if state.membership_now(tx.execute, user_id, room_id) is None:
        raise forbidden("you are not in this room / Sie sind nicht in diesem Raum")


def _tags(content: str | None) -> dict[str, Any]:
    """The tags in the content of m.tag, which clients may also set as any account data."""
    tags = orjson.loads(content).get("tags") if content else None
    return tags if isinstance(tags, dict) else {}
