"""To-device messages, device lists and one-time keys against a simple model, over random histories.

People are invited, join, leave, log in and out, set up cross-signing, sign and begin anew; rooms become encrypted; messages
and keys are sent and claimed; syncs and answers get lost, the server restarts or is killed. Some devices use /sync, some
sliding sync. No message may be lost or doubled, no change of a device list missed, no one-time key handed out twice.
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
from tests.http.sliding_kit import Sliding

PEOPLE = ("alice", "bob", "charlotte")
OWNER = "admin"
ROOMS = (0, 1, 2)
CURVE = "signed_curve25519"
CROSS_SIGNING, SIGNATURES = "/keys/device_signing/upload", "/keys/signatures/upload"


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine. The machine runs in a thread of its own; everything of the server in the reactor's."""
    return blockingCallFromThread(reactor, Deferred.fromCoroutine, work)


@dataclass
class Device:
    """A device in the model.

    `sliding`: its connection if it uses sliding sync, `received` the token of its messages there. `sent` is its queue,
    `shared` whom its owner was told to share encrypted rooms with up to its token, `changed` who changed since, `signed`
    whose master keys its owner signed since.
    """

    actor: Actor
    kit: DeviceKit
    sliding: Sliding | None = None
    received: str | None = None
    sent: list[int] = field(default_factory=list)
    shared: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)
    signed: set[str] = field(default_factory=set)
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
    """A room in the model; the owner is always in it. Who is `invited` gets keys as well."""

    room_id: str
    joined: set[str] = field(default_factory=set)
    invited: set[str] = field(default_factory=set)
    encrypted: bool = False


@dataclass
class News:
    """What a sync told a device. `token`: that of the sync, `received` that of the messages (of sliding sync)."""

    numbers: list[int]
    changed: set[str]
    left: set[str]
    counts: dict[str, int]
    unused: list[str]
    token: str
    received: str | None = None


