"""To-device messages, device lists and one-time keys against a simple model, over random histories.

People join, leave, log in and out; messages and keys are sent and claimed; syncs and answers get lost, the server restarts
or is killed. No message may be lost or doubled, no change of a device list missed, no one-time key handed out twice.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest_twisted
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import blockingCallFromThread, deferToThread

from heichat_appliance.db.engine import Transaction
from tests.appliance import Actor, Appliance
from tests.encryption_kit import DeviceKit, PersonKit
from tests.http.room_kit import make_room, set_member, user

PEOPLE = ("alice", "bob", "charlotte")
OWNER = "admin"
ROOMS = (0, 1, 2)
CURVE = "signed_curve25519"


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine. The machine runs in a thread of its own; everything of the server in the reactor's."""
    return blockingCallFromThread(reactor, Deferred.fromCoroutine, work)


@dataclass
class Device:
    """A device in the model. `sent` is its queue, `shared` and `changed` what its owner was told up to its token."""

    actor: Actor
    kit: DeviceKit
    sent: list[int] = field(default_factory=list)
    shared: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)
    has_keys: bool = False
    uploads: list[dict[str, Any]] = field(default_factory=list)
    last_upload: dict[str, Any] = field(default_factory=dict)
    fallback: dict[str, Any] | None = None
    fallback_used: bool = False

    @property
    def unclaimed(self) -> int:
        return sum(len(upload) for upload in self.uploads)


@dataclass
class Room:
    """A room in the model; the owner is always in it."""

    room_id: str
    joined: set[str] = field(default_factory=set)
    encrypted: bool = False


