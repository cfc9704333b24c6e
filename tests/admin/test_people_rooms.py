"""heichat-admin users, rooms, media and notice, and what people see of it."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from tests.admin.kit import Admin
from tests.appliance import q
from tests.daemon import Client, Daemon, Person, wait_until


def upload(person: Person, content: bytes, name: str = "a.txt") -> str:
    """Upload a file; its mxc URI."""
    import json

    url = f"{person.url}/_matrix/media/v3/upload?filename={name}"
    headers = {"Authorization": f"Bearer {person.token}", "Content-Type": "text/plain"}
    with urlopen(Request(url, content, headers), timeout=20) as answer:
        return json.loads(answer.read())["content_uri"]


def shared_room(daemon: Daemon, *names: str, **body: Any) -> tuple[str, list[Person]]:
    """A room that the first person made and the others joined."""
    people = [daemon.login(name) for name in names]
    room_id = people[0].create_room(invite=[person.user_id for person in people[1:]], **body)
    for person in people[1:]:
        person.ok("POST", f"/join/{q(room_id)}")
    return room_id, people


def texts(person: Person, room_id: str) -> list[str | None]:
    """The texts of a room's messages, the newest first; None where one was redacted."""
    chunk = person.ok("GET", f"/rooms/{q(room_id)}/messages", dir="b", limit="100")["chunk"]
    return [event["content"].get("body") for event in chunk if event["type"] == "m.room.message"]


# -- users -------------------------------------------------------------------------------------------------------


def test_users_are_listed_and_found(admin: Admin, daemon: Daemon) -> None:
    daemon.login("alice")
    daemon.login("bob")
    rows = admin("users", "list", "--json").json
    assert {"@alice:chat.test", "@bob:chat.test"} <= {row["user_id"] for row in rows}
    for term in ("ALICE", "müller", "alice.mueller@"):
        assert [row["uni_id"] for row in admin("users", "list", term, "--json").json] == ["alice"], term
    assert admin("users", "list", "--limit", "1", "--json").json == rows[:1]
    out = admin.ok("users", "list", "alice").splitlines()
    assert out[0].split()[0] == "Uni-ID" and "Alice Müller" in out[1] and out[-1] == "1 person."
    admin.german()
    assert admin.ok("users", "list", "alice").splitlines()[-1] == "1 Person."


def test_show_says_everything_of_a_person(admin: Admin, daemon: Daemon) -> None:
    alice = daemon.login("alice", initial_device_display_name="Phone\x1b[31m\u202e")
    room_id = alice.create_room(name="Seminar")
    upload(alice, b"x" * 5000)
    said = admin.ok("users", "show", "alice")
    for part in (alice.user_id, "alice.mueller@uni.example", alice.login["device_id"], "127.0.0.1", room_id, "Seminar"):
        assert part in said, part
    assert "\x1b" not in said and "\u202e" not in said and "Phone\\u001b" in said
    admin.german()
    assert "zuletzt gesehen" in admin.ok("users", "show", "@alice:chat.test")
    said = admin("users", "show", "nobody")
    assert said.status == 1 and "hat hier kein Konto" in said.err