class Encryption(RuleBasedStateMachine):
    """The server and the model side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="heichat-model-"))
        self.numbers = itertools.count()
        self.devices: dict[str, Device] = {}
        self.claimed: set[str] = set()
        self.people: dict[str, PersonKit] = {}
        self.signatures: set[tuple[str, str]] = set()
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
                found |= room.joined | room.invited | {user(OWNER)}
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
            self.move(number, name, "join")
        if encrypted:
            self.encrypt(0)
        for number, name in enumerate(PEOPLE):
            self.log_in(name, True, number == 1)

    @precondition(lambda self: len(self.devices) < 7)
    @rule(name=st.sampled_from(PEOPLE), with_keys=st.booleans(), slides=st.booleans())
    def log_in(self, name: str, with_keys: bool, slides: bool) -> None:
        device_id = f"D{next(self.numbers)}"
        actor = run(self.server.login(name, device_id=device_id))
        self.devices[device_id] = device = Device(actor, DeviceKit(actor.user_id, device_id))
        device.sliding = Sliding(actor) if slides else None
        if with_keys:
            self.upload_device_keys(device)
        self.told(device, run(self.news(device)))

    def upload_device_keys(self, device: Device) -> None:
        for _ in range(2):  # again, as if the answer was lost
            device.actor.ok(run(device.actor.post("/keys/upload", {"device_keys": device.kit.device_keys()})))
        device.has_keys = True
        self.note_change(device.actor.user_id)

    @precondition(lambda self: len(self.devices) > 2)
    @rule(index=st.integers(0, 100), look=st.booleans())
    def log_out(self, index: int, look: bool) -> None:
        device = self.pick(index)
        device.actor.ok(run(device.actor.post("/logout")))
        del self.devices[device.kit.device_id]
        if device.has_keys:
            self.note_change(device.actor.user_id)
        if look:
            self.sync_all()

    # -- cross-signing -------------------------------------------------------------------------------------------

    @rule(index=st.integers(0, 100))
    def set_up_cross_signing(self, index: int) -> None:
        """For the first time, or anew with the password."""
        actor, keys = self.pick(index).actor, PersonKit(self.pick(index).actor.user_id)
        answer = run(actor.post(CROSS_SIGNING, keys.upload()))
        if actor.user_id in self.people:
            assert answer.status == 401
            name = actor.user_id[1:].partition(":")[0]
            proof = {
                "type": "m.login.password", "identifier": {"type": "m.id.user", "user": name},
                "password": f"{name}-demo", "session": answer.json["session"],
            }  # fmt: skip
            answer = run(actor.post(CROSS_SIGNING, {**keys.upload(), "auth": proof}))
        actor.ok(answer)
        self.people[actor.user_id] = keys
        self.note_change(actor.user_id)

    @rule(index=st.integers(0, 100))
    def sign_own_device(self, index: int) -> None:
        device = self.pick(index)
        me = device.actor.user_id
        if device.has_keys and me in self.people:
            key = self.people[me].self_signing
            self.sign(device, me, device.kit.device_id, key.sign({**device.kit.device_keys(), "signatures": {}}))
            if self.is_new((key.public, device.kit.device_id)):
                self.note_change(me)

    @rule(index=st.integers(0, 100), name=st.sampled_from(PEOPLE))
    def sign_person(self, index: int, name: str) -> None:
        """Only the devices of who signs may learn of it."""
        device, other = self.pick(index), self.people.get(user(name))
        me = device.actor.user_id
        if me in self.people and other is not None and user(name) != me:
            key = self.people[me].user_signing
            self.sign(device, user(name), other.master.public, key.sign(other.key("master")))
            if self.is_new((key.public, other.master.public)):
                for one in self.devices.values():
                    one.signed |= {user(name)} if one.actor.user_id == me else set()

    def sign(self, device: Device, owner: str, name: str, value: dict[str, Any]) -> None:
        answer = run(device.actor.post(SIGNATURES, {owner: {name: value}}))
        assert device.actor.ok(answer) == {"failures": {}}

    def is_new(self, signature: tuple[str, str]) -> bool:
        """Whether the signature, as (key, what it signs), was not made before."""
        before = len(self.signatures)
        self.signatures.add(signature)
        return len(self.signatures) > before

    # -- rooms ---------------------------------------------------------------------------------------------------

    @rule(
        number=st.sampled_from(ROOMS), name=st.sampled_from(PEOPLE), to=st.sampled_from(["invite", "join", "leave"]),
        look=st.booleans(),
    )  # fmt: skip
    def move(self, number: int, name: str, to: str, look: bool = False) -> None:
        """Nothing if somebody is there already. `look`: everybody syncs, before anything else happens."""
        room, user_id = self.rooms[number], user(name)
        inside = user_id in room.joined
        if to == "leave" and (inside or user_id in room.invited):
            run(set_member(self.server, room.room_id, name, "leave", name))
            room.joined.discard(user_id)
            room.invited.discard(user_id)
        elif to != "leave" and not inside:
            if user_id not in room.invited:
                run(set_member(self.server, room.room_id, name, "invite", OWNER))
                room.invited.add(user_id)
            if to == "join":
                run(set_member(self.server, room.room_id, name, "join", name))
                room.invited.discard(user_id)
                room.joined.add(user_id)
        if look:
            self.sync_all()

    @rule(number=st.sampled_from(ROOMS), look=st.booleans())
    def encrypt(self, number: int, look: bool = False) -> None:
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
        if look:
            self.sync_all()

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

    @rule(index=st.integers(0, 100), number=st.integers(1, 4), claim=st.booleans())
    def upload_keys(self, index: int, number: int, claim: bool) -> None:
        device = self.pick(index)
        if not device.has_keys:
            self.upload_device_keys(device)
        device.last_upload = device.kit.one_time_keys(number)
        device.uploads.append(dict(device.last_upload))
        answer = device.actor.ok(run(device.actor.post("/keys/upload", {"one_time_keys": device.last_upload})))
        assert answer["one_time_key_counts"] == {CURVE: device.unclaimed}
        if claim:
            self.claim(index, 0)

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

    @rule(number=st.sampled_from(ROOMS), name=st.sampled_from(PEOPLE))
    def look_again_without_device_lists(self, number: int, name: str) -> None:
        """Something happens that only a sync without device lists has seen before they are asked for."""
        self.sync_all()
        self.move(number, name, "leave" if user(name) in self.rooms[number].joined else "join")
        self.sync_without_device_lists()
        self.sync_all()

    @rule(index=st.integers(0, 100), lost=st.booleans())
    def sync(self, index: int, lost: bool) -> None:
        """A sync says exactly what is new since the device's token; a lost one may be repeated."""
        device = self.pick(index)
        me = device.actor.user_id
        news = run(self.news(device))
        assert news.numbers == device.sent[:100]
        shared = self.shared_with(me)
        changed = {who for who in shared if who in device.changed or who not in device.shared}
        changed |= (device.changed & {me}) | device.signed
        assert (news.changed, news.left) == (changed, device.shared - shared)
        assert news.counts == {CURVE: device.unclaimed}
        assert news.unused == ([CURVE] if device.fallback and not device.fallback_used else [])
        if device.sliding is None:
            span = {"from": device.actor.since, "to": news.token}
            found = device.actor.ok(run(device.actor.get("/keys/changes", **span)))
            assert (set(found["changed"]), set(found["left"])) == (changed, device.shared - shared)
        if not lost:
            self.told(device, news)

    @rule()
    def sync_without_device_lists(self) -> None:
        """Sliding sync goes on without the extension: what it would have told must come later."""
        for device in self.devices.values():
            if device.sliding is not None:
                run(device.sliding(extensions={"to_device": {"enabled": True, "since": device.received}}))

    async def news(self, device: Device) -> News:
        """What a sync tells a device. It does not move on."""
        if device.sliding is None:
            since = {"since": device.actor.since} if device.actor.since else {}
            answer = device.actor.ok(await device.actor.get("/sync", timeout=0, **since))
            messages, e2ee = answer.get("to_device", {}).get("events", []), answer
            token, received = answer["next_batch"], None
        else:
            to_device = {"enabled": True} | ({"since": device.received} if device.received else {})
            extensions = {"e2ee": {"enabled": True}, "to_device": to_device}
            answer = device.actor.ok(await device.sliding.ask(pos=device.sliding.pos, extensions=extensions))
            found, e2ee = answer["extensions"]["to_device"], answer["extensions"]["e2ee"]
            messages, token, received = found["events"], answer["pos"], found["next_batch"]
        lists = e2ee.get("device_lists", {"changed": [], "left": []})
        return News(
            [event["content"]["n"] for event in messages], set(lists["changed"]), set(lists["left"]),
            e2ee["device_one_time_keys_count"], e2ee["device_unused_fallback_key_types"], token, received,
        )  # fmt: skip

    def told(self, device: Device, news: News) -> None:
        """The device has the answer of its sync."""
        if device.sliding is None:
            device.actor.since = news.token
        else:
            device.sliding.pos, device.received = news.token, news.received
        del device.sent[: len(news.numbers)]
        device.shared, device.changed, device.signed = self.shared_with(device.actor.user_id), set(), set()

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
