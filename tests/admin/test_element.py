"""heichat-admin element: releases that are installed and switched to, and archives that are not."""

from __future__ import annotations

import errno
import gzip
import http.server
import os
import pwd
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from heichat_appliance.admin import element, releases
from heichat_appliance.admin.main import main
from tests.element_kit import archive, member, release, release_files


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    (tmp_path / "data").mkdir()
    path = tmp_path / "heichat.ini"
    path.write_text("[server]\nname = chat.test\npublic_url = https://chat.test\ndata_dir = data\n")
    return str(path)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "data" / "element"


def install(config: str, path: Path | str, digest: str) -> int:
    return main(["--config", config, "element", "install", str(path), "--sha256", digest])


def status(config: str) -> int:
    return main(["--config", config, "element", "status"])


def everything(folder: Path) -> dict[str, Any]:
    """All that lies in a folder: contents of files, targets of links."""
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def test_before_anything_is_installed(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(config) == 1
    assert "not installed" in capsys.readouterr().out


def test_a_release_is_installed_and_told_of(
    config: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "element.tar.gz"
    digest = release(path, "1.11.90")
    assert install(config, path, digest.upper()) == 0
    assert "Element Web 1.11.90 is served at https://chat.test/element/" in capsys.readouterr().out
    for name, content in release_files("1.11.90").items():
        assert (home / "current" / name).read_bytes() == content
        assert (home / "current" / name).stat().st_mode & 0o7777 == 0o644
    assert os.readlink(home / "current").startswith("current.releases/1.11.90-")
    assert status(config) == 0
    told = capsys.readouterr().out
    assert "Element Web 1.11.90" in told and digest in told and "the last that was installed" in told


def test_what_is_worth_it_lies_there_compressed_too(config: str, home: Path, tmp_path: Path) -> None:
    install(config, tmp_path / "a", release(tmp_path / "a"))
    for packed in (found := list((home / "current").rglob("*.gz"))):
        assert gzip.decompress(packed.read_bytes()) == packed.with_suffix("").read_bytes()
    assert {path.name for path in found} >= {"bundle.js.gz", "opus.wasm.gz"}
    assert not any(path.name.startswith(("ring", "Inter", "version")) for path in found)


def test_the_one_before_stays_and_older_ones_go(
    config: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digests = {}
    for version in ("1.11.88", "1.11.89", "1.11.90"):
        digests[version] = release(tmp_path / version, version)
        assert install(config, tmp_path / version, digests[version]) == 0
    folders = {path.name.partition("-")[0] for path in (home / "current.releases").iterdir()}
    assert folders == {"1.11.89", "1.11.90"}
    assert (home / "current.former" / "version").read_text() == "1.11.89"
    capsys.readouterr()
    assert status(config) == 0
    assert "Before it: 1.11.89" in capsys.readouterr().out
    assert install(config, tmp_path / "1.11.89", digests["1.11.89"]) == 0  # back again
    assert (home / "current" / "version").read_text() == "1.11.89"
    assert (home / "current.former" / "version").read_text() == "1.11.90"
    capsys.readouterr()
    assert status(config) == 1
    assert "Not current: 1.11.90 was installed after it" in capsys.readouterr().out


def test_installing_the_same_again_changes_nothing(config: str, home: Path, tmp_path: Path) -> None:
    digest = release(tmp_path / "a")
    install(config, tmp_path / "a", digest)
    before = everything(home)
    assert install(config, tmp_path / "a", digest) == 0
    assert everything(home) == before


def test_a_damaged_release_is_told_of_and_mended(
    config: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = release(tmp_path / "a")
    install(config, tmp_path / "a", digest)
    (home / "current" / "sw.js").unlink()
    assert status(config) == 1
    assert "missing or have changed" in capsys.readouterr().out
    assert install(config, tmp_path / "a", digest) == 0
    assert (home / "current" / "sw.js").is_file()
    assert status(config) == 0


def test_a_wrong_checksum(config: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digest = release(tmp_path / "a")
    assert install(config, tmp_path / "a", "0" * 64) == 1
    assert digest in capsys.readouterr().err
    assert not home.exists()


@pytest.mark.parametrize("digest", ["", "abc", "g" * 64, "0" * 63])
def test_what_is_no_checksum(config: str, tmp_path: Path, digest: str) -> None:
    release(tmp_path / "a")
    with pytest.raises(SystemExit) as ended:
        install(config, tmp_path / "a", digest)
    assert ended.value.code == 2


HOSTILE = {
    "a path that leads out": [member("element-v1/../../escaped")],
    "a path that leads out of the middle": [member("element-v1/a/../../../escaped")],
    "an absolute path": [member("/escaped")],
    "a backslash": [member("element-v1/..\\..\\escaped")],
    "a control character": [member("element-v1/a\nb")],
    "another folder": [member("escaped/index.html")],
    "a file beside the folder": [member("escaped")],
    "a hidden folder": [member(".escaped/index.html")],
    "a long path": [member("element-v1/" + "a" * 300)],
    "a deep path": [member("element-v1/" + "a/" * 20 + "a")],
    "a symbolic link": [member("element-v1/link", kind=tarfile.SYMTYPE, link="/etc/passwd")],
    "a symbolic link and a file through it": [
        member("element-v1/link", kind=tarfile.SYMTYPE, link="../../.."),
        member("element-v1/link/escaped"),
    ],
    "a hard link": [member("element-v1/link", kind=tarfile.LNKTYPE, link="/etc/passwd")],
    "a device": [member("element-v1/null", kind=tarfile.CHRTYPE)],
    "a block device": [member("element-v1/disk", kind=tarfile.BLKTYPE)],
    "a pipe": [member("element-v1/pipe", kind=tarfile.FIFOTYPE)],
    "a file twice": [member("element-v1/sw.js", b"other")],
    "a folder in the place of a file": [member("element-v1/sw.js/inner")],
}


@pytest.mark.parametrize("members", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_archives(
    config: str, home: Path, tmp_path: Path, members: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    good = release(tmp_path / "good", "1.11.89")
    install(config, tmp_path / "good", good)
    before, around = everything(home), sorted(path.name for path in tmp_path.iterdir())
    digest = archive(tmp_path / "good", release_files("1.11.90"), members)
    assert install(config, tmp_path / "good", digest) == 1
    assert "the archive was not installed" in capsys.readouterr().err
    assert everything(home) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == around
    assert not Path("/escaped").exists()


def test_archives_that_are_too_large(
    config: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = archive(tmp_path / "bomb", {**release_files("1"), "zeros": bytes(3 * 2**20)})
    assert (tmp_path / "bomb").stat().st_size < 2**20
    for name, value in (("MAX_UNPACKED", 2**20), ("MAX_FILES", 20), ("MAX_FOLDERS", 3)):
        with monkeypatch.context() as patch:
            patch.setattr(releases, name, value)
            assert install(config, tmp_path / "bomb", digest) == 1, name
        assert "it holds" in capsys.readouterr().err
        assert everything(home) == {}
    with monkeypatch.context() as patch:
        patch.setattr(element, "MAX_ARCHIVE", 2**10)
        assert install(config, tmp_path / "bomb", digest) == 1
    assert "it holds more than" in capsys.readouterr().err
    assert install(config, tmp_path / "bomb", digest) == 0


@pytest.mark.parametrize("name", ["index.html", "config.sample.json", "version"])
def test_what_is_no_release(
    config: str, home: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {path: content for path, content in release_files("1").items() if path != name}
    assert install(config, tmp_path / "a", archive(tmp_path / "a", files)) == 1
    assert "no release of Element Web" in capsys.readouterr().err
    assert everything(home) == {}


@pytest.mark.parametrize("version", ["", "../1", "1\n2", "x" * 80])
def test_versions_that_are_none(config: str, home: Path, tmp_path: Path, version: str) -> None:
    files = {**release_files("1"), "version": version.encode()}
    assert install(config, tmp_path / "a", archive(tmp_path / "a", files)) == 1
    assert everything(home) == {}


def test_damaged_archives(config: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    release(tmp_path / "good")
    data = (tmp_path / "good").read_bytes()
    middle = len(data) // 2
    for damaged in (b"", b"no archive", data[:-100], data[:middle], data[:middle] + b"\xff" * 40 + data[middle + 40 :]):
        (tmp_path / "a").write_bytes(damaged)
        assert install(config, tmp_path / "a", sha256(damaged).hexdigest()) == 1
        assert "no whole .tar.gz" in capsys.readouterr().err
        assert everything(home) == {}


def test_a_full_disk_leaves_what_was_there(
    config: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(config, tmp_path / "a", release(tmp_path / "a", "1.11.89"))
    before = everything(home)
    digest = release(tmp_path / "b", "1.11.90")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(releases.shutil, "copyfileobj", full)
        assert install(config, tmp_path / "b", digest) == 1
    assert everything(home) == before
    assert install(config, tmp_path / "b", digest) == 0


def test_a_folder_that_was_unpacked_by_hand(tmp_path: Path, config: str, capsys: pytest.CaptureFixture[str]) -> None:
    by_hand = tmp_path / "by-hand"
    by_hand.mkdir()
    (by_hand / "index.html").write_text("mine")
    with Path(config).open("a") as file:
        file.write(f"[web]\nelement_dir = {by_hand}\n")
    assert status(config) == 0
    assert "was not put there by this command" in capsys.readouterr().out
    assert install(config, tmp_path / "a", release(tmp_path / "a")) == 1
    assert "move it away" in capsys.readouterr().err
    assert (by_hand / "index.html").read_text() == "mine"
    by_hand.rename(tmp_path / "away")
    assert install(config, tmp_path / "a", release(tmp_path / "a")) == 0
    assert (by_hand / "version").is_file()


def test_two_at_once(config: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digest = release(tmp_path / "a")
    other = releases.Releases(home / "current")
    other.store.mkdir(parents=True)
    with other._alone():
        assert install(config, tmp_path / "a", digest) == 1
    assert "under way" in capsys.readouterr().err
    (other.store / ".unpacking-cut-off").mkdir()  # by a power failure
    assert install(config, tmp_path / "a", digest) == 0
    assert not (other.store / ".unpacking-cut-off").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_root_unpacks_as_the_owner_of_the_place(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    nobody = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory() as name:  # which others may enter, unlike tmp_path
        data, elsewhere = Path(name, "data"), Path(name, "root")
        os.chmod(name, 0o755)
        data.mkdir(mode=0o700)
        elsewhere.mkdir(mode=0o700)
        os.chown(data, nobody.pw_uid, nobody.pw_gid)
        with Path(config).open("a") as file:
            file.write(f"[web]\nelement_dir = {data}/element\n")
        archive = elsewhere / "element.tar.gz"  # only root can read it
        digest = release(archive)
        assert install(config, archive, digest) == 0
        assert {path.lstat().st_uid for path in data.rglob("*")} == {nobody.pw_uid}
        assert os.geteuid() == 0
        # a link that the owner laid leads nobody to where only root may write
        (data / "element").unlink()
        (data / "element.releases").rename(data / "aside")
        (data / "element.releases").symlink_to(elsewhere)
        assert install(config, archive, digest) == 1
        assert "nothing was installed" in capsys.readouterr().err
        assert list(elsewhere.iterdir()) == [archive]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_who_may_not_look(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        Path(name, "data").mkdir(mode=0o700)
        path = Path(name, "heichat.ini")
        path.write_text("[server]\nname = chat.test\npublic_url = https://chat.test\ndata_dir = data\n")
        os.seteuid(pwd.getpwnam("nobody").pw_uid)
        try:
            assert status(str(path)) == 1
        finally:
            os.seteuid(0)
    assert "may not be read by you (hint: run this as root" in capsys.readouterr().err


# -- from elsewhere ----------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[str]:
    """A web server on loopback: /element.tar.gz is an archive, /moved leads to it, /file leads to a file."""
    release(tmp_path / "element.tar.gz")
    data = (tmp_path / "element.tar.gz").read_bytes()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            target = {"/moved": "/element.tar.gz", "/file": f"file://{tmp_path}/element.tar.gz"}.get(self.path)
            self.send_response(302 if target else 200 if self.path == "/element.tar.gz" else 404)
            if target:
                self.send_header("Location", target)
            self.end_headers()
            if self.path == "/element.tar.gz":
                self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_from_an_address(config: str, home: Path, tmp_path: Path, elsewhere: str) -> None:
    digest = sha256((tmp_path / "element.tar.gz").read_bytes()).hexdigest()
    assert install(config, f"{elsewhere}/moved", digest) == 0
    assert (home / "current" / "version").read_text() == "1.11.90"


@pytest.mark.parametrize("path", ["/file", "/nothing"])
def test_addresses_that_lead_nowhere(
    config: str, home: Path, tmp_path: Path, elsewhere: str, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = sha256((tmp_path / "element.tar.gz").read_bytes()).hexdigest()
    assert install(config, elsewhere + path, digest) == 1
    assert "can't be read" in capsys.readouterr().err
    assert install(config, "http://127.0.0.1:1/x", digest) == 1
    assert install(config, tmp_path / "nothing", digest) == 1
    assert not home.exists()
