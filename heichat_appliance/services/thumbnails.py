"""Thumbnails: made by Pillow in a thread, one at a time, and kept on disk (client-server API "Thumbnails").

The sizes are rounded up to a few, so that nobody can fill the disk by asking for all there are. What is made never moves.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageOps
from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from heichat_appliance.errors import MatrixError, limit_exceeded
from heichat_appliance.services.media_files import MediaFiles

log = Logger()

METHODS = ("scale", "crop")
#: Boxes that a thumbnail is scaled into: the spec's three, one for large screens, one for what is larger still.
SCALED = ((320, 240), (640, 480), (800, 600), (1600, 1200), (10_000, 10_000))
#: The longer side of a thumbnail that is cropped; the shorter one is some eighths of it.
CROPPED = (32, 96, 240, 480, 960, 10_000)
#: The most pixels of an image that is opened: beyond that lie mistakes and decompression bombs.
MAX_PIXELS = 64_000_000
#: The most pixels that are decoded (4 bytes each): of a JPEG that needs to be a part of them only.
MAX_DECODED = 25_000_000
#: The most images that wait for the thread.
MAX_WAITING = 200
MAX_KNOWN = 10_000
QUALITY = 82
#: Colour profiles larger than this are left out.
MAX_PROFILE = 16 * 1024
FORMATS = ("JPEG", "PNG", "GIF", "WEBP")

Image.MAX_IMAGE_PIXELS = None  # MAX_PIXELS is stricter, and refuses where this would but warn


class Thumbnail(NamedTuple):
    """A thumbnail on disk, or the content itself if that will do."""

    path: Path
    content_type: str


#: Hash, width, height, method, whether it may move.
_Key = tuple[str, int, int, str, bool]


class Thumbnails:
    """Makes and finds thumbnails."""

    def __init__(self, files: MediaFiles, reactor: Any) -> None:
        self._files = files
        self._reactor = reactor
        self._pool = ThreadPool(0, 1, name="thumbnails")
        self._known: OrderedDict[_Key, Thumbnail | MatrixError] = OrderedDict()
        self._making: dict[_Key, list[Deferred[Thumbnail]]] = {}

    def start(self) -> None:
        """Ready to make some."""
        self._pool.start()

    def stop(self) -> None:
        """Finish the one in work."""
        if self._pool.started:
            self._pool.stop()

    def get(self, digest: str, width: int, height: int, method: str, animated: bool) -> Deferred[Thumbnail]:
        """A thumbnail of the content `digest` of at least this size, or the content itself if that is small enough.

        `animated`: the content itself may be given though it moves. Fails with 400 M_UNKNOWN if it is no image of a
        known kind, 413 M_TOO_LARGE if it has too many pixels, 429 if too many wait.
        """
        key = (digest, *_box(width, height, method), method, animated)
        known = self._known.get(key)
        if isinstance(known, MatrixError):
            raise MatrixError(known.status, known.errcode, known.message)
        if known is not None and known.path.exists():
            self._known.move_to_end(key)
            return succeed(known)
        waiter: Deferred[Thumbnail] = Deferred()
        if key in self._making:
            self._making[key].append(waiter)
            return waiter
        if len(self._making) >= MAX_WAITING:
            raise limit_exceeded(5000)
        self._making[key] = [waiter]
        deferToThreadPool(self._reactor, self._pool, self._make, *key).addBoth(self._made, key)
        return waiter

    def _made(self, result: Any, key: _Key) -> None:
        if isinstance(result, Failure) and not result.check(MatrixError):
            log.failure("a thumbnail could not be made", result)
        else:
            self._known[key] = result.value.with_traceback(None) if isinstance(result, Failure) else result
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
        for waiter in self._making.pop(key):
            waiter.callback(result)  # a Failure becomes its error

    # -- in the thread -------------------------------------------------------------------------------------------

    def _make(self, digest: str, width: int, height: int, method: str, animated: bool) -> Thumbnail:
        content = self._files.path(digest)
        try:
            with Image.open(content, formats=FORMATS) as image:
                _check_pixels(image, MAX_PIXELS)
                moves = getattr(image, "is_animated", False)
                small = image.width <= width and image.height <= height
                if (small and not moves) or (animated and moves):
                    return Thumbnail(content, image.get_format_mimetype() or "image/jpeg")
                for kind in ("jpeg", "png"):
                    made = self._target(digest, width, height, method, kind)
                    if made.exists():
                        return Thumbnail(made, f"image/{kind}")
                small_image = _shrunk(image, width, height, method)
        except MatrixError:
            raise
        except Exception as error:  # a broken file makes a decoder raise anything
            raise MatrixError(400, "M_UNKNOWN", f"this file is no image to make thumbnails of ({type(error).__name__})")
        return self._save(small_image, digest, width, height, method)

    def _save(self, image: Image.Image, digest: str, width: int, height: int, method: str) -> Thumbnail:
        kind = "png" if image.mode == "RGBA" else "jpeg"
        target = self._target(digest, width, height, method, kind)
        incoming = self._files.incoming_path()
        options: dict[str, Any] = {"quality": QUALITY} if kind == "jpeg" else {}
        profile = image.info.get("icc_profile")
        keep = bool(profile) and len(profile) <= MAX_PROFILE
        image.info.clear()
        image.save(incoming, kind, icc_profile=profile if keep else None, **options)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        incoming.replace(target)
        return Thumbnail(target, f"image/{kind}")

    def _target(self, digest: str, width: int, height: int, method: str, kind: str) -> Path:
        return self._files.thumbnail_path(digest, f"{width}x{height}-{method}.{kind}")


def _box(width: int, height: int, method: str) -> tuple[int, int]:
    """The size that is made for a wish: at least as large where there is one."""
    if method == "scale":
        return next(((w, h) for w, h in SCALED if w >= width and h >= height), SCALED[-1])
    longer, shorter = max(width, height), min(width, height)
    side = next((side for side in CROPPED if side >= longer), CROPPED[-1])
    short = side * -(-8 * shorter // longer) // 8
    return (side, short) if width >= height else (short, side)


def _check_pixels(image: Image.Image, limit: int) -> None:
    if image.width * image.height > limit:
        raise MatrixError(413, "M_TOO_LARGE", "this image has too many pixels / dieses Bild hat zu viele Bildpunkte")


def _shrunk(image: Image.Image, width: int, height: int, method: str) -> Image.Image:
    """The first picture of an image, upright, in RGB or RGBA; never larger than it was."""
    if image.format == "JPEG":
        turned = image.getexif().get(0x0112, 1) >= 5
        wide, high = (height, width) if turned else (width, height)
        image.draft("RGB", _needed(image.size, wide, high, method))
    _check_pixels(image, MAX_DECODED)
    profile = image.info.get("icc_profile") if image.mode in ("RGB", "RGBA", "P") else None
    ImageOps.exif_transpose(image, in_place=True)
    clear = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    plain = image.convert("RGBA" if clear else "RGB")
    plain.info = {"icc_profile": profile} if profile else {}
    if method == "scale":
        plain.thumbnail((width, height), Image.Resampling.LANCZOS)
        return plain
    scale = max(width / plain.width, height / plain.height)
    if scale < 1:
        return ImageOps.fit(plain, (width, height), Image.Resampling.LANCZOS)
    return ImageOps.fit(plain, (min(width, round(width / scale)), min(height, round(height / scale))))


def _needed(size: tuple[int, int], width: int, height: int, method: str) -> tuple[int, int]:
    """The size that a decoder must at least give, as it may skip what is beyond that (JPEG)."""
    choose = min if method == "scale" else max
    scale = choose(width / size[0], height / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
