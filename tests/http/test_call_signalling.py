"""Calls between two people are events in their room: they pass as they are, ring, and mean nothing else to the server.

Source: client-server API, "Voice over IP" (versions 0 and "1") and "Push Notifications" (`.m.rule.call`); MSC3401 and
MSC4143 for what group calls send.
"""

from __future__ import annotations

import pytest
import pytest_twisted

from tests.appliance import Appliance, q
from tests.http.room_kit import QUIET, make_room
from tests.push_kit import Gateway, set_pusher

SDP = {"type": "offer", "sdp": "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\n" + "a=candidate:x\r\n" * 500}
CANDIDATE = {"candidate": "candidate:1 1 udp 2113937151 192.0.2.1 50000 typ host", "sdpMid": "0", "sdpMLineIndex": 0}
STREAM = {"stream": {"purpose": "m.usermedia", "audio_muted": False, "video_muted": True}}

VERSION_0 = [
    ("m.call.invite", {"lifetime": 60000, "offer": SDP}),
    ("m.call.candidates", {"candidates": [CANDIDATE, CANDIDATE]}),
    ("m.call.answer", {"answer": {**SDP, "type": "answer"}}),
    ("m.call.hangup", {}),
]
VERSION_1 = [
    ("m.call.invite", {"lifetime": 90000, "offer": SDP, "invitee": "@bob:chat.test", "sdp_stream_metadata": STREAM}),
    ("m.call.candidates", {"candidates": [CANDIDATE, {"candidate": ""}]}),
    ("m.call.answer", {"answer": {**SDP, "type": "answer"}, "sdp_stream_metadata": STREAM}),
    ("m.call.select_answer", {"selected_party_id": "BOBPHONE"}),
    ("m.call.negotiate", {"description": SDP, "lifetime": 90000}),
    ("m.call.sdp_stream_metadata_changed", {"sdp_stream_metadata": STREAM}),
    ("m.call.replaces", {"replacement_id": "r", "create_call": "c"}),
    ("m.call.reject", {}),
    ("m.call.hangup", {"reason": "user_hangup"}),
]


@pytest_twisted.async_yield_fixture
async def server(tmp_path):
    running = await Appliance.start(
        tmp_path, plugins=("demo_directory",), config={**QUIET, "push": {"allow_private": "yes"}}
    )
    yield running
    await running.stop()


@pytest.mark.parametrize(("version", "events"), [(0, VERSION_0), ("1", VERSION_1)])
@pytest_twisted.ensureDeferred
async def test_a_call_passes_as_it_was_sent(server, version, events):
    alice, bob = await server.login("alice"), await server.login("bob")
    room = await make_room(server, "alice", bob="join")
    await bob.sync()
    sent = []
    for type_, more in events:
        content = {"call_id": "c1", "version": version, **({"party_id": "ALICE"} if version else {}), **more}
        await alice.send(room, content, type=type_)
        sent.append((type_, content))
    seen = (await bob.sync())["rooms"]["join"][room]["timeline"]["events"]
    assert [(event["type"], event["content"]) for event in seen] == sent
    assert all(isinstance(event["unsigned"]["age"], int) for event in seen)  # clients ring only while it is young


@pytest_twisted.ensureDeferred
async def test_an_invitation_rings_and_the_rest_of_a_call_is_silent(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    gateway = Gateway()
    try:
        room = await make_room(server, "alice", bob="join")
        await bob.sync()
        await set_pusher(bob, gateway.url)
        invite = {"call_id": "c1", "version": "1", "party_id": "A", "lifetime": 90000, "offer": SDP}
        event_id = await alice.send(room, invite, type="m.call.invite")
        rung = await gateway.next()
        assert (rung["event_id"], rung["type"]) == (event_id, "m.call.invite")
        assert rung["devices"][0]["tweaks"]["sound"] == "ring"
        for type_ in ("m.call.candidates", "m.call.hangup"):
            await alice.send(room, {"call_id": "c1", "version": "1", "party_id": "A"}, type=type_)
        await alice.send(room, "missed you")
        assert (await gateway.next())["type"] == "m.room.message"
        counts = (await bob.sync())["rooms"]["join"][room]["unread_notifications"]
        assert counts == {"notification_count": 2, "highlight_count": 0}
    finally:
        await gateway.stop()


@pytest_twisted.ensureDeferred
async def test_call_memberships_of_group_calls_pass(server):
    """MatrixRTC: state by device, whose key may be anything that is not another person's; keys go to devices."""
    alice, bob = await server.login("alice"), await server.login("bob")
    override = {"events": {"org.matrix.msc3401.call": 50, "org.matrix.msc3401.call.member": 0}}
    room = await alice.create_room(preset="private_chat", invite=[bob.user_id], power_level_content_override=override)
    await bob.join(room)
    await alice.sync()
    member = {"application": "m.call", "call_id": "", "device_id": bob.device_id, "expires": 14400000,
              "focus_active": {"type": "livekit", "focus_selection": "oldest_membership"}}  # fmt: skip
    keys = {f"_{bob.user_id}_{bob.device_id}_m.call": member, bob.user_id: {"m.calls": []}}
    for state_key, content in keys.items():
        await bob.set_state(room, "org.matrix.msc3401.call.member", content, state_key)
    events = (await alice.sync())["rooms"]["join"][room]["timeline"]["events"]
    assert {event["state_key"]: event["content"] for event in events} == keys
    foreign = f"/rooms/{q(room)}/state/org.matrix.msc3401.call.member/{q(alice.user_id)}"
    assert (await bob.put(foreign, member)).status == 403
    for type_ in ("io.element.call.encryption_keys", "m.call.invite"):
        body = {"messages": {alice.user_id: {alice.device_id: {"keys": [{"index": 0, "key": "k"}]}}}}
        bob.ok(await bob.put(f"/sendToDevice/{type_}/{type_}", body))
    got = (await alice.sync())["to_device"]["events"]
    assert [event["type"] for event in got] == ["io.element.call.encryption_keys", "m.call.invite"]


@pytest_twisted.ensureDeferred
async def test_without_a_word_of_the_client_only_moderators_are_members_of_group_calls(server):
    bob = await server.login("bob")
    room = await make_room(server, "alice", bob="join")
    answer = await bob.put(f"/rooms/{q(room)}/state/org.matrix.msc3401.call.member/{q(bob.user_id)}", {"m.calls": []})
    assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")
