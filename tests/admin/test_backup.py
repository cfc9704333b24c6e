"""heichat-admin backup, verify --backup and restore: what was acknowledged is there, and clients go on."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest

from heichat_appliance.db.database import DatabaseRefused, prepare
from tests.admin.kit import Admin
from tests.admin.test_people_rooms import shared_room, texts, upload
from tests.appliance import q
from tests.daemon import Daemon, Person
from tests.encryption_kit import DeviceKit


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """A daemon of the test's own, and heichat-admin for it."""
    with Daemon(tmp_path / "server") as daemon:
        yield daemon, Admin(daemon, monkeypatch, capsys)


def backups(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.startswith("heichat-"))


def make(admin: Admin, folder: Path, *arguments: str) -> Path:
    """Make a backup; where it is."""
    return Path(admin.ok("backup", str(folder), *arguments).splitlines()[0])


class Chatter(threading.Thread):
    """Somebody who sends without a pause; `acknowledged` are the texts of which the server said that it has them."""

    def __init__(self, person: Person, room_id: str, name: str) -> None:
        super().__init__()
        self.acknowledged: list[str] = []
        self.failure: BaseException | None = None
        self.going = True
        self._person, self._room_id, self._name = person.again(), room_id, name

    def run(self) -> None:
        try:
            while self.going:
                text = f"{self._name} {len(self.acknowledged)}"
                self._person.send(self._room_id, text)
                self.acknowledged.append(text)
        except BaseException as error:
            self.failure = error

    def stop(self) -> None:
        self.going = False
        self.join()
        assert self.failure is None, self.failure


def all_texts(person: Person, room_id: str) -> set[str]:
    """The texts of all messages of a room."""
    found: set[str] = set()
    start: str | None = None
    while True:
        params = {"dir": "b", "limit": "1000", **({"from": start} if start else {})}
        page = person.ok("GET", f"/rooms/{q(room_id)}/messages", **params)
        found |= {e["content"]["body"] for e in page["chunk"] if e["type"] == "m.room.message"}
        if "end" not in page:
            return found
        start = page["end"]


def test_a_backup_under_load_has_what_was_acknowledged(running: Any, tmp_path: Path) -> None:
    daemon, admin = running
    room_id, people = shared_room(daemon, "alice", "bob")
    file = upload(people[0], b"lecture notes" * 1000)
    chatters = [Chatter(person, room_id, str(number)) for number, person in enumerate(people)]
    for chatter in chatters:
        chatter.start()
    try:
        made = []
        for _ in range(3):
            before = {text for chatter in chatters for text in list(chatter.acknowledged)}
            shutil.rmtree(tmp_path / "backups", ignore_errors=True)
            made.append((before, make(admin, tmp_path / "backups").rename(tmp_path / f"kept{len(made)}")))
    finally:
        for chatter in chatters:
            chatter.stop()
    assert len(made[-1][0]) > len(made[0][0])
    token = people[0].sync()["next_batch"]
    pos = people[0].ok("POST", "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync", {})["pos"]
    daemon.stop()
    before, backup = made[-1]
    admin.ok("restore", str(backup))
    daemon.start()
    alice = people[0].again()
    here = all_texts(alice, room_id)
    assert before <= here
    later = {text for chatter in chatters for text in chatter.acknowledged} - here
    assert later, "nothing was sent after the backup: this test shows too little"
    # A token from the future of this database means nothing: everything comes anew, and nothing is missed.
    anew = alice.sync(since=token)
    assert room_id in anew["rooms"]["join"] and anew["rooms"]["join"][room_id]["timeline"]["limited"]
    assert anew["next_batch"].rpartition(".")[2] != token.rpartition(".")[2]
    slides = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
    refused = alice.request("POST", f"{slides}?pos={pos}", {})
    assert (refused.status, refused.json["errcode"]) == (400, "M_UNKNOWN_POS")
    alice.send(room_id, "after the restore")
    assert texts(alice, room_id)[0] == "after the restore"
    assert alice.request("GET", f"/_matrix/client/v1/media/download/{file[6:]}").body == b"lecture notes" * 1000
    assert "Everything is whole." in daemon.verify()


def test_restoring_twice_never_gives_the_same_epoch(running: Any, tmp_path: Path) -> None:
    daemon, admin = running
    alice = daemon.login("alice")
    backup = make(admin, tmp_path)
    epochs = [alice.sync()["next_batch"].rpartition(".")[2]]
    for _ in range(2):
        daemon.stop()
        admin.ok("restore", str(backup))
        daemon.start()
        alice = alice.again()
        epochs.append(alice.sync()["next_batch"].rpartition(".")[2])
    assert len(set(epochs)) == 3 and sorted(epochs, key=int) == epochs


