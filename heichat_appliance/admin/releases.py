"""Releases of Element Web on disk: unpacked with distrust, switched to at once.

current -> current.releases/1.11.90-0123456789ab    what the daemon serves ([web] element_dir)
current.former -> current.releases/1.11.89-…        the one before
current.releases/<version>-<first of the SHA-256>/  a release
current.releases/<…>.json                           what is known of it (`Record`)
"""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import file_digest
from pathlib import Path, PurePosixPath
from typing import IO

from heichat_appliance.admin.command import Trouble
from heichat_appliance.admin.language import t
from heichat_appliance.db.database import sync
from heichat_appliance.http.element_web import MAX_FILES, former_link, read_release

MAX_UNPACKED = 500 * 2**20
#: Characters of a path in the archive, and folders it may go down.
MAX_PATH, MAX_DEPTH = 300, 12
#: Folders in the archive.
MAX_FOLDERS = 2_000
_PIECE = 1024 * 1024
_SCRATCH = ".unpacking-"
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,63}")
#: What every release has.
_EXPECTED = ("index.html", "config.sample.json", "version")
#: Files of which the daemon serves a compressed copy that lies beside them.
_COMPRESSED = frozenset({".css", ".html", ".js", ".json", ".mjs", ".svg", ".ttf", ".wasm"})
_MIN_COMPRESSED = 1024


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a release on disk."""

    version: str
    sha256: str
    source: str
    installed: str
    files: int
    bytes: int


class Releases:
    """The releases that belong to one served folder."""

    def __init__(self, folder: Path) -> None:
        """`folder`: see http.element_web.folder_of."""
        self.folder = folder
        self.former = former_link(folder)
        self.store = folder.with_name(folder.name + ".releases")

    # -- looking -------------------------------------------------------------------------------------------------

    def current(self) -> Path | None:
        """The release that is served, or a folder that somebody unpacked by hand."""
        return self.folder.resolve() if (self.folder / "index.html").is_file() else None

    def record(self, release: Path) -> Record | None:
        """What was written down when the release was installed."""
        try:
            return Record(**json.loads((self.store / f"{release.name}.json").read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def newest(self) -> Path | None:
        """The release that was installed last."""
        found = [(record.installed, path) for path in self._all() if (record := self.record(path))]
        return max(found)[1] if found else None

    def is_whole(self, release: Path, record: Record) -> bool:
        """Whether as many files and bytes are there as were installed."""
        return _measure(release) == (record.files, record.bytes)

    def _all(self) -> Iterator[Path]:
        if self.store.is_dir():
            yield from (path.resolve() for path in self.store.iterdir() if path.is_dir() and path.name[0] != ".")

    # -- installing ----------------------------------------------------------------------------------------------

    def install(self, archive: IO[bytes], digest: str, source: str) -> Record:
        """Check, unpack and switch to the release in `archive`, an open file. Raises Trouble; then nothing has changed.

        A release that is there already and whole is only switched to.
        """
        check_digest(archive, digest)
        if self.folder.exists() and not self.folder.is_symlink():
            raise Trouble(
                t(f"{self.folder} is a folder of its own, so it can't be switched (hint: move it away)",
                  f"{self.folder} ist ein eigener Ordner, darauf lässt sich nicht umschalten (Hinweis: ihn wegschieben)")
            )  # fmt: skip
        self.store.mkdir(mode=0o755, parents=True, exist_ok=True)
        with self._alone():
            known = next(self.store.glob(f"*-{digest[:12]}"), None)
            record = self.record(known) if known else None
            if known is None or record is None or not self.is_whole(known, record):
                known, record = self._unpack(archive, digest, source)
            self._switch(known)
            self._tidy()
        return record

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No two at once; what one that was cut off left is removed."""
        lock = os.open(self.store, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for left in self.store.glob(f"{_SCRATCH}*"):
                shutil.rmtree(left)
            yield
        except BlockingIOError:
            raise Trouble(t("another installation is under way", "eine andere Installation läuft gerade")) from None
        finally:
            os.close(lock)

    def _unpack(self, archive: IO[bytes], digest: str, source: str) -> tuple[Path, Record]:
        scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=self.store))
        try:
            inside = unpack(archive, scratch)
            version = _version(inside)
            _compress(inside)
            files, size = _measure(inside)
            _sync(inside)
            record = Record(version, digest, source, datetime.now(UTC).isoformat(), files, size)
            target = self.store / f"{version}-{digest[:12]}"
            if target.exists():  # damaged: is_whole said so
                target.rename(scratch / "damaged")
            inside.chmod(0o755)
            inside.rename(target)
            note = scratch / "record.json"
            note.write_text(json.dumps(asdict(record), indent=1), "utf-8")
            note.rename(self.store / f"{target.name}.json")
            return target, record
        finally:
            shutil.rmtree(scratch)

    def _switch(self, release: Path) -> None:
        """Atomic: who looks finds the old or the new one."""
        before = self.current()
        if before == release.resolve():
            return
        if before is not None:
            _point(self.former, before)
        _point(self.folder, release)

    def _tidy(self) -> None:
        """Remove what is neither served nor was before."""
        kept = {self.folder.resolve(), self.former.resolve()}
        for release in list(self._all()):
            if release not in kept:
                shutil.rmtree(release)
                (self.store / f"{release.name}.json").unlink(missing_ok=True)


