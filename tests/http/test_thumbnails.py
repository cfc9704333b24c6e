"""Thumbnails over real HTTP, of real images."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import pytest
import pytest_twisted
from PIL import Image
from twisted.internet import defer

from tests.appliance import Appliance
from tests.http.test_media import DOWNLOAD, upload

THUMBNAIL = "/_matrix/client/v1/media/thumbnail"
RED, BLUE, CLEAR = (200, 0, 0), (0, 0, 200), (0, 0, 0, 0)


@pytest_twisted.async_yield_fixture
async def server(tmp_path):
    running = await Appliance.start(tmp_path)
    yield running
    await running.stop()


def halves(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new(mode, (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    out = BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


async def thumbnail(actor, place: str, **params):
    """The answer, which must be an image, and the image."""
    answer = await actor.get(f"{THUMBNAIL}/{place}", **params)
    assert answer.status == 200, answer.json
    image = Image.open(BytesIO(answer.body))
    assert answer.headers["content-type"] == image.get_format_mimetype()
    kind = answer.headers["content-type"].removeprefix("image/")
    assert answer.headers["content-disposition"] == f'inline; filename="thumbnail.{kind}"'
    assert answer.headers["content-security-policy"].startswith("sandbox;")
    return answer, image


@pytest.mark.parametrize(
    ("size", "wish", "method", "made"),
    [
        ((4000, 3000), (800, 600), "scale", (800, 600)),
        ((4000, 3000), (801, 600), "scale", (1600, 1200)),
        ((4000, 3000), (1, 1), "scale", (320, 240)),
        ((1000, 100), (320, 240), "scale", (320, 32)),
        ((100, 1000), (320, 240), "scale", (24, 240)),
        ((4000, 3000), (32, 32), "crop", (32, 32)),
        ((4000, 3000), (33, 33), "crop", (96, 96)),
        ((4000, 3000), (96, 48), "crop", (96, 48)),
        ((4000, 3000), (60, 96), "crop", (60, 96)),
        ((100, 50), (96, 96), "crop", (50, 50)),
        ((50, 40), (96, 96), "crop", (50, 40)),
        ((50, 40), (320, 240), "scale", (50, 40)),
        ((1700, 1300), (2000, 2000), "scale", (1700, 1300)),
    ],
)
@pytest_twisted.ensureDeferred
async def test_sizes(server, size, wish, method, made):
    alice = await server.login("alice")
    place = await upload(alice, encoded(halves(*size), "JPEG"), "image/jpeg")
    _, image = await thumbnail(alice, place, width=wish[0], height=wish[1], method=method)
    assert (image.format, image.size) == ("JPEG", made)
    left, right = image.getpixel((0, 0)), image.getpixel((image.width - 1, image.height - 1))
    assert left[0] > 150 > left[2]
    assert right[2] > 150 > right[0]


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "JPEG"])
@pytest_twisted.ensureDeferred
async def test_kinds(server, kind):
    alice = await server.login("alice")
    place = await upload(alice, encoded(halves(500, 500), kind), "application/octet-stream")
    _, image = await thumbnail(alice, place, width=96, height=96, method="crop")
    assert (image.format, image.size) == ("JPEG", (96, 96))
    answer, _ = await thumbnail(alice, place, width=600, height=600)
    assert answer.body == (await alice.get(f"{DOWNLOAD}/{place}")).body  # small enough: the content itself
    assert answer.headers["content-type"] == f"image/{kind.lower()}"


@pytest_twisted.ensureDeferred
async def test_what_is_clear_stays_clear(server):
    alice = await server.login("alice")
    image = halves(500, 500, "RGBA")
    image.paste(CLEAR, (0, 0, 250, 500))
    for kind in ("PNG", "WEBP", "GIF"):
        place = await upload(alice, encoded(image, kind), f"image/{kind}")
        _, made = await thumbnail(alice, place, width=96, height=96, method="crop")
        assert made.format == "PNG"
        assert made.convert("RGBA").getpixel((10, 10))[3] == 0


@pytest_twisted.ensureDeferred
async def test_photographs_stand_upright_and_tell_nothing_else(server):
    alice = await server.login("alice")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    exif[0x010E] = "taken at home"
    place = await upload(alice, encoded(halves(2000, 1000), "JPEG", exif=exif), "image/jpeg")
    answer, image = await thumbnail(alice, place, width=320, height=240)
    assert image.size == (120, 240)
    assert image.getpixel((60, 10))[0] > 150
    assert image.getpixel((60, 230))[2] > 150
    assert not image.getexif()
    assert b"home" not in answer.body


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
@pytest_twisted.ensureDeferred
async def test_moving_images_stand_still_unless_asked_to_move(server, kind):
    alice = await server.login("alice")
    frames = [Image.new("RGB", (200, 200), color) for color in (RED, BLUE)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)
    place = await upload(alice, data, f"image/{kind}")
    for params in ({"animated": "false"}, {}):
        for side in (96, 400):
            _, image = await thumbnail(alice, place, width=side, height=side, method="crop", **params)
            assert not getattr(image, "is_animated", False)
    answer, image = await thumbnail(alice, place, width=96, height=96, method="crop", animated="true")
    assert (image.is_animated, answer.body) == (True, data)


@pytest_twisted.ensureDeferred
async def test_what_was_made_is_kept_and_made_again_when_lost(server):
    alice = await server.login("alice")
    place = await upload(alice, encoded(halves(1000, 1000), "PNG"), "image/png")
    asking = [defer.ensureDeferred(thumbnail(alice, place, width=96, height=96, method="crop")) for _ in range(5)]
    answers = [answer.body for answer, _ in await defer.gatherResults(asking)]
    assert len(set(answers)) == 1
    folder = server.daemon.data_dir / "media" / "thumbnails"
    kept = [path for path in folder.rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in kept] == answers[:1]
    kept[0].unlink()
    answer, _ = await thumbnail(alice, place, width=96, height=96, method="crop")
    assert answer.body == answers[0]
    tag = {"If-None-Match": answer.headers["etag"]}
    path = f"{THUMBNAIL}/{place}?width=90&height=90&method=crop"
    assert (await alice.request("GET", path, headers=tag)).status == 304


def png_of(width: int, height: int) -> bytes:
    """A small file that claims, truthfully or not, to be a large image."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "status", "errcode"),
    [
        (b"", 400, "M_UNKNOWN"),
        (b"no image at all", 400, "M_UNKNOWN"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 400, "M_UNKNOWN"),
        (encoded(halves(500, 500), "BMP"), 400, "M_UNKNOWN"),
        (encoded(halves(500, 500), "JPEG")[:1000], 400, "M_UNKNOWN"),
        (png_of(1000, 1000), 400, "M_UNKNOWN"),
        (png_of(60_000, 60_000), 413, "M_TOO_LARGE"),
        (png_of(6000, 6000), 413, "M_TOO_LARGE"),
    ],
    ids=["empty", "text", "svg", "bmp", "cut", "short", "bomb", "large"],
)
@pytest_twisted.ensureDeferred
async def test_what_is_no_image_or_too_large(server, data, status, errcode):
    alice = await server.login("alice")
    place = await upload(alice, data, "image/png")
    for _ in range(2):  # the second time it is known
        answer = await alice.get(f"{THUMBNAIL}/{place}", width=96, height=96)
        assert (answer.status, answer.errcode) == (status, errcode)


@pytest.mark.parametrize(
    ("params", "errcode"),
    [
        ({}, "M_MISSING_PARAM"),
        ({"width": 96}, "M_MISSING_PARAM"),
        ({"width": "a", "height": 96}, "M_INVALID_PARAM"),
        ({"width": "1.5", "height": 96}, "M_INVALID_PARAM"),
        ({"width": 0, "height": 96}, "M_INVALID_PARAM"),
        ({"width": -5, "height": 96}, "M_INVALID_PARAM"),
        ({"width": 96, "height": 96, "method": "stretch"}, "M_INVALID_PARAM"),
        ({"width": 96, "height": 96, "animated": "maybe"}, "M_INVALID_PARAM"),
        ({"width": 96, "height": 96, "timeout_ms": "soon"}, "M_INVALID_PARAM"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_bad_wishes(server, params, errcode):
    alice = await server.login("alice")
    place = await upload(alice, encoded(halves(100, 100), "PNG"), "image/png")
    answer = await alice.get(f"{THUMBNAIL}/{place}", **params)
    assert (answer.status, answer.errcode) == (400, errcode)