def test_restore_onto_another_machine(running: Any, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    daemon, admin = running
    room_id, (alice, _) = shared_room(daemon, "alice", "bob")
    file = upload(alice, b"picture")
    alice.send(room_id, "hello")
    backup = make(admin, tmp_path / "backups", "--tar")
    assert backup.suffix == ".tar" and backup.stat().st_mode & 0o077 == 0
    daemon.stop()
    other = Daemon(tmp_path / "other")
    there = Admin(other, monkeypatch, capsys)
    there.german()
    said = there.ok("restore", str(backup))
    assert "Nun den Dienst starten" in said and "ist neu" in said
    with other:
        moved = Person(other.url, alice.login)
        assert texts(moved, room_id) == ["hello"]
        assert moved.request("GET", f"/_matrix/client/v1/media/download/{file[6:]}").body == b"picture"
        other.verify()


def test_one_time_keys_are_not_used_twice(running: Any, tmp_path: Path) -> None:
    daemon, admin = running
    alice = daemon.login("alice")
    kit = DeviceKit(alice.user_id, alice.login["device_id"])
    keys = {"device_keys": kit.device_keys(), "one_time_keys": kit.one_time_keys(1)}
    alice.ok("POST", "/keys/upload", keys)
    backup = make(admin, tmp_path)
    ask = {"one_time_keys": {alice.user_id: {alice.login["device_id"]: "signed_curve25519"}}}
    assert daemon.login("bob").ok("POST", "/keys/claim", ask)["one_time_keys"]
    daemon.stop()
    admin.ok("restore", str(backup))
    daemon.start()
    assert daemon.login("bob").ok("POST", "/keys/claim", ask)["one_time_keys"].get(alice.user_id, {}) == {}
    assert alice.again().sync()["device_one_time_keys_count"].get("signed_curve25519", 0) == 0


# -- what a backup is ---------------------------------------------------------------------------------------------


def test_what_lies_in_a_backup(running: Any, tmp_path: Path) -> None:
    daemon, admin = running
    alice = daemon.login("alice")
    upload(alice, b"one")
    (daemon.data_dir / "plugin.key").write_text("secret of a plugin")
    first = make(admin, tmp_path / "backups")
    names = {path.name for path in first.iterdir()}
    assert {"heichat.db", "signing.key", "plugin.key", "config.ini", "manifest.json", "media"} == names
    assert (first / "plugin.key").read_text() == "secret of a plugin"
    assert all(path.stat().st_mode & 0o077 == 0 for path in (first, *first.rglob("*")))
    manifest = json.loads((first / "manifest.json").read_text())
    assert manifest["server_name"] == "chat.test" and manifest["media"] == {"count": 1, "bytes": 3}
    first = first.rename(first.with_name("heichat-chat.test-20200101T000000Z"))
    upload(alice, b"another")
    said = admin.ok("backup", str(tmp_path / "backups"))
    assert "1 copied anew" in said
    second = Path(said.splitlines()[0])
    files = [sorted((one / "media" / "files").rglob("*")) for one in (first, second)]
    inodes = [{path.name: path.stat().st_ino for path in found if path.is_file()} for found in files]
    assert len(inodes[1]) == 2 and inodes[0].items() <= inodes[1].items()  # linked, not copied


def test_the_oldest_go(running: Any, tmp_path: Path) -> None:
    _, admin = running
    folder = tmp_path / "backups"
    made = make(admin, folder)
    for day in range(1, 5):
        shutil.copytree(made, folder / f"heichat-chat.test-2020010{day}T000000Z")
    bystanders = ("heichat-other.test-20200101T000000Z", "heichat-chat.test-notes", "precious")
    for name in bystanders:
        shutil.copytree(made, folder / name)
    (folder / ".partial-heichat-chat.test-20200101T000000Z").mkdir()
    made.rename(folder / "heichat-chat.test-20200105T000000Z")
    newest = make(admin, folder, "--keep", "2")
    left = {path.name for path in folder.iterdir()} - {".lock"}
    assert left == {newest.name, "heichat-chat.test-20200105T000000Z", *bystanders}
    assert admin("backup", str(folder), "--keep", "0").status == 1


def test_where_no_backup_may_lie(running: Any, tmp_path: Path) -> None:
    daemon, admin = running
    said = admin("backup", str(daemon.data_dir / "backups"))
    assert said.status == 1 and "must not lie in the data folder" in said.err
    blocker = tmp_path / "file"
    blocker.write_text("")
    admin.german()
    assert "schlug fehl" in admin("backup", str(blocker / "backups")).err


def test_a_backup_that_fails_leaves_nothing(running: Any, tmp_path: Path) -> None:
    daemon, admin = running
    upload(daemon.login("alice"), b"original")
    (content,) = (path for path in (daemon.data_dir / "media" / "files").rglob("*") if path.is_file())
    content.write_bytes(b"tampered")
    said = admin("backup", str(tmp_path / "backups"))
    assert said.status == 1 and "its content is not what it was" in said.err
    assert backups(tmp_path / "backups") == [] and list((tmp_path / "backups").glob(".partial*")) == []
    assert "has another content" in admin("verify", "--media").out
    content.unlink()
    assert "is missing" in admin("verify").out


def test_a_file_that_was_removed_meanwhile_stays_away(running: Any, tmp_path: Path, monkeypatch: Any) -> None:
    from heichat_appliance.admin import backups as library

    daemon, admin = running
    gone, stays = upload(daemon.login("alice"), b"evil"), upload(daemon.login("alice"), b"fine")
    original = library._copy_media

    def remove_first(*arguments: Any) -> None:
        """The operator is quick: the database is copied, the files not yet."""
        from heichat_appliance.admin.client import DaemonClient

        DaemonClient(daemon.data_dir).post(f"/media/{gone.rpartition('/')[2]}/remove")
        original(*arguments)

    monkeypatch.setattr(library, "_copy_media", remove_first)
    made = make(admin, tmp_path)
    database = sqlite3.connect(made / "heichat.db")
    assert database.execute("SELECT media_id FROM media").fetchall() == [(stays.rpartition("/")[2],)]
    database.close()
    assert admin("verify", "--backup", str(made), "--media").status == 0


# -- refusals ----------------------------------------------------------------------------------------------------


def test_restore_is_refused_while_the_daemon_runs(running: Any, tmp_path: Path) -> None:
    daemon, admin = running
    alice = daemon.login("alice")
    backup = make(admin, tmp_path)
    room_id = alice.create_room()
    before = sorted(os.listdir(daemon.data_dir))
    said = admin("restore", str(backup))
    assert said.status == 1 and said.err.startswith("the daemon runs; stop it first")
    admin.german()
    assert admin("restore", str(backup)).err.startswith("der Dienst läuft; bitte zuerst stoppen")
    assert sorted(os.listdir(daemon.data_dir)) == before
    alice.send(room_id, "undisturbed")


def damage_database(backup: Path) -> None:
    database = sqlite3.connect(backup / "heichat.db")
    with database:
        database.execute("UPDATE events SET pdu = replace(pdu, 'hello', 'howdy')")
    database.close()


def damage_key(backup: Path) -> None:
    (backup / "signing.key").write_text("ed25519:abc " + "00" * 32 + "\n")


def lose_key(backup: Path) -> None:
    (backup / "signing.key").unlink()


def damage_media(backup: Path) -> None:
    (content,) = (path for path in (backup / "media").rglob("*") if path.is_file())
    content.write_bytes(b"xyz")


def lose_manifest(backup: Path) -> None:
    (backup / "manifest.json").unlink()


def point_outside(backup: Path) -> None:
    manifest = json.loads((backup / "manifest.json").read_text())
    manifest["files"]["../../evil"] = "0" * 64
    (backup / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "damage",
    [damage_database, damage_key, lose_key, damage_media, lose_manifest, point_outside],
    ids=lambda f: f.__name__,
)
def test_a_damaged_backup_is_refused(running: Any, tmp_path: Path, damage: Any) -> None:
    daemon, admin = running
    alice = daemon.login("alice")
    upload(alice, b"abc")
    room_id = alice.create_room()
    alice.send(room_id, "hello")
    backup = make(admin, tmp_path)
    damage(backup)
    assert admin("verify", "--backup", str(backup), "--media").status == 1
    daemon.stop()
    before = sorted(os.listdir(daemon.data_dir))
    said = admin("restore", str(backup))
    assert said.status == 1 and said.out == "" and len(said.err) > 20
    assert sorted(os.listdir(daemon.data_dir)) == before
    daemon.start()
    assert texts(alice.again(), room_id) == ["hello"]


def test_anothers_backup_is_refused(running: Any, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    _, admin = running
    backup = make(admin, tmp_path)
    other = Daemon(tmp_path / "other", {"server": {"name": "other.test"}})
    said = Admin(other, monkeypatch, capsys)("restore", str(backup))
    assert said.status == 1 and "belongs to the server name chat.test" in said.err
    assert [path.name for path in other.data_dir.iterdir()] == ["heichat.lock"]


def test_what_is_no_backup(running: Any, tmp_path: Path) -> None:
    daemon, admin = running
    daemon.stop()
    evil = tmp_path / "evil.tar"
    with tarfile.open(evil, "w") as archive:
        member = tarfile.TarInfo("../../escaped")
        archive.addfile(member)
    text = tmp_path / "text.tar"
    text.write_text("no tar")
    for path in (evil, text, tmp_path, tmp_path / "none"):
        assert admin("restore", str(path)).status == 1, path
    assert not (tmp_path.parent / "escaped").exists()
    daemon.start()
    daemon.login("alice")


def test_a_restore_that_was_cut_off_lets_no_daemon_start(
    running: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon, admin = running
    alice = daemon.login("alice")
    room_id = alice.create_room()
    alice.send(room_id, "kept")
    backup = make(admin, tmp_path)
    daemon.stop()
    rename = Path.rename

    def cut_off(path: Path, target: Any) -> Path:
        """The power fails when the database has been moved aside."""
        moved = rename(path, target)
        if path.name == "heichat.db" and "before-restore" in str(target):
            raise KeyboardInterrupt
        return moved

    monkeypatch.setattr(Path, "rename", cut_off)
    assert admin("restore", str(backup)).status == 1
    monkeypatch.setattr(Path, "rename", rename)
    process = daemon.launch()
    assert process.wait(30) == 1
    assert "a restore into" in daemon.output() and "was cut off" in daemon.output()
    daemon.process = None
    admin.ok("restore", str(backup))
    daemon.output_path.unlink()
    daemon.start()
    assert texts(alice.again(), room_id) == ["kept"]


def test_wherever_a_restore_is_cut_off_nothing_is_lost(
    running: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ends at each of the steps that move things: no daemon starts over half of it, and again does it."""
    daemon, admin = running
    alice = daemon.login("alice")
    upload(alice, b"abc")
    room_id = alice.create_room()
    backup = make(admin, tmp_path / "backups")
    newest = alice.send(room_id, "only in the old data")
    daemon.stop()
    original = daemon.data_dir.rename(tmp_path / "original")
    rename, steps = Path.rename, 0

    def ends_at(number: int) -> Any:
        def cut(path: Path, target: Any) -> Path:
            nonlocal steps
            steps += 1
            if steps == number:
                raise KeyboardInterrupt
            return rename(path, target)

        return cut

    for number in range(1, 20):
        shutil.copytree(original, daemon.data_dir)
        steps = 0
        monkeypatch.setattr(Path, "rename", ends_at(number))
        status = admin("restore", str(backup), "--quick").status
        monkeypatch.setattr(Path, "rename", rename)
        if status == 0:
            break
        with pytest.raises(DatabaseRefused, match="cut off"):
            prepare(daemon.data_dir, "chat.test")
        admin.ok("restore", str(backup), "--quick")
        assert _has_event(daemon.data_dir / "heichat.db", newest) is False
        kept = daemon.data_dir.glob("before-restore-*/heichat.db")
        assert any(_has_event(path, newest) for path in kept), number
        assert "Everything is whole." in admin.ok("verify", "--media")
        shutil.rmtree(daemon.data_dir)
    assert number > 6, "too few steps: does this test still cut the right ones?"


def _has_event(database: Path, event_id: str) -> bool:
    connection = sqlite3.connect(database)
    try:
        return connection.execute("SELECT 1 FROM events WHERE event_id = ?", (event_id,)).fetchone() is not None
    finally:
        connection.close()


def test_there_must_be_room_for_both(running: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon, admin = running
    backup = make(admin, tmp_path)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    assert "has 1000 B free, but the backup needs" in admin("backup", str(tmp_path / "other")).err
    daemon.stop()
    before = sorted(os.listdir(daemon.data_dir))
    assert "beside what is there" in admin("restore", str(backup)).err
    assert sorted(os.listdir(daemon.data_dir)) == before


def test_the_old_data_are_kept(running: Any, tmp_path: Path) -> None:
    daemon, admin = running
    alice = daemon.login("alice")
    room_id = alice.create_room()
    backup = make(admin, tmp_path)
    alice.send(room_id, "only here")
    daemon.stop()
    said = admin.ok("restore", str(backup))
    (aside,) = daemon.data_dir.glob("before-restore-*")
    assert str(aside) in said
    database = sqlite3.connect(f"file:{aside / 'heichat.db'}?mode=ro", uri=True)
    assert database.execute("SELECT count(*) FROM events WHERE pdu LIKE '%only here%'").fetchone() == (1,)
    database.close()
    assert (aside / "signing.key").exists()


@pytest.fixture
def another_user(running: Any) -> Any:
    """Everything of the daemon, which is stopped, belongs to another user, who can reach it; `user` is their number."""
    daemon, _ = running
    daemon.stop()
    closed = [one for one in daemon.data_dir.parents if one.stat().st_mode & 0o011 != 0o011]
    modes = {one: one.stat().st_mode & 0o7777 for one in closed}
    for one in closed:
        one.chmod(modes[one] | 0o011)  # by their group, too, which root keeps when it changes the user alone
    for path in (daemon.data_dir, *daemon.data_dir.rglob("*")):
        os.chown(path, 12345, 12345)
    yield 12345
    for one, mode in modes.items():
        one.chmod(mode)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files to another user")
def test_what_root_makes_belongs_to_the_daemons_user(running: Any, another_user: int, tmp_path: Path) -> None:
    daemon, admin = running
    backup = make(admin, tmp_path)
    admin.ok("verify")
    admin.ok("users", "list")
    admin.ok("restore", str(backup))
    owners = {path.name: path.stat().st_uid for path in (daemon.data_dir, *daemon.data_dir.rglob("*"))}
    assert set(owners.values()) == {another_user}, owners
    assert os.geteuid() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be what a link leads astray")
def test_links_in_the_data_folder_lead_root_nowhere(running: Any, another_user: int, tmp_path: Path) -> None:
    daemon, admin = running
    backup = make(admin, tmp_path / "backups")
    precious = tmp_path / "precious"
    precious.write_text("precious")
    for name in ("heichat.lock", "restore-in-progress", "last-backup.new"):
        (daemon.data_dir / name).unlink(missing_ok=True)
        (daemon.data_dir / name).symlink_to(precious)
    assert admin("restore", str(backup)).status == 1  # the lock is not what it should be
    assert admin("backup", str(tmp_path / "backups2")).status == 1  # its note can't be written
    (daemon.data_dir / "heichat.lock").unlink()
    (daemon.data_dir / "last-backup.new").unlink()
    admin.ok("restore", str(backup))
    assert precious.read_text() == "precious" and precious.stat().st_uid == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else for a while")
def test_somebody_without_rights_gets_a_sentence(running: Any, tmp_path: Path) -> None:
    daemon, admin = running
    daemon.config_path.chmod(0o644)
    os.seteuid(65534)
    try:
        said = [admin(*call) for call in (("users", "list"), ("verify",), ("users", "lock", "alice"), ("version",))]
    finally:
        os.seteuid(0)
    assert [one.status for one in said[:3]] == [1, 1, 1]
    assert all(one.err and "Traceback" not in one.err for one in said[:3]), said


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to take turns with another user")
def test_root_and_the_daemons_user_take_turns(running: Any, another_user: int, tmp_path: Path) -> None:
    """The timer makes backups as the daemon's user, the operator as root, in the same folder."""
    daemon, admin = running
    folder = tmp_path / "backups"
    folder.mkdir(mode=0o700)
    os.chown(folder, another_user, another_user)
    daemon.config_path.chmod(0o644)

    def make_as(user: int) -> Path:
        """Made, and put back by some years, since backups are told apart by their second."""
        os.seteuid(user)
        try:
            path = make(admin, folder, "--keep", "2")
        finally:
            os.seteuid(0)
        return path.rename(path.with_name(f"heichat-chat.test-2020010{len(made)}T000000Z"))

    made: list[Path] = []
    for user in (0, another_user, 0, another_user):
        made.append(make_as(user))
    assert [path.exists() for path in made] == [False, False, True, True]
    assert {path.stat().st_uid for path in (folder, *folder.rglob("*"))} == {another_user}
    # What only root may touch, however it came there, is in nobody's way.
    foreign = folder / "heichat-chat.test-20191231T000000Z"
    shutil.copytree(made[-1], foreign)
    (folder / ".partial-of-root").mkdir(mode=0o700)
    assert make_as(another_user).exists() and foreign.exists()