def _point(link: Path, target: Path) -> None:
    new = link.with_name(f".{link.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(os.path.relpath(target.resolve(), link.parent.resolve()))
    new.rename(link)
    sync(link.parent)


# -- the archive -------------------------------------------------------------------------------------------------


def check_digest(archive: IO[bytes], digest: str) -> None:
    """Raises Trouble if the file is another one; leaves it at its beginning."""
    archive.seek(0)
    found = file_digest(archive, "sha256")
    archive.seek(0)
    if found.hexdigest() != digest:
        raise Trouble(
            t(f"the archive's SHA-256 is {found.hexdigest()}, not {digest}: nothing was installed",
              f"die SHA-256-Summe des Archivs ist {found.hexdigest()}, nicht {digest}: nichts wurde installiert")
        )  # fmt: skip


def unpack(archive: IO[bytes], target: Path) -> Path:
    """Unpack a .tar.gz with one folder in it into `target`; that folder. Raises Trouble at the first thing that no release
    has: other than plain files and folders, paths that lead out, too much of anything."""
    names: set[str] = set()
    folders: set[PurePosixPath] = set()
    stream = _Bounded(archive)
    try:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                path = _checked(member, names)
                folders.update((path, *path.parents) if member.isdir() else path.parents)
                if len(names) > MAX_FILES // 2 or len(folders) > MAX_FOLDERS:  # half: compressed copies count, too
                    raise _hostile(t("it holds too many files", "es enthält zu viele Dateien"))
                if member.isdir():
                    (target / path).mkdir(mode=0o755, parents=True, exist_ok=True)
                else:
                    _write(tar, member, target / path)
        stream.expect_the_end()
    except (FileExistsError, NotADirectoryError):
        raise _hostile(t("a path is a file and a folder in it", "ein Pfad ist darin Datei und Ordner")) from None
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, ValueError, OverflowError) as error:
        raise _hostile(t(f"it is no whole .tar.gz ({error})", f"es ist kein ganzes .tar.gz ({error})")) from None
    tops = {name.partition("/")[0] for name in names}
    inside = target / next(iter(tops), "")
    if len(tops) != 1 or not all((inside / name).is_file() for name in _EXPECTED):
        raise _hostile(
            t(f"it is no release of Element Web: one folder with {', '.join(_EXPECTED)} is expected",
              f"es ist keine Ausgabe von Element Web: erwartet wird ein Ordner mit {', '.join(_EXPECTED)}")
        )  # fmt: skip
    return inside


class _Bounded:
    """The unpacked bytes of a gzip file, of which there may be only so many."""

    def __init__(self, archive: IO[bytes]) -> None:
        self._file = gzip.GzipFile(fileobj=archive, mode="rb")
        self._left = MAX_UNPACKED

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise too_large(MAX_UNPACKED)
        return data

    def expect_the_end(self) -> None:
        """tarfile takes the first header that it can't read for the end; what follows there must be padding, and whole."""
        while data := self.read(_PIECE):
            if data.strip(b"\0"):
                raise tarfile.ReadError("there is more behind its end")


def _checked(member: tarfile.TarInfo, names: set[str]) -> PurePosixPath:
    """The member's path, if it is harmless and not yet among `names`."""
    name, shown = member.name, ascii(member.name)[:120]
    path = PurePosixPath(name)
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE) or member.issparse():
        raise _hostile(
            t(f"{shown} is neither a plain file nor a folder", f"{shown} ist weder eine einfache Datei noch ein Ordner")
        )
    harmless = (
        not path.is_absolute()
        and ".." not in path.parts
        and name.isprintable()
        and "\\" not in name
        and 0 < len(path.parts) <= MAX_DEPTH
        and len(name) <= MAX_PATH
        and not any(part.startswith(".") for part in path.parts[:1])
    )
    if not harmless or str(path) in names:
        raise _hostile(t(f"the path {shown} is not acceptable", f"der Pfad {shown} ist nicht annehmbar"))
    names.add(str(path))
    return path


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    source = tar.extractfile(member)
    assert source is not None
    # only what is not there yet, and never through a link; of modes, owners and times in the archive nothing is taken
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644), "wb") as file:
        shutil.copyfileobj(source, file, _PIECE)


def _version(release: Path) -> str:
    found = (release / "version").read_text("utf-8", "replace").strip()
    if not _VERSION.fullmatch(found):
        raise _hostile(t("its file version holds no version", "seine Datei version enthält keine Version"))
    return found


def _compress(release: Path) -> None:
    """Compressed copies beside what is worth it: browsers fetch a third of the bytes."""
    for path in [path for path in release.rglob("*") if path.suffix in _COMPRESSED and path.is_file()]:
        data = path.read_bytes()
        packed = gzip.compress(data, 9, mtime=0) if len(data) >= _MIN_COMPRESSED else data
        if len(packed) < len(data) * 0.9:
            path.with_name(path.name + ".gz").write_bytes(packed)


def _measure(release: Path) -> tuple[int, int]:
    """Files and bytes."""
    sizes = [size for size, _ in read_release(release).files.values()]
    return len(sizes), sum(sizes)


def _sync(release: Path) -> None:
    """To the disk, before anything points to it."""
    for path in [*release.rglob("*"), release]:
        path.chmod(0o755 if path.is_dir() else 0o644)
        sync(path)


def too_large(most: int) -> Trouble:
    """An archive of more than so many bytes, packed or unpacked."""
    return _hostile(t(f"it holds more than {most >> 20} MiB", f"es enthält mehr als {most >> 20} MiB"))


def _hostile(reason: str) -> Trouble:
    return Trouble(t(f"the archive was not installed: {reason}", f"das Archiv wurde nicht installiert: {reason}"))
