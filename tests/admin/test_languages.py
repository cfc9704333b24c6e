"""Every command speaks both languages: what it says differs between them, and German has no English left in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.admin.kit import Admin
from tests.admin.test_people_rooms import upload
from tests.appliance import q
from tests.daemon import Daemon

#: English words that would have been forgotten; those of Matrix, of units and of commands are the same in both languages.
ENGLISH = re.compile(r"\b(the|and|with|people|rooms?|files|devices?|was|were|is|last seen|found|sent|locked)\b")


@pytest.fixture(scope="module")
def things(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Something of each kind to look at."""
    alice = daemon.login("alice")
    bob = daemon.login("bob")
    room_id = alice.create_room(name="Büro", invite=[bob.user_id])
    bob.ok("POST", f"/join/{q(room_id)}")
    event_id = bob.send(room_id, "x")
    alice.ok("POST", f"/rooms/{q(room_id)}/report/{q(event_id)}", {"reason": "grob"})
    folder = tmp_path_factory.mktemp("backups")
    return {"ROOM": room_id, "EVENT": event_id, "FILE": upload(alice, b"x"), "BACKUPS": str(folder)}


CALLS = [
    "version",
    "check-config",
    "verify",
    "verify --backup BACKUPS",
    "reports",
    "doctor --only configuration permissions daemon limits disk clock database commits directory tls public calls backup",
    "users list",
    "users list --locked",
    "users show alice",
    "users show nobody",
    "users suspend bob",
    "users unsuspend bob",
    "users lock bob",
    "users unlock bob",
    "users log-out charlotte",
    "rooms list",
    "rooms show ROOM",
    "rooms show !none:chat.test",
    "rooms freeze ROOM",
    "rooms unfreeze ROOM",
    "rooms promote ROOM bob",
    "rooms redact ROOM EVENT",
    "media list",
    "media remove mxc://other.test/x",
    "notice send --dry-run --all x",
    "notice send --to alice LANGUAGE",
    "notice send --to nobody x",
    "notice send --all",
    "backup BACKUPS",
    "restore BACKUPS",
]


@pytest.mark.parametrize("call", CALLS)
def test_it_speaks_both(admin: Admin, daemon: Daemon, things: dict[str, str], call: str) -> None:
    daemon.login("charlotte")
    said: dict[str, Any] = {}
    for language, locale in (("en", "en_GB.UTF-8"), ("de", "de_DE.UTF-8")):
        admin.language(locale)
        words = [things.get(word, word.replace("LANGUAGE", language)) for word in call.split()]
        if call == "backup BACKUPS":
            words[1] = str(Path(words[1]) / language)
        said[language] = admin(*words)
    assert said["en"].status == said["de"].status
    texts = {language: one.out + one.err for language, one in said.items()}
    assert texts["en"] != texts["de"] and texts["en"].strip(), texts
    left = [line for line in texts["de"].splitlines() if ENGLISH.search(line) and " / " not in line]
    assert left == []
