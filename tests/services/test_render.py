"""Client JSON that is spliced from stored bytes is, byte for byte, what reading the event and writing it again gives."""

from __future__ import annotations

import orjson
import pytest
import pytest_twisted

from heichat_appliance.protocol.roomversions import ROOM_VERSIONS
from heichat_appliance.services.render import Renderer, Viewer
from heichat_appliance.services.rooms import NewRoom
from heichat_appliance.services.visibility import Reach
from heichat_appliance.store import events
from heichat_appliance.store.state import Membership
from tests.appliance import Appliance
from tests.http.writing_kit import user

ALICE, BOB = user("alice"), user("bob")
NOW = 2_000_000_000_000
FAST = {"storage": {"durability": "normal"}}

#: What looks like the seams of a PDU, at every depth, and what JSON escapes.
CONTENTS = [
    {},
    {"depth": 7, "hashes": {"sha256": "x"}, "origin_server_ts": 1},
    {"a": {"depth": 1}, "content": {"content": {"b": 1, "depth": 2}}, "z": {"depth": 3, "hashes": {}}},
    {"auth_events": ["$x"], "body": '],"content":{"x":1},"depth":5,"hashes":{"sha256":"y"}', "depth": []},
    {"body": 'Grüße 😀 "quoted" \\ back\\slash \n\t\b\f\r \u0001 \u007f \u2028 </script> %d %b %%', "ключ": "%s"},
    {"format": "%d", "%b": ["%", None, True, -1, 2**53 - 1, -(2**53) + 1], "empty": {"": ""}},
    {"unsigned": {"age": 1, "transaction_id": "mine"}, "redacts": "$not-a-redaction", "m.relations": {}},
]
#: IDs of people and types of events may hold everything that a string may.
ODD_TYPE = 'org.example."odd"\\type %d ü\n'


def slowly(read, event, viewer, membership, relations):
    """The client event by way of objects (client-server API "Room event format")."""
    raw = orjson.loads(event.pdu)
    shown = {"content": raw["content"], "event_id": event.event_id, "origin_server_ts": event.ts}
    shown |= {"sender": event.sender, "type": event.type}
    if event.state_key is not None:
        shown["state_key"] = event.state_key
    target = raw.get("redacts") or raw["content"].get("redacts")
    if event.type == "m.room.redaction" and target:
        shown["redacts"] = target
        shown["content"] = {**raw["content"], "redacts": target}
    shown["room_id"] = event.room_id
    unsigned = shown["unsigned"] = {"age": NOW - event.ts}
    if event.redacted_by:
        because = events.by_id(read, event.redacted_by)
        unsigned["redacted_because"] = orjson.loads(slowly(read, because, None, None, None))
        unsigned["redacted_because"]["unsigned"]["age"] = 0
    before = events.by_id(read, event.replaces) if event.replaces else None
    if before:
        unsigned["replaces_state"] = event.replaces
    if membership:
        unsigned["membership"] = membership
    if before:
        unsigned["prev_content"] = orjson.loads(before.pdu)["content"]
        unsigned["prev_sender"] = before.sender
    if relations:
        unsigned["m.relations"] = orjson.loads(relations)
    if viewer == Viewer(event.sender, event.device_id) and event.txn_id is not None:
        unsigned["transaction_id"] = event.txn_id
    return orjson.dumps(shown)


async def fill(daemon, version: str) -> str:
    """A room with odd events, some of them redacted."""
    room = await daemon.rooms.create(ALICE, NewRoom(room_version=version, preset="public_chat"))
    await daemon.membership.join(BOB, room)
    sent = []
    for number, content in enumerate(CONTENTS):
        for who, type in ((ALICE, "m.room.message"), (BOB, ODD_TYPE)):
            txn = f'{number} "ü" %d'
            sent.append(await daemon.sender.message(who, who[1:4], room, type, txn, content))
        for key in ("", 'key "with" \\ %d ,"depth":3'):
            await daemon.sender.state(ALICE, room, "org.example.state", key, content)
    read = daemon.engine.read
    state = [event.event_id for event in events.in_room(read, room, 0, 2**62, 500) if event.type == "org.example.state"]
    for number, event_id in enumerate((sent[2], sent[5], state[3], sent[-1])):
        reason = {"reason": 'why, "depth":1 %d', "depth": {"depth": number}}
        await daemon.sender.redact(ALICE, "ali", room, event_id, f"r{number}", reason)
    return room


@pytest.mark.parametrize("version", ROOM_VERSIONS)
@pytest_twisted.ensureDeferred
async def test_spliced_events_are_those_made_of_objects(tmp_path, version):
    server = await Appliance.start(tmp_path, plugins=("demo_directory",), config=FAST)
    for name in ("alice", "bob"):
        await server.login(name)
    read, room = server.daemon.engine.read, await fill(server.daemon, version)
    found = events.in_room(read, room, 0, 2**62, 500)
    assert sum(event.redacted_by is not None for event in found) == 4
    assert sum(event.replaces is not None for event in found) >= 2 * (len(CONTENTS) - 1)
    nested = orjson.dumps({"m.thread": {"latest_event": {"unsigned": {"m.relations": {"m.replace": {"%d": 'ü"'}}}}}})
    bundles = {event.event_id: nested for event in found[::3]}
    renderer = Renderer(server.daemon.engine)
    for viewer in (Viewer(ALICE, "ali"), Viewer(ALICE, "bob"), Viewer(BOB, "bob"), Viewer(BOB, "ali")):
        memberships = [("invite", "join", "leave")[event.pos % 3] for event in found]
        expected = [
            slowly(read, event, viewer, membership, bundles.get(event.event_id))
            for event, membership in zip(found, memberships, strict=True)
        ]
        assert renderer.render_all(found, NOW, viewer, memberships, bundles) == expected
        assert [
            renderer.render(event, NOW, viewer=viewer, membership=membership, relations=bundles.get(event.event_id))
            for event, membership in zip(found, memberships, strict=True)
        ] == expected
    own = [b'"transaction_id"' in one for one in renderer.render_all(found, NOW, Viewer(BOB, "bob"), memberships, {})]
    shown = [event.event_id for event, is_own in zip(found, own, strict=True) if is_own]
    assert len(shown) >= len(CONTENTS)
    await server.stop()


@pytest.mark.parametrize("positions", [[], [3], [9, 5, 4], [12, 11, 10, 9], [25, 4, 2, 10], [31, 40]])
def test_memberships_at_several_positions_are_those_at_each(positions):
    spans = [(4, 10, "invite"), (10, 20, "join"), (20, 2**63 - 1, "ban")]
    intervals = [Membership(BOB, "!room", start, end, one, ALICE) for start, end, one in spans]
    reach = Reach(BOB, "!room", 0, [], intervals)
    assert list(reach.memberships_at(positions)) == [reach.membership_at(position) for position in positions]
