"""Uploading and downloading over real HTTP."""

from __future__ import annotations

import base64
import hashlib
import socket
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import defer, reactor, task

from heichat_appliance.services.media import ANNOUNCED_MS, MAX_ANNOUNCED
from tests.appliance import SERVER_NAME, Appliance, ManualClock, q

UPLOAD = "/_matrix/media/v3/upload"
CREATE = "/_matrix/media/v1/create"
DOWNLOAD = "/_matrix/client/v1/media/download"
QUOTA = 3 * 2**20
MAX_SIZE = 2 * 2**20
PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)


@pytest_twisted.async_yield_fixture
async def server(tmp_path):
    clock = ManualClock()
    config = {"limits": {"max_upload_size": "2M"}, "media": {"quota_per_person": "3M"}}
    running = await Appliance.start(tmp_path, config=config, clock=clock)
    running.clock = clock
    yield running
    await running.stop()


def folder(server: Appliance) -> Path:
    return server.daemon.data_dir / "media"


def contents(server: Appliance) -> list[str]:
    """The names of the files that are kept, and of those that are coming in."""
    found = [*(folder(server) / "files").rglob("*"), *(folder(server) / "incoming").iterdir()]
    return sorted(path.name for path in found if path.is_file())


async def upload(actor, data: bytes, content_type: str | None = "text/plain", name: str | None = None) -> str:
    """Upload; server name and media ID with a slash between."""
    path = UPLOAD + (f"?filename={q(name)}" if name is not None else "")
    headers = {"Content-Type": content_type} if content_type is not None else {}
    answer = actor.ok(await actor.request("POST", path, raw=data, headers=headers))
    assert set(answer) == {"content_uri"}
    assert answer["content_uri"].startswith(f"mxc://{SERVER_NAME}/")
    return answer["content_uri"].removeprefix("mxc://")


async def until(condition) -> None:
    """Wait until a condition holds."""
    for _ in range(2000):
        if condition():
            return
        await task.deferLater(reactor, 0.005, lambda: None)
    raise AssertionError("it did not come")


async def until_kept(server: Appliance, names: list[str]) -> None:
    """Wait until exactly these files are kept, and none is coming in (that is tidied up after the answer)."""
    await until(lambda: contents(server) == names)