def test_the_terms_that_somebody_agreed_to(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    import re
    from urllib.parse import parse_qs, urlencode, urlsplit

    config = {
        "plugins": {"enabled": "demo_directory, terms_consent, closed_rooms"},
        "terms_consent": {"version": "2026-10"},
    }
    with Daemon(tmp_path, config) as daemon:
        alice = daemon.login("alice")
        refused = alice.request("POST", "/createRoom", {})
        link = refused.json["consent_uri"]
        admin = Admin(daemon, monkeypatch, capsys)
        assert admin("users", "list", "--json").json[0]["consent"] is None
        form = {name: values[0] for name, values in parse_qs(urlsplit(link).query).items()}
        urlopen(Request(re.sub(r"\?.*", "", link), urlencode(form).encode()), timeout=20).close()
        assert admin("users", "list", "--json").json[0]["consent"] == "2026-10"
        assert "2026-10" in admin.ok("users", "show", "alice")


def test_lock_and_unlock(admin: Admin, daemon: Daemon) -> None:
    bob = daemon.login("bob")
    assert admin.ok("users", "lock", "BOB") == "@bob:chat.test is locked.\n"
    answer = bob.request("GET", "/joined_rooms")
    assert (answer.status, answer.json["errcode"]) == (401, "M_USER_LOCKED")
    assert [row["uni_id"] for row in admin("users", "list", "--locked", "--json").json] == ["bob"]
    assert "locked" in admin.ok("users", "list", "bob")
    admin.ok("users", "unlock", "bob")
    assert bob.request("GET", "/joined_rooms").status == 200
    assert admin("users", "list", "--locked", "--json").json == []


def test_administrators_can_be_locked_too(admin: Admin, daemon: Daemon) -> None:
    boss = daemon.login("admin")
    admin.ok("users", "lock", "admin")
    assert boss.request("GET", "/joined_rooms").status == 401
    admin.ok("users", "unlock", "admin")


def test_suspend_and_unsuspend(admin: Admin, daemon: Daemon) -> None:
    bob = daemon.login("bob")
    room_id = bob.create_room()
    admin.german()
    assert admin.ok("users", "suspend", "bob") == "@bob:chat.test ist stillgelegt.\n"
    answer = bob.request("POST", "/createRoom", {})
    assert (answer.status, answer.json["errcode"]) == (403, "M_USER_SUSPENDED")
    assert bob.ok("GET", "/joined_rooms")["joined_rooms"]
    admin.ok("users", "unsuspend", "bob")
    bob.send(room_id, "again")


def test_log_out_ends_every_session(admin: Admin, daemon: Daemon) -> None:
    sessions = [daemon.login("charlotte") for _ in range(3)]
    assert admin.ok("users", "log-out", "charlotte") == "@charlotte:chat.test: 3 devices logged out.\n"
    assert [one.request("GET", "/joined_rooms").status for one in sessions] == [401, 401, 401]
    assert daemon.login("charlotte").request("GET", "/joined_rooms").status == 200


def test_retire(admin: Admin, daemon: Daemon) -> None:
    room_id, (alice, david) = shared_room(daemon, "alice", "david")
    alice.create_room(invite=[david.user_id])
    david.send(room_id, "stays")
    said = admin.ok("users", "retire", "david", "--reason", "left the university")
    assert "1 device logged out, 2 rooms left" in said
    assert david.request("GET", "/joined_rooms").status == 401
    assert list(alice.ok("GET", f"/rooms/{q(room_id)}/joined_members")["joined"]) == [alice.user_id]
    assert texts(alice, room_id) == ["stays"]
    state = alice.ok("GET", f"/rooms/{q(room_id)}/state/m.room.member/{q(david.user_id)}")
    assert state["membership"] == "leave" and state["reason"].endswith("left the university")
    admin.ok("users", "unlock", "david")


# -- rooms -------------------------------------------------------------------------------------------------------


def test_rooms_are_listed_sorted_and_shown(admin: Admin, daemon: Daemon) -> None:
    small = daemon.login("alice").create_room(name="Kleines Kolloquium")
    encryption = {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
    large, (alice, _, _) = shared_room(
        daemon, "alice", "bob", "charlotte", name="Großes KOLLOQUIUM", initial_state=[encryption]
    )
    alice.send(large, "x" * 5000)
    by_size = admin("rooms", "list", "kolloquium", "--sort", "size", "--json").json
    assert [row["room_id"] for row in by_size] == [large, small]
    assert by_size[0]["joined"] == 3 and by_size[0]["encryption"] and by_size[0]["bytes"] > 5000
    assert by_size[1]["encryption"] is None and by_size[1]["creator"] == alice.user_id
    assert (
        admin("rooms", "list", "kolloquium", "--sort", "members", "--limit", "1", "--json").json[0]["room_id"] == large
    )
    shown = admin.ok("rooms", "show", large)
    for part in ("Großes KOLLOQUIUM", alice.user_id, "@bob:chat.test", "m.megolm.v1.aes-sha2", "join"):
        assert part in shown, part
    admin.german()
    assert "2 Räume." in admin.ok("rooms", "list", "kolloquium")
    assert admin("rooms", "show", "!none:chat.test").err == "den Raum !none:chat.test gibt es nicht\n"


def test_a_room_is_found_by_its_address(admin: Admin, daemon: Daemon) -> None:
    alice = daemon.login("alice")
    room_id = alice.create_room(room_alias_name="physik")
    assert room_id in admin.ok("rooms", "show", "#physik:chat.test")


def test_a_frozen_room_can_be_read_and_left(admin: Admin, daemon: Daemon) -> None:
    room_id, (alice, bob) = shared_room(daemon, "alice", "bob")
    alice.send(room_id, "before")
    assert admin.ok("rooms", "freeze", room_id) == f"{room_id} is frozen.\n"
    for method, path, body in (
        ("PUT", f"/rooms/{q(room_id)}/send/m.room.message/1", {"msgtype": "m.text", "body": "x"}),
        ("PUT", f"/rooms/{q(room_id)}/state/m.room.topic/", {"topic": "x"}),
        ("POST", f"/rooms/{q(room_id)}/invite", {"user_id": "@charlotte:chat.test"}),
    ):
        answer = alice.request(method, path, body)
        assert (answer.status, answer.json["errcode"]) == (403, "M_FORBIDDEN"), path
        assert "closed this room" in answer.json["error"] and "geschlossen" in answer.json["error"]
    assert texts(alice, room_id) == ["before"]
    bob.ok("POST", f"/rooms/{q(room_id)}/leave")
    daemon.restart()
    alice = alice.again()
    assert alice.request("PUT", f"/rooms/{q(room_id)}/state/m.room.topic/", {"topic": "x"}).status == 403
    assert [row["frozen"] for row in admin("rooms", "list", room_id, "--json").json] == [True]
    admin.ok("rooms", "unfreeze", room_id)
    alice.send(room_id, "after")


def test_shut_down(admin: Admin, daemon: Daemon) -> None:
    names = ("alice", "bob", "charlotte")
    room_id, (alice, bob, _) = shared_room(daemon, *names, room_alias_name="spam", name="Spam")
    alice.ok("POST", f"/rooms/{q(room_id)}/invite", {"user_id": "@emine:chat.test"})
    for number in range(12):
        alice.send(room_id, f"bad {number}")
    position = bob.sync()["next_batch"]
    admin.german()
    said = admin.ok("rooms", "shut-down", room_id, "--redact", "--reason", "Spam")
    assert "12 Nachrichten gelöscht, bei 0 ging es nicht." in said and "verlassen haben ihn: 4 Personen" in said
    left = bob.sync(since=position)["rooms"]["leave"][room_id]
    assert [e["content"].get("body") for e in left["timeline"]["events"] if e["type"] == "m.room.message"] == []
    assert texts(bob, room_id) == [None] * 12
    reason = left["timeline"]["events"][-1]["content"]["reason"]
    assert "Administration" in reason and reason.endswith("Spam")
    for person in (alice, bob):
        assert room_id not in person.ok("GET", "/joined_rooms")["joined_rooms"]
        assert person.request("POST", f"/join/{q(room_id)}").status == 403
    assert alice.request("GET", "/directory/room/%23spam%3Achat.test").status == 404
    assert room_id not in daemon.login("emine").sync()["rooms"].get("invite", {})
    assert "0 Personen" in admin.ok("rooms", "shut-down", room_id)  # once more does no harm
    daemon.verify()


def test_redact_one_event(admin: Admin, daemon: Daemon) -> None:
    room_id, (alice, bob) = shared_room(daemon, "alice", "bob")
    event_id = bob.send(room_id, "insult")
    bob.send(room_id, "harmless")
    said = admin.ok("rooms", "redact", room_id, event_id, "--reason", "insult")
    assert event_id in said
    assert texts(alice, room_id) == ["harmless", None]
    redacted = alice.ok("GET", f"/rooms/{q(room_id)}/event/{q(event_id)}")
    assert "administration of the service: insult" in redacted["unsigned"]["redacted_because"]["content"]["reason"]
    assert admin.ok("rooms", "redact", room_id, event_id) == said  # it is redacted already
    assert admin("rooms", "redact", room_id, "$" + "x" * 43).status == 1


def test_who_redacts_when_the_sender_has_left(admin: Admin, daemon: Daemon) -> None:
    room_id, (alice, bob) = shared_room(daemon, "alice", "bob")
    event_id = bob.send(room_id, "insult")
    bob.ok("POST", f"/rooms/{q(room_id)}/leave")
    admin.ok("rooms", "redact", room_id, event_id)
    redacted = alice.ok("GET", f"/rooms/{q(room_id)}/event/{q(event_id)}")
    assert redacted["unsigned"]["redacted_because"]["sender"] == alice.user_id
    other, (alice, bob) = shared_room(daemon, "alice", "bob")
    event_id = alice.send(other, "insult")
    alice.ok("POST", f"/rooms/{q(other)}/leave")
    admin.german()
    said = admin("rooms", "redact", other, event_id)
    assert said.status == 1 and "niemand im Raum darf" in said.err


@pytest.mark.parametrize("version", ["11", "12"])
def test_promote_before_the_administrator_leaves(admin: Admin, daemon: Daemon, version: str) -> None:
    room_id, (gurpreet, bob, _) = shared_room(daemon, "gurpreet", "bob", "charlotte", room_version=version)
    path = f"/rooms/{q(room_id)}/state/m.room.power_levels/"
    assert admin.ok("rooms", "promote", room_id, "bob") == f"@bob:chat.test is an administrator of {room_id}.\n"
    levels = bob.ok("GET", path)
    assert levels["users"]["@bob:chat.test"] == 100 and levels["state_default"] == 50
    assert admin("rooms", "promote", room_id, "bob").status == 0  # once more changes nothing
    assert admin("rooms", "promote", room_id, "david").status == 1  # not in the room
    gurpreet.ok("POST", f"/rooms/{q(room_id)}/leave")
    bob.ok("PUT", f"/rooms/{q(room_id)}/state/m.room.topic/", {"topic": "goes on"})
    admin.ok("rooms", "promote", room_id, "charlotte")
    bob.ok("POST", f"/rooms/{q(room_id)}/leave")
    assert daemon.login("charlotte").ok("GET", path)["users"]["@charlotte:chat.test"] == 100


def test_promote_where_nobody_has_the_power(admin: Admin, daemon: Daemon) -> None:
    room_id, (gurpreet, bob) = shared_room(daemon, "gurpreet", "bob")
    gurpreet.ok("POST", f"/rooms/{q(room_id)}/leave")
    admin.german()
    said = admin("rooms", "promote", room_id, "bob")
    assert said.status == 1 and said.err == "Niemand im Raum darf das; @bob:chat.test hat die Stufe 0.\n"
    assert bob.ok("GET", f"/rooms/{q(room_id)}/state/m.room.power_levels/")["users"].get(bob.user_id) is None


# -- media -------------------------------------------------------------------------------------------------------


def test_a_file_is_removed_with_its_twins(admin: Admin, daemon: Daemon) -> None:
    alice, bob = daemon.login("alice"), daemon.login("bob")
    first, second, other = upload(alice, b"evil"), upload(bob, b"evil"), upload(bob, b"fine")
    path = "/_matrix/client/v1/media/download/"
    listed = admin("media", "list", "--user", "bob", "--json").json
    assert {row["media_id"] for row in listed} == {second.rpartition("/")[2], other.rpartition("/")[2]}
    assert first in admin.ok("media", "list")
    used = {row["uni_id"]: row["media"] for row in admin("users", "list", "--json").json}
    said = admin.ok("media", "remove", first)
    assert first.rpartition("/")[2] in said and second.rpartition("/")[2] in said
    assert [alice.request("GET", path + uri[6:]).status for uri in (first, second, other)] == [404, 404, 200]
    left = {row["uni_id"]: row["media"] for row in admin("users", "list", "--json").json}
    assert (used["alice"] - left["alice"], used["bob"] - left["bob"]) == (4096, 4096)
    import hashlib

    digest = hashlib.sha256(b"evil").hexdigest()
    assert not (daemon.data_dir / "media" / "files" / digest[:2] / digest).exists()
    assert admin("media", "remove", first).status == 1
    assert admin("media", "remove", "mxc://elsewhere.test/abc").status == 1
    assert admin.ok("verify", "--media")
    again = upload(bob, b"evil")  # the same content can come again
    assert bob.request("GET", path + again[6:]).status == 200


# -- notices -----------------------------------------------------------------------------------------------------


def notices(person: Person) -> list[dict[str, Any]]:
    """What the person's room of notices says, which they join if need be."""
    rooms = person.sync()["rooms"]
    for room_id in rooms.get("invite", {}):
        person.ok("POST", f"/join/{q(room_id)}")
    joined = person.sync()["rooms"]["join"]
    return [
        event["content"]
        for room in joined.values()
        for event in room["timeline"]["events"]
        if event["type"] == "m.room.message" and event["sender"] == "@administrator:chat.test"
    ]


@pytest.fixture(scope="module")
def notified(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A daemon of their own for notices to everybody, with three people."""
    with Daemon(tmp_path_factory.mktemp("notified")) as daemon:
        yield daemon, [daemon.login(name) for name in ("alice", "bob", "charlotte")]


def test_a_notice_to_everybody_comes_once(notified: Any, monkeypatch: Any, capsys: Any, tmp_path: Path) -> None:
    daemon, (alice, bob, _) = notified
    admin = Admin(daemon, monkeypatch, capsys)
    admin.ok("users", "lock", "charlotte")
    text = tmp_path / "wartung.md"
    text.write_text("**Wartung** am [Montag](https://x.test)\n\n<script>alert(1)</script>\n")
    call = ("notice", "send", "--all", "--file", str(text), "--markdown", "--id", "wartung-1", "--rate", "1000")
    assert "would go to 2 people" in admin.ok(*call, "--dry-run")
    assert admin.ok(*call) == "Notice wartung-1: sent to 2 people.\n"
    assert admin.ok(*call) == "Notice wartung-1: sent to 0 people; 2 people had it already.\n"
    for person in (alice, bob):
        (content,) = notices(person)
        assert content["body"].startswith("**Wartung**") and content["msgtype"] == "m.text"
        assert '<strong>Wartung</strong> am <a href="https://x.test">Montag</a>' in content["formatted_body"]
        assert "<script>" not in content["formatted_body"]
    admin.ok("users", "unlock", "charlotte")
    admin.german()
    assert admin.ok(*call) == "Mitteilung wartung-1: gesendet an 1 Person; schon vorher hatten sie 2 Personen.\n"
    daemon.restart()
    assert "gesendet an 0 Personen" in admin.ok(*call)  # the database remembers


def test_notices_to_some(notified: Any, monkeypatch: Any, capsys: Any, tmp_path: Path) -> None:
    daemon, people = notified
    admin = Admin(daemon, monkeypatch, capsys)
    people = [person.again() for person in people]
    before = [len(notices(person)) for person in people]
    said = admin("notice", "send", "--to", "alice", "--to", "@bob:chat.test", "--to", "ghost", "Hello <b>")
    assert said.status == 1 and "sent to 2 people" in said.out and "@ghost:chat.test: has no account" in said.err
    assert [len(notices(person)) for person in people] == [before[0] + 1, before[1] + 1, before[2]]
    assert notices(people[0])[-1] == {"msgtype": "m.text", "body": "Hello <b>"}
    listed = tmp_path / "people.txt"
    listed.write_text("# a comment\nalice\n\ncharlotte\nalice\n")
    assert "sent to 1 person; 1 person had it already" in admin.ok("notice", "send", "--list", str(listed), "Hello <b>")
    for arguments in (("--all",), ("--all", "x", "--file", "y"), ("--all", " "), ("--all", "--file", "/nonexistent")):
        assert admin("notice", "send", *arguments).status == 1, arguments


def test_who_left_the_room_of_notices_is_invited_again(notified: Any, monkeypatch: Any, capsys: Any) -> None:
    daemon, (_, bob, _) = notified
    admin, bob = Admin(daemon, monkeypatch, capsys), bob.again()
    notices(bob)
    (room_id,) = bob.sync()["rooms"]["join"]
    bob.ok("POST", f"/rooms/{q(room_id)}/leave")
    admin.ok("notice", "send", "--to", "bob", "come back")
    wait_until(lambda: room_id in bob.sync()["rooms"].get("invite", {}), what="the invitation")


def test_one_who_cannot_be_told_holds_up_nobody(notified: Any, monkeypatch: Any, capsys: Any) -> None:
    daemon, (alice, bob, _) = notified
    admin, alice, bob = Admin(daemon, monkeypatch, capsys), alice.again(), bob.again()
    before = len(notices(bob))
    admin.ok("notice", "send", "--to", "alice", "first")
    notices(alice)
    (room_id,) = alice.sync()["rooms"]["join"]
    for command in ("freeze", "shut-down"):
        said = admin("rooms", command, room_id)
        assert said.status == 1 and "room of notices" in said.err
    daemon.stop()
    database = sqlite3.connect(daemon.data_dir / "heichat.db")  # what the operator can't do, for once
    with database:
        database.execute("INSERT INTO frozen_rooms VALUES (?, 0)", (room_id,))
    database.close()
    daemon.start()
    said = admin("notice", "send", "--to", "alice", "--to", "bob", "second")
    assert said.status == 1 and "sent to 1 person" in said.out and "@alice:chat.test: The administration" in said.err
    assert len(notices(bob.again())) == before + 1


def test_what_the_operator_does_is_in_the_log(admin: Admin, daemon: Daemon) -> None:
    daemon.login("emine")
    admin.ok("users", "lock", "emine")
    admin.ok("users", "unlock", "emine")
    lines = [line for line in daemon.output().splitlines() if "operator, user" in line]
    assert any("/users/{userId}/flags/{flag}" in line and "@emine:chat.test" in line for line in lines), lines


def test_nobody_can_log_in_as_who_writes_the_notices(tmp_path: Path) -> None:
    """Also where the plugin is off that asks for agreement; somebody who has the name already keeps the start from it."""
    with Daemon(tmp_path / "a", {"terms_consent": {"administrator": "bob"}}) as daemon:
        body = {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": "bob"},
            "password": "bob-demo",
        }
        assert Client(daemon.url).request("POST", "/login", body).status == 403
        daemon.login("alice")
    taken = Daemon(tmp_path / "a", {"terms_consent": {"administrator": "alice"}})
    process = taken.launch()
    assert process.wait(30) == 1
    assert "somebody has the account @alice:chat.test" in taken.output()