class Encryption(RuleBasedStateMachine):
    """The server and the model side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="heichat-model-"))
        self.numbers = itertools.count()
        self.devices: dict[str, Device] = {}
        self.claimed: set[str] = set()
        self.signed: set[str] = set()
        self.server = run(self._start(self.folder / "0"))
        self.rooms = [Room(run(make_room(self.server, OWNER))) for _ in ROOMS]

    @staticmethod
    async def _start(folder: Path) -> Appliance:
        return await Appliance.start(folder, plugins=("demo_directory",))

    def teardown(self) -> None:
        run(self.server.stop())
        shutil.rmtree(self.folder)

    # -- the model -----------------------------------------------------------------------------------------------

    def shared_with(self, user_id: str) -> set[str]:
        """Who shares an encrypted room with a person now."""
        found: set[str] = set()
        for room in self.rooms:
            if room.encrypted and user_id in room.joined:
                found |= room.joined | {user(OWNER)}
        return found - {user_id}

    def note_change(self, user_id: str) -> None:
        for device in self.devices.values():
            device.changed.add(user_id)

    def pick(self, index: int) -> Device:
        return list(self.devices.values())[index % len(self.devices)]

    # -- people and devices --------------------------------------------------------------------------------------

    @initialize(joined=st.sets(st.tuples(st.sampled_from(ROOMS), st.sampled_from(PEOPLE))), encrypted=st.booleans())
    def begin(self, joined: set[tuple[int, str]], encrypted: bool) -> None:
        for number, name in sorted(joined):
            self.join_or_leave(number, name)
        if encrypted:
            self.encrypt(0)
        for name in PEOPLE:
            self.log_in(name, True)

    @precondition(lambda self: len(self.devices) < 7)
    @rule(name=st.sampled_from(PEOPLE), with_keys=st.booleans())
    def log_in(self, name: str, with_keys: bool) -> None:
        device_id = f"D{next(self.numbers)}"
        actor = run(self.server.login(name, device_id=device_id))
        self.devices[device_id] = device = Device(actor, DeviceKit(actor.user_id, device_id))
        if with_keys:
            self.upload_device_keys(device)
        run(actor.sync())
        device.shared, device.changed = self.shared_with(actor.user_id), set()

    def upload_device_keys(self, device: Device) -> None:
        for _ in range(2):  # again, as if the answer was lost
            device.actor.ok(run(device.actor.post("/keys/upload", {"device_keys": device.kit.device_keys()})))
        device.has_keys = True
        self.note_change(device.actor.user_id)

    @precondition(lambda self: len(self.devices) > 2)
    @rule(index=st.integers(0, 100))
    def log_out(self, index: int) -> None:
        device = self.pick(index)
        device.actor.ok(run(device.actor.post("/logout")))
        del self.devices[device.kit.device_id]
        if device.has_keys:
            self.note_change(device.actor.user_id)

    @rule(index=st.integers(0, 100))
    def set_up_cross_signing(self, index: int) -> None:
        actor = self.pick(index).actor
        if actor.user_id not in self.signed:
            actor.ok(run(actor.post("/keys/device_signing/upload", PersonKit(actor.user_id).upload())))
            self.signed.add(actor.user_id)
            self.note_change(actor.user_id)

    # -- rooms ---------------------------------------------------------------------------------------------------

    @rule(number=st.sampled_from(ROOMS), name=st.sampled_from(PEOPLE))
    def join_or_leave(self, number: int, name: str) -> None:
        room, user_id = self.rooms[number], user(name)
        if user_id in room.joined:
            run(set_member(self.server, room.room_id, name, "leave", name))
            room.joined.discard(user_id)
        else:
            run(set_member(self.server, room.room_id, name, "invite", OWNER))
            run(set_member(self.server, room.room_id, name, "join", name))
            room.joined.add(user_id)

    @rule(number=st.sampled_from(ROOMS))
    def encrypt(self, number: int) -> None:
        room, timeline = self.rooms[number], self.server.daemon.timeline

        def job(tx: Transaction) -> None:
            timeline.append(
                tx, timeline.view(tx, room.room_id), type="m.room.encryption", sender=user(OWNER), state_key="",
                content={"algorithm": "m.megolm.v1.aes-sha2"},
            )  # fmt: skip

        async def work() -> None:
            await self.server.daemon.engine.write(job)

        run(work())
        room.encrypted = True

    # -- messages ------------------------------------------------------------------------------------------------

    @rule(sender=st.integers(0, 100), to=st.integers(0, 100))
    def send(self, sender: int, to: int) -> None:
        """A message to one device; the request is repeated, as if its answer was lost."""
        actor, device, n = self.pick(sender).actor, self.pick(to), next(self.numbers)
        messages = {device.actor.user_id: {device.kit.device_id: {"n": n}}, user("david"): {"NONE": {}}}
        for _ in range(2):
            actor.ok(run(actor.put(f"/sendToDevice/m.test/t{n}", {"messages": messages})))
        device.sent.append(n)

    @rule(sender=st.integers(0, 100), to=st.integers(0, 100))
    def send_very_many(self, sender: int, to: int) -> None:
        """More messages than one sync gives."""
        actor, device = self.pick(sender).actor, self.pick(to)
        numbers = [next(self.numbers) for _ in range(130)]

        async def work() -> None:
            send = self.server.daemon.to_device.send
            me, target = (actor.user_id, actor.device_id), (device.actor.user_id, device.kit.device_id)
            sent = [send(*me, "m.test", f"t{n}", {"messages": {target[0]: {target[1]: {"n": n}}}}) for n in numbers]
            await gatherResults(sent)

        run(work())
        device.sent += numbers

    @rule(sender=st.integers(0, 100), name=st.sampled_from(PEOPLE))
    def send_to_all(self, sender: int, name: str) -> None:
        actor, n = self.pick(sender).actor, next(self.numbers)
        actor.ok(run(actor.put(f"/sendToDevice/m.test/t{n}", {"messages": {user(name): {"*": {"n": n}}}})))
        for device in self.devices.values():
            if device.actor.user_id == user(name):
                device.sent.append(n)

    # -- one-time keys -------------------------------------------------------------------------------------------

    @rule(index=st.integers(0, 100), number=st.integers(1, 4))
    def upload_keys(self, index: int, number: int) -> None:
        device = self.pick(index)
        if not device.has_keys:
            self.upload_device_keys(device)
        device.last_upload = device.kit.one_time_keys(number)
        device.uploads.append(dict(device.last_upload))
        answer = device.actor.ok(run(device.actor.post("/keys/upload", {"one_time_keys": device.last_upload})))
        assert answer["one_time_key_counts"] == {CURVE: device.unclaimed}

    @rule(index=st.integers(0, 100))
    def upload_fallback(self, index: int) -> None:
        device = self.pick(index)
        if device.has_keys:
            device.fallback = device.kit.fallback_key(f"F{next(self.numbers)}")
            device.fallback_used = False
            device.actor.ok(run(device.actor.post("/keys/upload", {"fallback_keys": device.fallback})))

    @rule(index=st.integers(0, 100), by=st.integers(0, 100))
    def claim(self, index: int, by: int) -> None:
        device, actor = self.pick(index), self.pick(by).actor
        asked = {"one_time_keys": {device.actor.user_id: {device.kit.device_id: CURVE}}}
        found = actor.ok(run(actor.post("/keys/claim", asked)))["one_time_keys"]
        got = found.get(device.actor.user_id, {}).get(device.kit.device_id)
        if device.uploads:
            ((name, key),) = got.items()
            assert device.uploads[0].pop(name) == key  # of the oldest upload
            if not device.uploads[0]:
                del device.uploads[0]
            assert key["key"] not in self.claimed
            self.claimed.add(key["key"])
        else:
            assert got == device.fallback
            device.fallback_used = device.fallback is not None

    @rule(index=st.integers(0, 100))
    def repeat_last_upload(self, index: int) -> None:
        """The answer of the upload was lost; meanwhile some of its keys may have been claimed."""
        device = self.pick(index)
        answer = device.actor.ok(run(device.actor.post("/keys/upload", {"one_time_keys": device.last_upload})))
        assert answer["one_time_key_counts"] == {CURVE: device.unclaimed}

    # -- sync ----------------------------------------------------------------------------------------------------

    @rule()
    def sync_all(self) -> None:
        for index in range(len(self.devices)):
            self.sync(index, False)

    @rule(index=st.integers(0, 100), lost=st.booleans())
    def sync(self, index: int, lost: bool) -> None:
        """A sync says exactly what is new since the device's token; a lost one may be repeated."""
        device = self.pick(index)
        before, me = device.actor.since, device.actor.user_id
        answer = run(device.actor.sync())
        got = [event["content"]["n"] for event in answer.get("to_device", {}).get("events", [])]
        assert got == device.sent[:100]
        shared = self.shared_with(me)
        changed = {who for who in shared if who in device.changed or who not in device.shared}
        changed |= device.changed & {me}
        lists = answer.get("device_lists", {"changed": [], "left": []})
        assert (set(lists["changed"]), set(lists["left"])) == (changed, device.shared - shared)
        assert answer["device_one_time_keys_count"] == {CURVE: device.unclaimed}
        unused = [CURVE] if device.fallback and not device.fallback_used else []
        assert answer["device_unused_fallback_key_types"] == unused
        found = device.actor.ok(run(device.actor.get("/keys/changes", **{"from": before, "to": answer["next_batch"]})))
        assert (set(found["changed"]), set(found["left"])) == (changed, device.shared - shared)
        if lost:
            device.actor.since = before
        else:
            del device.sent[:100]
            device.shared, device.changed = shared, set()

    # -- the server ----------------------------------------------------------------------------------------------

    @rule(killed=st.booleans())
    def restart(self, killed: bool) -> None:
        """Stop and start; `killed`: go on from the files as they are at this moment."""
        folder = self.folder / str(next(self.numbers))
        old = self.server
        if killed:
            shutil.copytree(self.server_folder, folder, ignore=shutil.ignore_patterns("*.sock"))
            run(old.stop())
        else:
            run(old.stop())
            shutil.copytree(self.server_folder, folder, ignore=shutil.ignore_patterns("*.sock"))
        self.server = run(self._start(folder))
        for device in self.devices.values():
            device.actor.url, device.actor.pool = self.server.url, self.server.pool

    @property
    def server_folder(self) -> Path:
        return self.server.daemon.data_dir.parent


@pytest_twisted.ensureDeferred
async def test_encryption_against_a_model() -> None:
    # More by hand: HYPOTHESIS_EXAMPLES=500 pytest tests/services/test_encryption_model.py
    examples = int(os.environ.get("HYPOTHESIS_EXAMPLES", "20"))
    wanted = settings(
        max_examples=examples, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
    )
    await deferToThread(run_state_machine_as_test, Encryption, settings=wanted)