@pytest_twisted.ensureDeferred
async def test_what_was_uploaded_can_be_downloaded_by_others(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    for size in (0, 1, 1000, 131_072, 131_073, 1_500_000):
        data = hashlib.shake_128(b"%d" % size).digest(size)
        place = await upload(alice, data, "application/pdf", "War and Peace.pdf")
        answer = await bob.get(f"{DOWNLOAD}/{place}")
        assert (answer.status, answer.body) == (200, data)
        assert answer.headers["content-type"] == "application/pdf"
        assert answer.headers["content-disposition"] == 'attachment; filename="War and Peace.pdf"'


@pytest_twisted.ensureDeferred
async def test_downloads_carry_the_headers_that_keep_browsers_safe(server):
    alice = await server.login("alice")
    headers = (await alice.get(f"{DOWNLOAD}/{await upload(alice, b'hi')}")).headers
    assert headers["content-security-policy"].startswith("sandbox; default-src 'none'; script-src 'none';")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "cross-origin"
    assert headers["access-control-allow-origin"] == "*"
    assert headers["cache-control"] == "private, max-age=86400"


@pytest.mark.parametrize(
    ("content_type", "told", "kind"),
    [
        ("image/png", "image/png", "inline"),
        ("text/plain; charset=utf-8", "text/plain; charset=utf-8", "inline"),
        ("IMAGE/PNG", "IMAGE/PNG", "inline"),
        ("text/html", "text/html", "attachment"),
        ("image/svg+xml", "image/svg+xml", "attachment"),
        ("text/plain/x", "application/octet-stream", "attachment"),
        ("nonsense", "application/octet-stream", "attachment"),
        ("text/plain" + "x" * 250, "application/octet-stream", "attachment"),
        (None, "application/octet-stream", "attachment"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_types_are_shown_in_place_only_where_that_is_safe(server, content_type, told, kind):
    alice = await server.login("alice")
    answer = await alice.get(f"{DOWNLOAD}/{await upload(alice, b'hi', content_type)}")
    assert answer.headers["content-type"] == told
    assert answer.headers["content-disposition"] == kind


@pytest.mark.parametrize(
    ("name", "disposition"),
    [
        ("a b.txt", 'filename="a b.txt"'),
        ("Übung 3.txt", "filename=\"_bung 3.txt\"; filename*=UTF-8''%C3%9Cbung%203.txt"),
        ('say "hi".txt', "filename=\"say _hi_.txt\"; filename*=UTF-8''say%20%22hi%22.txt"),
        ("100%.txt", "filename=\"100_.txt\"; filename*=UTF-8''100%25.txt"),
        ("../../etc/passwd", 'filename=".._.._etc_passwd"'),
        ("a\r\nSet-Cookie: x", 'filename="a__Set-Cookie: x"'),
        ("invoice\u202efdp.exe", 'filename="invoice_fdp.exe"'),
        ("", None),
        ("  ", None),
    ],
)
@pytest_twisted.ensureDeferred
async def test_file_names_are_kept_but_harm_nobody(server, name, disposition):
    alice = await server.login("alice")
    place = await upload(alice, b"hi", "text/plain", name)
    wanted = "inline" if disposition is None else f"inline; {disposition}"
    assert (await alice.get(f"{DOWNLOAD}/{place}")).headers["content-disposition"] == wanted
    if disposition is not None:
        other = await alice.get(f"{DOWNLOAD}/{await upload(alice, b'hi', 'text/plain', 'x')}/{q(name)}")
        assert other.headers["content-disposition"] == wanted


@pytest_twisted.ensureDeferred
async def test_a_name_that_is_too_long_is_refused_before_the_body(server):
    alice = await server.login("alice")
    answer = await alice.request("POST", f"{UPLOAD}?filename={'x' * 256}", raw=b"hi")
    assert (answer.status, answer.errcode) == (400, "M_INVALID_PARAM")
    await until_kept(server, [])


# -- what is not there ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place", [f"{SERVER_NAME}/nothing", "elsewhere.example/abc", f"{SERVER_NAME}/%2e%2e%2fx", f"{SERVER_NAME}/a%20b"]
)
@pytest_twisted.ensureDeferred
async def test_unknown_media_are_not_found(server, place):
    alice = await server.login("alice")
    for path in (f"{DOWNLOAD}/{place}", f"{DOWNLOAD}/{place}/name.txt",
                 f"/_matrix/client/v1/media/thumbnail/{place}?width=32&height=32"):  # fmt: skip
        answer = await alice.get(path)
        assert (answer.status, answer.errcode) == (404, "M_NOT_FOUND")


@pytest_twisted.ensureDeferred
async def test_the_operations_without_login_are_frozen(server):
    alice = await server.login("alice")
    place = await upload(alice, b"hi")
    for http in (alice, server.http):
        for path in (f"download/{place}", f"download/{place}/x.txt", f"thumbnail/{place}?width=32&height=32"):
            answer = await http.get(f"/_matrix/media/v3/{path}")
            assert (answer.status, answer.errcode) == (404, "M_NOT_FOUND")


@pytest_twisted.ensureDeferred
async def test_the_operations_without_login_work_where_they_are_switched_on(tmp_path):
    config = {"media": {"unauthenticated_downloads": "yes"}, "limits": {"enabled": "yes", "media_burst": "6"}}
    server = await Appliance.start(tmp_path, config=config, clock=ManualClock())
    alice = await server.login("alice")
    place = await upload(alice, PICTURE, "image/png", "a.png")
    for path in (f"download/{place}", f"download/{place}/b.png", f"thumbnail/{place}?width=32&height=32"):
        theirs = await alice.get(f"/_matrix/client/v1/media/{path}")
        mark = "&" if "?" in path else "?"
        answer = await server.http.get(f"/_matrix/media/v3/{path}{mark}allow_remote=maybe&allow_redirect=true")
        assert (answer.status, answer.body) == (200, theirs.body)
        assert answer.headers | {"date": ""} == theirs.headers | {"date": ""}
    assert (await server.http.get(f"/_matrix/media/r0/download/{place}")).body == PICTURE
    missing = await server.http.get(f"/_matrix/media/v3/download/{SERVER_NAME}/none")
    assert (missing.status, missing.errcode) == (404, "M_NOT_FOUND")
    bad = await server.http.get(f"/_matrix/media/v3/thumbnail/{place}?width=32")
    assert (bad.status, bad.errcode) == (400, "M_MISSING_PARAM")
    limited = await server.http.get(f"/_matrix/media/v3/download/{place}")
    assert (limited.status, limited.errcode) == (429, "M_LIMIT_EXCEEDED")
    await server.stop()


@pytest_twisted.ensureDeferred
async def test_everything_needs_a_login(server):
    alice = await server.login("alice")
    place = await upload(alice, b"hi")
    for method, path in (
        ("GET", f"{DOWNLOAD}/{place}"),
        ("GET", f"/_matrix/client/v1/media/thumbnail/{place}?width=1&height=1"),
        ("GET", "/_matrix/client/v1/media/config"),
        ("GET", "/_matrix/media/v3/config"),
        ("POST", UPLOAD),
        ("POST", CREATE),
        ("PUT", f"{UPLOAD}/{place}"),
    ):
        answer = await server.http.request(method, path)
        assert (answer.status, answer.errcode) == (401, "M_MISSING_TOKEN"), path


@pytest_twisted.ensureDeferred
async def test_config_tells_the_limit(server):
    alice = await server.login("alice")
    for path in ("/_matrix/client/v1/media/config", "/_matrix/media/v3/config"):
        assert alice.ok(await alice.get(path)) == {"m.upload.size": MAX_SIZE}


# -- validators and ranges -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1000, 500_000])
@pytest_twisted.ensureDeferred
async def test_ranges(server, size):
    alice = await server.login("alice")
    data = hashlib.shake_128(b"range").digest(size)
    path = f"{DOWNLOAD}/{await upload(alice, data)}"
    tag = (await alice.get(path)).headers["etag"]

    async def get(**headers):
        return await alice.request("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})

    for header, start, end in (
        ("bytes=0-0", 0, 1),
        ("bytes=100-199", 100, 200),
        ("bytes=900-", 900, size),
        ("bytes=-10", size - 10, size),
        (f"bytes=990-{size + 5}", 990, size),
        (f"bytes=-{size + 5}", 0, size),
    ):
        answer = await get(Range=header)
        assert answer.body == data[start:end], header
        if end - start < size:
            assert answer.status == 206
            assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
    for header in ("bytes=5-1", "bytes=0-1,5-6", "pages=1-2", "bytes=x"):
        answer = await get(Range=header)
        assert (answer.status, answer.body) == (200, data), header
    answer = await get(Range=f"bytes={size}-")
    assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{size}")
    assert (await get(Range="bytes=0-0", If_Range=tag)).status == 206
    assert (await get(Range="bytes=0-0", If_Range='"old"')).status == 200


@pytest_twisted.ensureDeferred
async def test_what_a_client_has_is_not_sent_again(server):
    alice = await server.login("alice")
    path = f"{DOWNLOAD}/{await upload(alice, b'hi')}"
    tag = (await alice.get(path)).headers["etag"]
    for header in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = await alice.request("GET", path, headers={"If-None-Match": header})
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", tag)
    assert (await alice.request("GET", path, headers={"If-None-Match": '"other"'})).status == 200


@pytest_twisted.ensureDeferred
async def test_head_tells_the_length(server):
    alice = await server.login("alice")
    for size in (10, 500_000):
        answer = await alice.request("HEAD", f"{DOWNLOAD}/{await upload(alice, b'x' * size)}")
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["content-length"] == str(size)


# -- limits --------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_file_that_is_too_large_is_refused(server):
    alice = await server.login("alice")
    answer = await alice.request("POST", UPLOAD, raw=b"x" * (MAX_SIZE + 1))
    assert (answer.status, answer.errcode) == (413, "M_TOO_LARGE")
    await upload(alice, b"x" * MAX_SIZE)
    await until(lambda: len(contents(server)) == 1)


@pytest_twisted.ensureDeferred
async def test_nobody_takes_more_than_their_quota(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    await upload(alice, b"x" * MAX_SIZE)
    await upload(alice, b"y" * (QUOTA - MAX_SIZE - 4096))
    answer = await alice.request("POST", UPLOAD, raw=b"z" * 4097)
    assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")
    await upload(alice, b"a small file takes a block")
    answer = await alice.request("POST", UPLOAD, raw=b"z")
    assert (answer.status, answer.errcode) == (403, "M_FORBIDDEN")
    await upload(bob, b"z")


@pytest_twisted.ensureDeferred
async def test_many_uploads_at_once_take_no_more_than_the_quota(server):
    alice = await server.login("alice")
    answers = await defer.gatherResults(
        [
            defer.ensureDeferred(alice.request("POST", UPLOAD, raw=b"%d" % number + b"x" * 1_000_000))
            for number in range(8)
        ]
    )
    assert sorted(answer.status for answer in answers) == [200] * 3 + [403] * 5
    await until(lambda: len(contents(server)) == 3)


@pytest_twisted.ensureDeferred
async def test_the_same_content_lies_on_the_disk_once(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    data = b"the same" * 1000
    places = await defer.gatherResults(
        [defer.ensureDeferred(upload(actor, data, "text/plain", actor.user_id)) for actor in (alice, bob, alice, bob)]
    )
    assert len(set(places)) == 4
    await until_kept(server, [hashlib.sha256(data).hexdigest()])
    for place in places:
        assert (await alice.get(f"{DOWNLOAD}/{place}")).body == data


# -- what goes wrong -----------------------------------------------------------------------------------------------


def send_a_part(server: Appliance, token: str, path: str = UPLOAD, length: int = 500_000) -> socket.socket:
    """A client that sends 200,000 of the promised bytes and waits."""
    port = server.daemon.ports[0].getHost().port
    client = socket.create_connection(("127.0.0.1", port))
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {length}\r\n\r\n"
    client.sendall(head.encode() + b"x" * 200_000)
    return client


@pytest_twisted.ensureDeferred
async def test_an_upload_that_is_broken_off_leaves_nothing(server):
    alice = await server.login("alice")
    client = send_a_part(server, alice.token)
    incoming = folder(server) / "incoming"
    await until(lambda: any(path.stat().st_size for path in incoming.iterdir()))
    client.close()
    await until(lambda: not list(incoming.iterdir()))
    await until_kept(server, [])
    await until(lambda: not server.daemon.media._reserved)
    await upload(alice, b"a" * MAX_SIZE)  # and its part of the quota is free again
    await upload(alice, b"b" * (QUOTA - MAX_SIZE))


@pytest_twisted.ensureDeferred
async def test_the_start_removes_what_a_crash_left(tmp_path):
    server = await Appliance.start(tmp_path)
    alice = await server.login("alice")
    place = await upload(alice, b"kept")
    kept, lost = hashlib.sha256(b"kept").hexdigest(), hashlib.sha256(b"lost").hexdigest()
    await server.stop()
    media = server.daemon.data_dir / "media"
    (media / "incoming" / "0123456789abcdef").write_bytes(b"half")
    (media / "incoming" / f"{kept}.0123456789abcdef").write_bytes(b"kept")
    (media / "incoming" / f"{lost}.0123456789abcdef").write_bytes(b"lost")
    (media / "files" / lost[:2]).mkdir(exist_ok=True)
    (media / "files" / lost[:2] / lost).write_bytes(b"lost")
    server = await Appliance.start(tmp_path)
    await until_kept(server, [kept])
    alice = await server.login("alice")
    assert (await alice.get(f"{DOWNLOAD}/{place}")).body == b"kept"
    await server.stop()


@pytest_twisted.ensureDeferred
async def test_a_disk_that_fails_stores_nothing(server):
    alice = await server.login("alice")
    (folder(server) / "incoming").rename(folder(server) / "away")
    answer = await alice.request("POST", UPLOAD, raw=b"hi" * 300_000)
    assert (answer.status, answer.errcode) == (503, "M_UNKNOWN")
    (folder(server) / "away").rename(folder(server) / "incoming")
    await until_kept(server, [])
    await upload(alice, b"hi" * 300_000)


@pytest_twisted.ensureDeferred
async def test_a_database_that_fails_leaves_no_file(server, logged_errors):
    alice = await server.login("alice")
    engine = server.daemon.engine
    engine._writer.execute("CREATE TEMP TRIGGER no BEFORE INSERT ON media BEGIN SELECT RAISE(ABORT, 'no'); END")
    answer = await alice.request("POST", UPLOAD, raw=b"hi")
    assert answer.status == 500
    assert "IntegrityError: no" in logged_errors.pop()["log_failure"].getTraceback()
    engine._writer.execute("DROP TRIGGER no")
    await until_kept(server, [])


@pytest_twisted.ensureDeferred
async def test_a_lost_file_is_not_found(server):
    alice = await server.login("alice")
    place = await upload(alice, b"hi")
    next(path for path in (folder(server) / "files").rglob("*") if path.is_file()).unlink()
    answer = await alice.get(f"{DOWNLOAD}/{place}")
    assert (answer.status, answer.errcode) == (404, "M_NOT_FOUND")


# -- announced uploads ---------------------------------------------------------------------------------------------


async def announce(actor) -> tuple[str, int]:
    answer = actor.ok(await actor.post(CREATE))
    return answer["content_uri"].removeprefix("mxc://"), answer["unused_expires_at"]


@pytest_twisted.ensureDeferred
async def test_an_announced_upload_can_come_later(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    place, expires = await announce(alice)
    assert expires == server.clock.now + ANNOUNCED_MS
    answer = await bob.get(f"{DOWNLOAD}/{place}", timeout_ms=0)
    assert (answer.status, answer.errcode) == (504, "M_NOT_YET_UPLOADED")
    asking = defer.ensureDeferred(bob.get(f"{DOWNLOAD}/{place}", timeout_ms=20_000))
    await until(lambda: server.daemon.media._awaited)
    put = await alice.request(
        "PUT", f"{UPLOAD}/{place}?filename=x.txt", raw=b"hi", headers={"Content-Type": "text/csv"}
    )
    assert alice.ok(put) == {}
    answer = await asking
    assert (answer.status, answer.body) == (200, b"hi")
    assert answer.headers["content-disposition"] == 'inline; filename="x.txt"'
    assert server.daemon.media._awaited == {}


@pytest_twisted.ensureDeferred
async def test_who_waits_is_told_when_the_time_is_over(server):
    alice = await server.login("alice")
    place, _ = await announce(alice)
    answer = await alice.get(f"{DOWNLOAD}/{place}", timeout_ms=10)
    assert (answer.status, answer.errcode) == (504, "M_NOT_YET_UPLOADED")
    answer = await alice.get(f"/_matrix/client/v1/media/thumbnail/{place}", timeout_ms=10, width=32, height=32)
    assert (answer.status, answer.errcode) == (504, "M_NOT_YET_UPLOADED")
    assert server.daemon.media._awaited == {}


@pytest_twisted.ensureDeferred
async def test_the_stop_answers_who_waits(tmp_path):
    server = await Appliance.start(tmp_path)
    alice = await server.login("alice")
    place, _ = await announce(alice)
    asking = defer.ensureDeferred(alice.get(f"{DOWNLOAD}/{place}", timeout_ms=60_000))
    await until(lambda: server.daemon.media._awaited)
    await server.stop()
    assert (await asking).status == 504


@pytest_twisted.ensureDeferred
async def test_what_may_not_be_put(server):
    alice, bob = await server.login("alice"), await server.login("bob")
    place, _ = await announce(alice)

    async def put(actor, place):
        answer = await actor.request("PUT", f"{UPLOAD}/{place}", raw=b"hi")
        return answer.status, answer.errcode

    assert await put(bob, place) == (403, "M_FORBIDDEN")
    assert await put(alice, f"{SERVER_NAME}/unknown") == (404, "M_NOT_FOUND")
    assert await put(alice, place.replace(SERVER_NAME, "other.example")) == (404, "M_NOT_FOUND")
    assert await put(alice, place) == (200, None)
    assert await put(alice, place) == (409, "M_CANNOT_OVERWRITE_MEDIA")
    late, _ = await announce(alice)
    server.clock.advance(ANNOUNCED_MS / 1000)
    alice = await server.login("alice")
    assert await put(alice, late) == (404, "M_NOT_FOUND")
    answer = await alice.get(f"{DOWNLOAD}/{late}", timeout_ms=0)
    assert (answer.status, answer.errcode) == (404, "M_NOT_FOUND")


@pytest_twisted.ensureDeferred
async def test_of_two_uploads_to_one_id_one_wins(server):
    alice = await server.login("alice")
    place, _ = await announce(alice)
    answers = await defer.gatherResults(
        [
            defer.ensureDeferred(alice.request("PUT", f"{UPLOAD}/{place}", raw=data))
            for data in (b"one" * 1000, b"two" * 1000)
        ]
    )
    assert sorted(answer.status for answer in answers) == [200, 409]
    won = (await alice.get(f"{DOWNLOAD}/{place}")).body
    await until_kept(server, [hashlib.sha256(won).hexdigest()])


@pytest_twisted.ensureDeferred
async def test_few_uploads_are_awaited_at_a_time(server):
    alice = await server.login("alice")
    for _ in range(MAX_ANNOUNCED):
        place, _ = await announce(alice)
    answer = await alice.post(CREATE)
    assert (answer.status, answer.errcode) == (429, "M_LIMIT_EXCEEDED")
    assert answer.json["retry_after_ms"] == ANNOUNCED_MS
    alice.ok(await alice.request("PUT", f"{UPLOAD}/{place}", raw=b"hi"))
    await announce(alice)
    server.clock.advance(ANNOUNCED_MS / 1000)
    alice = await server.login("alice")
    await announce(alice)


@pytest_twisted.ensureDeferred
async def test_suspended_people_may_look_but_not_upload(server):
    admin, alice = await server.login("admin"), await server.login("alice")
    place = await upload(alice, b"hi")
    path = f"/_matrix/client/v1/admin/suspend/{q(alice.user_id)}"
    admin.ok(await admin.put(path, {"suspended": True}))
    for method, target in (("POST", UPLOAD), ("POST", CREATE), ("PUT", f"{UPLOAD}/{place}")):
        answer = await alice.request(method, target, raw=b"hi")
        assert (answer.status, answer.errcode) == (403, "M_USER_SUSPENDED")
    assert (await alice.get(f"{DOWNLOAD}/{place}")).body == b"hi"
