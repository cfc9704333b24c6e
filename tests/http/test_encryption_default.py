"""[rooms] encryption_default: what Element is told, and which new rooms begin with encryption."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
import pytest_twisted

from heichat_appliance.http.versions import element_encryption
from tests.appliance import Actor, Appliance
from tests.encryption_kit import DeviceKit
from tests.http.writing_kit import content, user

ALGORITHM = {"algorithm": "m.megolm.v1.aes-sha2"}


@asynccontextmanager
async def service(tmp_path, default: str | None):
    """An appliance with this default; None: nothing is said of it."""
    config = {} if default is None else {"rooms": {"encryption_default": default}}
    server = await Appliance.start(tmp_path, plugins=("demo_directory", "closed_rooms"), config=config)
    try:
        yield server
    finally:
        await server.stop()


async def with_keys(server: Appliance, name: str) -> Actor:
    """Somebody with a device that can encrypt."""
    actor = await server.login(name)
    keys = DeviceKit(actor.user_id, actor.device_id).device_keys()
    actor.ok(await actor.post("/keys/upload", {"device_keys": keys}))
    return actor


def encryption(server: Appliance, room_id: str):
    return content(server, room_id, "m.room.encryption")


@pytest.mark.parametrize(("default", "told"), [(None, False), ("off", False), ("direct", False), ("on", True)])
@pytest_twisted.ensureDeferred
async def test_element_is_told(tmp_path, default, told):
    async with service(tmp_path, default) as server:
        found = (await server.http.get("/.well-known/matrix/client")).json
        # Nothing forces it off: whoever wants encryption can have it.
        assert found["io.element.e2ee"] == {"default": told} == element_encryption(default or "off")
        assert found["org.matrix.msc3814"] is True  # makes Element leave a dehydrated device


@pytest.mark.parametrize(("default", "begins"), [(None, False), ("off", False), ("direct", True), ("on", True)])
@pytest_twisted.ensureDeferred
async def test_direct_chats(tmp_path, default, begins):
    async with service(tmp_path, default) as server:
        alice, bob = await with_keys(server, "alice"), await with_keys(server, "bob")
        chat = {"preset": "trusted_private_chat", "is_direct": True, "invite": [bob.user_id]}
        room_id = await alice.create_room(**chat)
        assert encryption(server, room_id) == (ALGORITHM if begins else None)
        invited = (await bob.sync())["rooms"]["invite"][room_id]["invite_state"]["events"]
        assert [event["content"] for event in invited if event["type"] == "m.room.encryption"] == [ALGORITHM] * begins
        # Without a default it can be switched on, at once or later; with it, it stays on.
        own = {**ALGORITHM, "rotation_period_msgs": 7}
        said = await alice.create_room(**chat, initial_state=[{"type": "m.room.encryption", "content": own}])
        assert encryption(server, said) == own
        await alice.set_state(room_id, "m.room.encryption", own)
        assert encryption(server, room_id) == own


@pytest_twisted.ensureDeferred
async def test_a_chat_with_somebody_who_can_not_encrypt_begins_without(tmp_path):
    async with service(tmp_path, "direct") as server:
        alice, bob = await with_keys(server, "alice"), await with_keys(server, "bob")
        plain = await server.login("charlotte")
        for creator, invited in (
            (alice, [plain.user_id]),
            (alice, [bob.user_id, plain.user_id]),
            (alice, [user("david")]),  # has never logged in
            (plain, [bob.user_id]),
        ):
            assert encryption(server, await creator.create_room(is_direct=True, invite=invited)) is None
        assert encryption(server, await alice.create_room(is_direct=True, invite=[bob.user_id])) == ALGORITHM


@pytest.mark.parametrize("default", ["direct", "on"])
@pytest_twisted.ensureDeferred
async def test_other_rooms_begin_as_the_client_says(tmp_path, default):
    async with service(tmp_path, default) as server:
        alice, bob = await with_keys(server, "alice"), await with_keys(server, "bob")
        for options in ({}, {"preset": "private_chat"}, {"is_direct": False}, {"name": "Seminar"}):
            assert encryption(server, await alice.create_room(invite=[bob.user_id], **options)) is None
        state = [{"type": "m.room.encryption", "content": ALGORITHM}]
        assert encryption(server, await alice.create_room(name="Seminar", initial_state=state)) == ALGORITHM
