"""The extensions of sliding sync (MSC4186): to_device, e2ee, account_data, receipts, typing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from heichat_appliance.db.engine import Engine
from heichat_appliance.notify import Notifier
from heichat_appliance.services import device_lists
from heichat_appliance.services.ephemeral import Typing
from heichat_appliance.services.gap import Gap
from heichat_appliance.services.render import Viewer
from heichat_appliance.services.room_parts import by_room, event_json, receipt_content, visible_receipts
from heichat_appliance.services.sliding_lists import Ask, Windows
from heichat_appliance.services.sliding_memory import DEVICE_LISTS, GLOBAL, LIVE, NEVER, NOTHING, Memory
from heichat_appliance.services.sliding_request import Extension, Extensions, SlidingRequest
from heichat_appliance.services.sync_devices import DeviceNews
from heichat_appliance.services.tokens import Token, parse
from heichat_appliance.store import account_data, receipts
from heichat_appliance.store.account_data import AccountData

MAX_MESSAGES = 100

NONE = Extensions()


class Answer:
    """An answer in the making: what the client will know of rooms (and GLOBAL, DEVICE_LISTS) as far as that changes, the
    events of timelines that are told whole, and whether there is anything that is worth an answer."""

    def __init__(self, rooms: Mapping[str, Memory]) -> None:
        self._rooms = rooms
        self.changes: dict[str, Memory] = {}
        self.whole: dict[str, list[str]] = {}
        self.has_news = False

    def memory(self, room_id: str) -> Memory:
        """What the client knows of a room, this answer included."""
        return self.changes.get(room_id) or self._rooms.get(room_id, NOTHING)

    def live(self, name: str) -> set[str]:
        """The rooms of which the client knows everything of a kind, a field of Memory."""
        return {room_id for room_id, memory in self._rooms.items() if getattr(memory, name) == LIVE}

    def remember(self, room_id: str, memory: Memory) -> None:
        """From this answer on the client knows this."""
        if memory == self._rooms.get(room_id, NOTHING):
            self.changes.pop(room_id, None)
        else:
            self.changes[room_id] = memory


class SlidingExtensions:
    """Makes the `extensions` of an answer."""

    def __init__(
        self, engine: Engine, notifier: Notifier, typing: Typing, push_rules: Callable[[str], dict[str, Any]]
    ) -> None:
        """`push_rules(user_id)`: the content of m.push_rules."""
        self._engine = engine
        self._notifier = notifier
        self._typing = typing
        self._push_rules = push_rules
        self._devices = DeviceNews(engine, notifier)

    def acknowledged(self, viewer: Viewer, request: SlidingRequest) -> int | None:
        """The position up to which the device has its messages and they are still stored; None if none are.

        Raises 400 M_INVALID_PARAM for a token of another form.
        """
        since = self._to_device_since(request)
        return since if since >= 0 and self._devices.must_delete(viewer, since) else None

    def all(self, ask: Ask, gap: Gap | None, windows: Windows, answer: Answer) -> bytes:
        """The JSON of `extensions`."""
        wanted = ask.request.extensions or NONE
        parts = []
        if wanted.to_device.enabled:
            parts.append(b'"to_device":' + self._to_device(ask, answer))
        if wanted.e2ee.enabled:
            parts.append(b'"e2ee":' + self._e2ee(ask, gap, answer))
        elif gap is not None and gap.may_change_device_lists:
            self._missed(ask, DEVICE_LISTS, answer, "data")
        parts += self._account_data(ask, wanted.account_data, windows, answer)
        parts += self._receipts(ask, gap, wanted.receipts, windows, answer)
        if wanted.typing.enabled:
            parts.append(b'"typing":' + self._typing_now(ask, wanted.typing, windows, answer))
        return b"{%b}" % b",".join(parts)

    # -- of the device -------------------------------------------------------------------------------------------

    def _to_device_since(self, request: SlidingRequest) -> int:
        """Up to where the device has its messages; -1 if it does not say so, or means those of another epoch."""
        wanted = (request.extensions or NONE).to_device
        if not wanted.enabled or not wanted.since:
            return -1
        token = parse(wanted.since, "extensions.to_device.since")
        valid = token.epoch == self._engine.epoch and token.position <= self._engine.position
        return token.position if valid else -1

    def _to_device(self, ask: Ask, answer: Answer) -> bytes:
        asked = (ask.request.extensions or NONE).to_device.limit
        limit = MAX_MESSAGES if asked is None else max(1, min(asked, MAX_MESSAGES))
        messages, given = self._devices.messages(ask.viewer, self._to_device_since(ask.request), ask.upto, limit)
        answer.has_news |= bool(messages)
        token = Token(ask.upto if given is None else given, self._engine.epoch)
        return orjson.dumps({"next_batch": str(token), "events": messages})

    def _e2ee(self, ask: Ask, gap: Gap | None, answer: Answer) -> bytes:
        body = b"{" + self._devices.counts(ask.viewer)
        memory = answer.memory(DEVICE_LISTS)
        missed = memory.data not in (LIVE, NEVER)
        answer.remember(DEVICE_LISTS, memory._replace(data=LIVE))
        if gap is not None and (missed or gap.may_change_device_lists):
            after = memory.data if missed else gap.after
            changed, left = device_lists.changed_and_left(self._engine.read, ask.viewer.user_id, after, gap.upto)
            if changed or left:
                answer.has_news = True
                body += b',"device_lists":' + orjson.dumps({"changed": sorted(changed), "left": sorted(left)})
        return body + b"}"

    # -- of rooms ------------------------------------------------------------------------------------------------

    @staticmethod
    def _rooms(ask: Ask, wanted: Extension, windows: Windows) -> set[str]:
        """The joined rooms that an extension is about: those of the windows and subscriptions that it names."""
        lists = windows.lists if wanted.lists is None or "*" in wanted.lists else wanted.lists
        if wanted.rooms is None or "*" in wanted.rooms:
            chosen = windows.subscribed
        else:
            chosen = windows.subscribed.intersection(wanted.rooms)
        return (windows.in_lists(lists) | chosen) & ask.standing.joined.keys()

    def _account_data(self, ask: Ask, wanted: Extension, windows: Windows, answer: Answer) -> list[bytes]:
        since = ask.since
        changed: dict[str, list[AccountData]] = {}
        if since is not None and self._notifier.touched(ask.viewer.user_id) > since:
            changed = by_room(account_data.changed(self._engine.read, ask.viewer.user_id, since, ask.upto))
        rooms = self._rooms(ask, wanted, windows) if wanted.enabled else set()
        # Who is not told now must be told later.
        for room_id in changed.keys() - rooms - {GLOBAL}:
            self._missed(ask, room_id, answer, "data")
        if not wanted.enabled:
            if since is not None and self._notifier.touched(ask.viewer.user_id) > since:
                self._missed(ask, GLOBAL, answer, "data")
            return []
        body = b'"account_data":{"global":[%b]' % b",".join(self._global_data(ask, changed.get(GLOBAL, []), answer))
        found = []
        for room_id in rooms:
            memory = answer.memory(room_id)
            if memory.data == LIVE:
                rows = changed.get(room_id, [])
            else:
                stored = account_data.in_room(self._engine.read, ask.viewer.user_id, room_id)
                rows = [row for row in stored if row.pos > memory.data]
                answer.remember(room_id, memory._replace(data=LIVE))
            if rows:
                events = b",".join(event_json(row) for row in rows)
                found.append(b"%b:[%b]" % (orjson.dumps(room_id), events))
        answer.has_news |= bool(found)
        return [b'%b,"rooms":{%b}}' % (body, b",".join(found))]

    def _global_data(self, ask: Ask, changed: Iterable[AccountData], answer: Answer) -> list[bytes]:
        user_id, memory = ask.viewer.user_id, answer.memory(GLOBAL)
        after = memory.data if ask.since is None else min(memory.data, ask.since)
        if memory.data != LIVE:
            stored = account_data.in_room(self._engine.read, user_id, GLOBAL)
            changed = [row for row in stored if row.pos > after]
            answer.remember(GLOBAL, memory._replace(data=LIVE))
        elif self._notifier.touched(user_id) <= after:
            return []
        result = [event_json(row) for row in changed]
        rules = account_data.push_rule_changes(self._engine.read, user_id)
        if after == NEVER or (rules is not None and rules[1] > after):
            result.append(b'{"type":"m.push_rules","content":%b}' % orjson.dumps(self._push_rules(user_id)))
        answer.has_news |= bool(result)
        return result

    def _receipts(self, ask: Ask, gap: Gap | None, wanted: Extension, windows: Windows, answer: Answer) -> list[bytes]:
        rooms = self._rooms(ask, wanted, windows) if wanted.enabled else set()
        touched = gap.receipt_rooms() if gap is not None else set()
        for room_id in (answer.live("receipts") if touched is None else touched) - rooms:
            self._missed(ask, room_id, answer, "receipts")
        if not wanted.enabled:
            return []
        found = []
        for room_id in rooms:
            content = self._receipts_of(ask, gap, room_id, answer)
            if content:
                found.append(b'%b:{"type":"m.receipt","content":%b}' % (orjson.dumps(room_id), orjson.dumps(content)))
        answer.has_news |= bool(found)
        return [b'"receipts":{"rooms":{%b}}' % b",".join(found)]

    def _receipts_of(self, ask: Ask, gap: Gap | None, room_id: str, answer: Answer) -> dict[str, Any]:
        read, me, memory = self._engine.read, ask.viewer.user_id, answer.memory(room_id)
        changed = []
        if memory.receipts == LIVE:
            changed += gap.receipts(room_id) if gap is not None else []
        elif memory.receipts != NEVER:
            changed += receipts.changed(read, room_id, memory.receipts, ask.upto)
        whole = answer.whole.get(room_id)
        if whole is not None:
            changed += receipts.of_events(read, room_id, me, whole, ask.upto)
        elif memory.receipts == NEVER:  # the timeline came in earlier answers
            changed += receipts.in_room(read, room_id, ask.upto)
        if memory.receipts != LIVE:
            answer.remember(room_id, memory._replace(receipts=LIVE))
        return receipt_content(visible_receipts(changed, me, ask.ignored)) if changed else {}

    @staticmethod
    def _missed(ask: Ask, room_id: str, answer: Answer, name: str) -> None:
        """Something changed that this answer does not tell: the client knows it only up to `since`."""
        memory = answer.memory(room_id)
        if getattr(memory, name) == LIVE and ask.since is not None:
            known: dict[str, Any] = {name: ask.since}
            answer.remember(room_id, memory._replace(**known))

    def _typing_now(self, ask: Ask, wanted: Extension, windows: Windows, answer: Answer) -> bytes:
        rooms = self._rooms(ask, wanted, windows)
        changed = set() if ask.since is None else rooms.intersection(self._typing.changed_since(ask.since))
        new = {room_id for room_id in answer.whole if room_id in rooms} - changed
        found = {}
        for room_id in changed | new:
            people = [one for one in self._typing.in_room(room_id)[1] if one not in ask.ignored]
            if people or room_id in changed:
                found[room_id] = {"type": "m.typing", "content": {"user_ids": people}}
        answer.has_news |= bool(found)
        return b'{"rooms":%b}' % orjson.dumps(found)
