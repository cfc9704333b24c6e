"""Uploading and finding files (client-server API "Content repository").

An upload is admitted before its body: it reserves what it may take of the person's quota, so that many at once can't
take more than there is. What was announced (POST /create) and has not come makes those who ask for it wait.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from heichat_appliance.clock import Clock
from heichat_appliance.db.engine import Engine, Transaction
from heichat_appliance.errors import MatrixError, forbidden, invalid_param, limit_exceeded, not_found
from heichat_appliance.ids import new_token
from heichat_appliance.services.media_files import Incoming, MediaFiles
from heichat_appliance.store import media as store
from heichat_appliance.store.media import Content, Medium

#: How long an announced upload may take to come, and how many of one person may be awaited.
ANNOUNCED_MS = 24 * 3600 * 1000
MAX_ANNOUNCED = 20
#: The longest that somebody may wait for an announced upload, in ms.
MAX_WAIT_MS = 60_000
#: The most characters of a file's name.
MAX_NAME = 255
UNKNOWN_TYPE = "application/octet-stream"

_MEDIA_ID = re.compile(r"[A-Za-z0-9_\-]{1,255}")
_TYPE = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+/[!#$%&'*+\-.^_`|~0-9A-Za-z]+[ ]*(;[\x20-\x7e]*)?")
#: Control characters, those that turn the direction of writing, and what separates folders.
_UNSAFE = re.compile("[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff/\\\\]")


class Upload(Incoming):
    """An upload on its way: whose, and under which ID (None: a new one)."""

    def __init__(self, media: Media, user_id: str, media_id: str | None, reserved: int) -> None:
        self.user_id = user_id
        self.media_id = media_id
        self._media = media
        self._reserved = reserved
        super().__init__(media.files, self.settle)

    def settle(self) -> None:
        """Give back what was reserved: the file counts as used from now on, or it is gone."""
        reserved, self._reserved = self._reserved, 0
        self._media.unreserve(self.user_id, reserved)


class Media:
    """The media of this server's people. `files` is where their content lies."""

    def __init__(
        self, engine: Engine, clock: Clock, reactor: IReactorTime, server_name: str, folder: Path, *,
        max_size: int, quota: int,
    ) -> None:  # fmt: skip
        """`max_size`: bytes of one file; `quota`: bytes of one person's files together."""
        self._engine = engine
        self._clock = clock
        self._reactor = reactor
        self._server_name = server_name
        self.max_size = max_size
        self._quota = quota
        self._reserved: Counter[str] = Counter()
        self._awaited: dict[str, set[Deferred[None]]] = {}
        self.files = MediaFiles(folder, reactor, lambda digest: store.is_referenced(engine.read, digest))

    def start(self) -> None:
        """Open the folder."""
        self.files.start()

    def release_waiting(self) -> None:
        """For the stop: whoever waits for an announced upload gets an answer."""
        for media_id in list(self._awaited):
            self._wake(media_id)

    def stop(self) -> None:
        """Finish what is being written."""
        self.files.stop()

    # -- uploading -----------------------------------------------------------------------------------------------

    def begin(self, user_id: str, length: int | None) -> Upload:
        """Admit an upload of `length` bytes (None: not known).

        413 M_TOO_LARGE if these are too many for one file, 403 M_FORBIDDEN if the quota does not suffice.
        """
        return self._begin(user_id, None, length)

    def begin_announced(self, user_id: str, server_name: str, media_id: str, length: int | None) -> Upload:
        """Admit the upload of an announced medium.

        404 M_NOT_FOUND if there is none or it has expired, 403 M_FORBIDDEN if somebody else announced it, 409
        M_CANNOT_OVERWRITE_MEDIA if it was uploaded before; and as `begin`.
        """
        medium = self._get(server_name, media_id)
        self._check_announced(medium, user_id)
        return self._begin(user_id, media_id, length)

    def _begin(self, user_id: str, media_id: str | None, length: int | None) -> Upload:
        if length is not None and length > self.max_size:
            raise _too_large(self.max_size)
        reserved = store.counted(self.max_size if length is None else length)
        if store.used(self._engine.read, user_id) + self._reserved[user_id] + reserved > self._quota:
            raise _quota_used_up()
        self._reserved[user_id] += reserved
        return Upload(self, user_id, media_id, reserved)

    def unreserve(self, user_id: str, reserved: int) -> None:
        """For uploads: this one is over, or counted."""
        self._reserved[user_id] -= reserved
        if not self._reserved[user_id]:
            del self._reserved[user_id]

    async def finish(self, upload: Upload, content_type: str | None, file_name: str | None) -> str:
        """Store what an upload brought; its mxc URI.

        `content_type` as its sender gave it; `file_name` of `clean_name`. Raises 503 if it could not be stored, and as
        `begin_announced`; then nothing of it is left.
        """
        try:
            digest = await upload.complete()
            try:
                content = Content(digest, upload.size, _clean_type(content_type), file_name)
                media_id: str = await self._engine.write(self._store, upload.user_id, upload.media_id, content)
                upload.settle()
            finally:
                self.files.release(digest)
        finally:
            upload.discard()
        self._wake(media_id)
        return self._uri(media_id)

    def _store(self, tx: Transaction, user_id: str, media_id: str | None, content: Content) -> str:
        if media_id is None:
            media_id = new_token(24)
        else:
            self._check_announced(store.get(tx.execute, media_id), user_id)
        store.put(tx, media_id, user_id, self._clock.now_ms(), content)
        return media_id

    def create(self, user_id: str) -> Deferred[tuple[str, int]]:
        """Announce an upload: its mxc URI, and until when (ms since 1970) it must come. 429 if too many are awaited."""
        return self._engine.write(self._create, user_id, self._clock.now_ms())

    def _create(self, tx: Transaction, user_id: str, now: int) -> tuple[str, int]:
        store.delete_expired(tx, user_id, now)
        expiries = store.announced(tx.execute, user_id)
        if len(expiries) >= MAX_ANNOUNCED:
            raise limit_exceeded(expiries[0] - now)
        media_id, expires = new_token(24), now + ANNOUNCED_MS
        store.announce(tx, media_id, user_id, now, expires)
        return self._uri(media_id), expires

    def _check_announced(self, medium: Medium | None, user_id: str) -> None:
        if medium is None or (medium.expires_ts is not None and medium.expires_ts <= self._clock.now_ms()):
            raise _no_medium()
        if medium.user_id != user_id:
            raise forbidden("somebody else announced this upload / Diesen Upload hat jemand anders angekündigt")
        if medium.sha256 is not None:
            raise MatrixError(409, "M_CANNOT_OVERWRITE_MEDIA", "there is a file under this ID already")

    def _uri(self, media_id: str) -> str:
        return f"mxc://{self._server_name}/{media_id}"

    # -- finding -------------------------------------------------------------------------------------------------

    async def find(self, server_name: str, media_id: str, wait_ms: int) -> Content:
        """A medium's content, waiting for an announced upload up to `wait_ms` (and MAX_WAIT_MS).

        404 M_NOT_FOUND if there is none here; 504 M_NOT_YET_UPLOADED if it has not come.
        """
        medium = self._get(server_name, media_id)
        if medium is not None and medium.sha256 is None and wait_ms > 0:
            await self._wait(media_id, min(wait_ms, MAX_WAIT_MS))
            medium = self._get(server_name, media_id)
        if medium is None or (medium.expires_ts is not None and medium.expires_ts <= self._clock.now_ms()):
            raise _no_medium()
        if medium.sha256 is None or medium.size is None or medium.content_type is None:
            raise MatrixError(504, "M_NOT_YET_UPLOADED", "this file has been announced, but has not been uploaded yet")
        return Content(medium.sha256, medium.size, medium.content_type, medium.file_name)

    def _get(self, server_name: str, media_id: str) -> Medium | None:
        if server_name.lower() != self._server_name or not _MEDIA_ID.fullmatch(media_id):
            return None
        return store.get(self._engine.read, media_id)

    async def _wait(self, media_id: str, wait_ms: int) -> None:
        waiter: Deferred[None] = Deferred()
        timer = self._reactor.callLater(wait_ms / 1000, waiter.callback, None)
        self._awaited.setdefault(media_id, set()).add(waiter)
        try:
            await waiter
        finally:
            if timer.active():
                timer.cancel()
            waiters = self._awaited.get(media_id, set())
            waiters.discard(waiter)
            if not waiters:
                self._awaited.pop(media_id, None)

    def _wake(self, media_id: str) -> None:
        for waiter in self._awaited.pop(media_id, set()):
            waiter.callback(None)


def clean_name(name: str | None) -> str | None:
    """A file's name without what could harm whoever saves it; None for no name. 400 M_INVALID_PARAM if it is too long."""
    if name is None:
        return None
    if len(name) > MAX_NAME:
        raise invalid_param(f"filename must not be longer than {MAX_NAME} characters")
    return _UNSAFE.sub("_", name).strip() or None


def _clean_type(content_type: str | None) -> str:
    known = content_type is not None and len(content_type) <= 255 and _TYPE.fullmatch(content_type)
    return content_type if known and content_type is not None else UNKNOWN_TYPE


def _no_medium() -> MatrixError:
    return not_found("there is no such file here / Diese Datei gibt es hier nicht")


def _too_large(limit: int) -> MatrixError:
    return MatrixError(
        413, "M_TOO_LARGE",
        f"a file may have at most {limit} bytes / eine Datei darf höchstens {limit} Bytes haben",
    )  # fmt: skip


def _quota_used_up() -> MatrixError:
    return forbidden(
        "Your files would take more space than each person has here. / "
        "Ihre Dateien würden mehr Platz belegen, als hier jede Person hat."
    )
