"""Files on disk: coming in, named after their content, made durable before anybody hears of them.

    data_dir/media/incoming/            what is being received, or not yet in the database
    data_dir/media/files/ab/ab34...     content by its SHA-256 in hex
    data_dir/media/thumbnails/ab/...    made from it; may be deleted at any time

A file that was received is renamed to its hash within incoming/, linked into files/, and leaves incoming/ only after the
commit. So whatever a crash leaves behind is found in incoming/ at the next start, without looking at anything else.
"""

from __future__ import annotations

import os
import re
import secrets
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from heichat_appliance.errors import storage_failed

log = Logger()
T = TypeVar("T")

#: Threads that read and write files.
THREADS = 4
#: Bytes of one upload that wait for the disk before its sender has to wait.
MAX_WAITING = 256 * 1024

_PLACED = re.compile(r"([0-9a-f]{64})\.[0-9a-f]{16}")


class MediaFiles:
    """The folder of media."""

    def __init__(self, folder: Path, reactor: Any, is_referenced: Callable[[str], bool]) -> None:
        """`is_referenced(sha256)`: does the database have a medium with this content?"""
        self._folder = folder
        self._reactor = reactor
        self._is_referenced = is_referenced
        self._pool = ThreadPool(0, THREADS, name="media")
        #: how many uploads under way have this content: it must not be deleted meanwhile
        self._held: Counter[str] = Counter()

    def start(self) -> None:
        """Make the folders, and remove what uploads left that a crash cut off."""
        for name in ("incoming", "files", "thumbnails"):
            (self._folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in (self._folder / "incoming").iterdir():
            placed = _PLACED.fullmatch(path.name)
            if placed and not self._is_referenced(placed[1]):
                self.path(placed[1]).unlink(missing_ok=True)
            path.unlink()
        self._pool.start()

    def stop(self) -> None:
        """Finish what the threads do."""
        if self._pool.started:
            self._pool.stop()

    def in_thread(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """Run what waits for the disk."""
        return deferToThreadPool(self._reactor, self._pool, function, *args)

    def path(self, digest: str) -> Path:
        """Where content lies."""
        return self._folder / "files" / digest[:2] / digest

    def thumbnail_path(self, digest: str, name: str) -> Path:
        """Where a thumbnail of content lies."""
        return self._folder / "thumbnails" / digest[:2] / f"{digest}-{name}"

    def incoming_path(self, prefix: str = "") -> Path:
        """A new name for a file that is not complete."""
        return self._folder / "incoming" / (prefix + secrets.token_hex(8))

    # -- content that is being stored ----------------------------------------------------------------------------

    def hold(self, digest: str) -> None:
        """Content with this hash is about to be stored."""
        self._held[digest] += 1

    def release(self, digest: str) -> None:
        """It was stored, or could not be: if nobody has it, it is deleted."""
        self._held[digest] -= 1
        if not self._held[digest]:
            del self._held[digest]
            if not self._is_referenced(digest):
                self.path(digest).unlink(missing_ok=True)

    def remove(self, digest: str) -> None:
        """Delete content that nobody has any more, and what was made from it. Waits for the disk."""
        if not self._held[digest] and not self._is_referenced(digest):
            self.path(digest).unlink(missing_ok=True)
        for made in self.thumbnail_path(digest, "").parent.glob(f"{digest}-*"):
            made.unlink(missing_ok=True)


class Incoming:
    """A file that is coming in: it takes the bytes (it is a Sink of the HTTP server) and knows their hash.

    Bytes are hashed and written in a thread. `flow(pause, resume)` sets what is called when the sender must wait.
    """

    def __init__(self, files: MediaFiles, ended: Callable[[], None]) -> None:
        """`ended` is called once, when the file was taken over or is gone."""
        self.size = 0
        self._files = files
        self._ended = ended
        self._path = files.incoming_path()
        self._hash = sha256()
        self._file: int | None = None
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._busy = self._paused = self._gone = False
        self._failure: Failure | None = None
        self._idle: Deferred[None] | None = None
        self._pause: Callable[[], None] = lambda: None
        self._resume: Callable[[], None] = lambda: None

    def flow(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """How to make the sender wait, and go on."""
        self._pause, self._resume = pause, resume

    # -- Sink ----------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Take some bytes."""
        self.size += len(data)
        if self._failure is not None or self._gone:
            return
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        if not self._busy:
            self._work()
        elif self._waiting_bytes >= MAX_WAITING and not self._paused:
            self._paused = True
            self._pause()

    def finished(self) -> None:
        """All bytes are there; `complete` follows."""

    def aborted(self, reason: str) -> None:
        """The sender went away."""
        self.discard()

    # -- what becomes of it --------------------------------------------------------------------------------------

    async def complete(self) -> str:
        """Make the file durable and put it at its place; its hash, which is held (`MediaFiles.hold`).

        Raises 503 if the disk failed. Whatever the outcome, `discard` must be called after the commit.
        """
        await self._until_idle()
        try:
            if self._failure is not None:
                self._failure.raiseException()
            digest = await self._files.in_thread(self._seal)
            self._files.hold(digest)
            try:
                await self._files.in_thread(_place, self._path, self._files.path(digest))
            except OSError:
                self._files.release(digest)
                raise
        except OSError as error:
            log.error("an uploaded file could not be stored: {error}", error=str(error))
            raise storage_failed() from None
        return digest

    def discard(self) -> None:
        """Remove the incoming file; content that was put at its place stays."""
        if not self._gone:
            self._gone = True
            self._waiting.clear()
            self._until_idle().addCallback(lambda _: self._files.in_thread(self._remove)).addBoth(self._removed)

    def _until_idle(self) -> Deferred[None]:
        idle: Deferred[None] = Deferred()
        if self._busy:
            self._idle = idle
        else:
            idle.callback(None)
        return idle

    def _work(self) -> None:
        chunks, self._waiting, self._waiting_bytes = self._waiting, [], 0
        self._busy = True
        self._files.in_thread(self._append, chunks).addBoth(self._worked)

    def _worked(self, result: Any) -> None:
        self._busy = False
        if isinstance(result, Failure):
            self._failure = result
            self._waiting.clear()
        if self._paused:
            self._paused = False
            self._resume()
        if self._waiting:
            if not self._busy:
                self._work()
        elif self._idle is not None and not self._busy:
            idle, self._idle = self._idle, None
            idle.callback(None)

    # -- in a thread ---------------------------------------------------------------------------------------------

    def _append(self, chunks: list[bytes]) -> None:
        if self._file is None:
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        for chunk in chunks:
            self._hash.update(chunk)
            view = memoryview(chunk)
            while view:
                view = view[os.write(self._file, view) :]

    def _seal(self) -> str:
        if self._file is None:
            self._append([])
        assert self._file is not None
        os.fsync(self._file)
        digest = self._hash.hexdigest()
        self._path = self._path.rename(self._files.incoming_path(f"{digest}."))
        return digest

    def _remove(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._path.unlink(missing_ok=True)

    def _removed(self, result: Any) -> None:
        if isinstance(result, Failure):
            log.failure("an incoming file could not be removed; the next start does it", result)
        self._ended()


def _place(source: Path, target: Path) -> None:
    """Link a complete file to its place, durably; that the same content is there already is fine."""
    target.parent.mkdir(mode=0o700, exist_ok=True)
    with suppress(FileExistsError):
        os.link(source, target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
