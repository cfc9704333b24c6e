"""Element Web at /element/: what is served with which headers, what is not, and its configuration. The daemon is a process,
so that files are switched under a running one."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import socket
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from heichat_appliance.admin.main import main
from heichat_appliance.http.element_config import element_config
from heichat_appliance.http.fixed import accepts_gzip
from tests.daemon import Daemon, wait_until
from tests.element_kit import release, release_files

VERSION = "1.11.90"
KEY = sha256(VERSION.encode()).hexdigest()[:20]
BUNDLE = f"bundles/{KEY}/bundle.js"
FILES = release_files(VERSION)


class Got(NamedTuple):
    """An answer as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes


def ask(daemon: Daemon, path: str, method: str = "GET", **headers: str) -> Got:
    """A request for /element/<path>; `headers` with _ for -."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=30)
    try:
        connection.request(method, f"/element/{path}", headers={k.replace("_", "-"): v for k, v in headers.items()})
        answer = connection.getresponse()
        return Got(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def install(daemon: Daemon, folder: Path, version: str) -> None:
    path = folder / f"{version}.tar.gz"
    digest = release(path, version)
    assert main(["--config", str(daemon.config_path), "element", "install", str(path), "--sha256", digest]) == 0


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with a release."""
    folder = tmp_path_factory.mktemp("element")
    with Daemon(folder, {"web": {"conference_url": "https://heiconf.example.org/"}}) as running:
        install(running, folder, VERSION)
        yield running


def test_every_file_with_the_recommended_headers(daemon: Daemon) -> None:
    for name, content in FILES.items():
        if name == "config.sample.json":
            continue
        got = ask(daemon, name)
        assert (got.status, got.body) == (200, content), name
        assert got.headers["x-frame-options"] == "SAMEORIGIN"
        assert got.headers["x-content-type-options"] == "nosniff"
        assert got.headers["content-security-policy"] == "frame-ancestors 'self'"
        assert "content-encoding" not in got.headers
    assert ask(daemon, "").body == FILES["index.html"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", "text/html; charset=utf-8"),
        ("version", "text/plain; charset=utf-8"),
        (BUNDLE, "text/javascript; charset=utf-8"),
        (f"bundles/{KEY}/opus.wasm", "application/wasm"),
        ("i18n/languages.json", "application/json"),
        ("fonts/Inter-Regular.8c206db.woff2", "font/woff2"),
        ("welcome/images/logo.svg", "image/svg+xml"),
        ("media/ring.a1b2c3d.ogg", "audio/ogg"),
    ],
)
def test_types(daemon: Daemon, name: str, expected: str) -> None:
    assert ask(daemon, name).headers["content-type"] == expected


@pytest.mark.parametrize(
    ("name", "forever"),
    [
        (BUNDLE, True),
        ("fonts/Inter-Regular.8c206db.woff2", True),
        ("i18n/de_DE.0f1a2b3.json", True),
        ("", False),
        ("index.html", False),
        ("version", False),
        ("config.json", False),
        ("i18n/languages.json", False),
        ("sw.js", False),
        ("welcome/images/logo.svg", False),
    ],
)
def test_caching(daemon: Daemon, name: str, forever: bool) -> None:
    got = ask(daemon, name)
    assert got.headers["cache-control"] == ("public, max-age=31536000, immutable" if forever else "no-cache")
    again = ask(daemon, name, If_None_Match=got.headers["etag"])
    assert (again.status, again.body) == (304, b"")


def test_compressed_for_those_who_take_it(daemon: Daemon) -> None:
    plain, packed = ask(daemon, BUNDLE), ask(daemon, BUNDLE, Accept_Encoding="br, gzip")
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body and len(packed.body) < len(plain.body) / 10
    assert packed.headers["content-type"] == plain.headers["content-type"]
    assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    assert packed.headers["etag"] != plain.headers["etag"]
    assert "content-encoding" not in ask(daemon, "media/ring.a1b2c3d.ogg", Accept_Encoding="gzip").headers


@pytest.mark.parametrize(
    ("header", "accepts"),
    [("gzip", True), ("br, GZIP;q=0.5", True), ("deflate, gzip;q=1.0", True), ("gzip;q=0", False),
     ("gzip;q=0.0", False), ("identity", False), ("", False), (None, False), ("xgzip", False)],
)  # fmt: skip
def test_who_takes_it(header: str | None, accepts: bool) -> None:
    assert accepts_gzip(header) is accepts


def test_head_and_range(daemon: Daemon) -> None:
    got = ask(daemon, BUNDLE, "HEAD")
    assert (got.status, got.body, got.headers["content-length"]) == (200, b"", str(len(FILES[BUNDLE])))
    part = ask(daemon, BUNDLE, Range="bytes=5-9")
    assert (part.status, part.body) == (206, FILES[BUNDLE][5:10])


def test_other_methods(daemon: Daemon) -> None:
    got = ask(daemon, "index.html", "POST")
    assert got.status == 405 and got.headers["allow"] == "GET"


def test_without_the_slash(daemon: Daemon) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port)
    connection.request("GET", "/element?room=1")
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Location"]) == (308, "/element/")
    connection.close()


@pytest.mark.parametrize(
    "path",
    [
        "nothing.js", "bundles", "bundles/", "/index.html", "./index.html", "..", "../heichat.db", "..%2fheichat.db",
        "%2e%2e/%2e%2e/heichat.db", "bundles/../index.html", "index.html/", "/etc/passwd", "%2fetc%2fpasswd",
        "..%5c..%5cheichat.db", "index.html%00.png", ".hidden", "link", "folder/secret", "%ff", "index.html.gz/..",
        "../../current.releases", "a" * 3000,
    ],
)  # fmt: skip
def test_paths_that_are_no_file_of_it(daemon: Daemon, path: str) -> None:
    current = (daemon.data_dir / "element" / "current").resolve()
    if not (current / "link").is_symlink():  # what nobody should find there, for the daemon that looks at it next
        (current / "link").symlink_to(daemon.data_dir / "heichat.db")
        (current / "folder").symlink_to(daemon.folder)
        (current / ".hidden").write_text("hidden")
        (daemon.folder / "secret").write_text("secret")
        assert ask(daemon, "").status == 200
    got = ask(daemon, path)
    assert got.status in (400, 404), got
    assert json.loads(got.body)["errcode"] in ("M_NOT_FOUND", "M_INVALID_PARAM")


def test_a_large_file_goes_at_the_pace_of_its_reader(daemon: Daemon) -> None:
    current = (daemon.data_dir / "element" / "current").resolve()
    size = 256 * 2**20
    with (current / "large.wasm").open("wb") as file:
        file.truncate(size)
    os.utime(current)
    assert ask(daemon, "large.wasm", "HEAD").headers["content-length"] == str(size)
    with socket.create_connection(("127.0.0.1", daemon.port)) as reader:
        reader.sendall(b"GET /element/large.wasm HTTP/1.1\r\nHost: x\r\n\r\n")
        assert reader.recv(4096).startswith(b"HTTP/1.1 200 ")
        assert ask(daemon, "version").status == 200  # others are served meanwhile
        assert _memory(daemon) < 200 * 2**20
    (current / "large.wasm").unlink()


def _memory(daemon: Daemon) -> int:
    assert daemon.process is not None
    pages = Path(f"/proc/{daemon.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


# -- config.json -------------------------------------------------------------------------------------------------


def test_the_configuration_is_ours_and_not_the_releases(daemon: Daemon) -> None:
    for name in ("config.json", "config.127.0.0.1.json", "config.chat.example.org.json", "config.sample.json"):
        got = ask(daemon, name)
        assert got.status == 200 and got.headers["content-type"] == "application/json"
        config = json.loads(got.body)
        assert config["default_server_config"]["m.homeserver"] == {"base_url": daemon.url, "server_name": "chat.test"}
        assert config["jitsi"] == {"preferred_domain": "heiconf.example.org"}


def test_its_language_is_the_browsers(daemon: Daemon) -> None:
    for accepted, lang in (("de-AT", "de"), ("en-GB,en;q=0.9,de;q=0.5", "en"), ("fr,en;q=0.5", "en"), ("fr", "de")):
        got = ask(daemon, "config.json", Accept_Language=accepted)
        assert json.loads(got.body)["setting_defaults"]["language"] == lang
        assert "Accept-Language" in got.headers["vary"]


def addresses(value: Any) -> set[str]:
    """Everything in a configuration that looks like an address."""
    if isinstance(value, dict):
        return set().union(*(addresses(one) for one in value.values()))
    if isinstance(value, list):
        return set().union(*(addresses(one) for one in value))
    return {value} if isinstance(value, str) and ("://" in value or ".org" in value or ".im" in value) else set()


def configuration(**more: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "server_name": "example.org", "public_url": "https://chat.example.org", "brand": "heiCHAT", "lang": "de",
        "encryption": {"default": False},
    }  # fmt: skip
    return element_config(**{**values, **more})


def test_it_names_nobody_else() -> None:
    own = ("https://chat.example.org", "https://chat.example.org/", "example.org")
    assert all(one.startswith(own) for one in addresses(configuration()))
    # without a word from us Element would take its maker's: src/SdkConfig.ts
    for key in ("integrations_ui_url", "integrations_rest_url"):
        assert configuration()[key] == ""
    for key in ("posthog", "sentry", "bug_report_endpoint_url", "map_style_url"):
        assert key not in configuration()
    assert configuration()["setting_defaults"]["UIFeature.widgets"] is False  # or group calls open meet.element.io
    assert "UIFeature.widgets" not in configuration(conference_url="https://heiconf.example.org")["setting_defaults"]


def test_it_offers_what_this_server_has() -> None:
    config = configuration(encryption={"default": True}, terms_links=[("Nutzung", "https://chat.example.org/terms")])
    assert config["disable_custom_urls"] and config["disable_guests"] and config["disable_3pid_login"]
    assert config["room_directory"] == {"servers": ["example.org"]}
    assert config["permalink_prefix"] == "https://chat.example.org/element"
    assert config["default_country_code"] == "DE" and config["brand"] == "heiCHAT"
    assert config["default_server_config"]["io.element.e2ee"] == {"default": True}
    assert config["terms_and_conditions_links"] == [{"text": "Nutzung", "url": "https://chat.example.org/terms"}]
    for feature in ("registration", "passwordReset", "deactivate", "identityServer", "thirdPartyId"):
        assert config["setting_defaults"][f"UIFeature.{feature}"] is False
    assert configuration(help_url="https://example.org/help")["help_url"] == "https://example.org/help"


def test_links_of_the_plugins_and_the_configuration(tmp_path: Path) -> None:
    config = {
        "plugins": {"enabled": "demo_directory, terms_consent, closed_rooms"},
        "server": {"support_email": "help@example.org"},
        "web": {"imprint_url": "https://www.example.org/imprint", "brand": "Uni-Chat"},
        "rooms": {"encryption_default": "on"},
    }
    with Daemon(tmp_path, config) as daemon:
        install(daemon, tmp_path, VERSION)
        found = json.loads(ask(daemon, "config.json", Accept_Language="en").body)
    assert [one["url"] for one in found["terms_and_conditions_links"]] == [
        f"{daemon.url}/terms?lang=en", f"{daemon.url}/privacy?lang=en", "https://www.example.org/imprint",
    ]  # fmt: skip
    assert found["brand"] == "Uni-Chat" and "help@example.org" in found["report_event"]["admin_message_md"]
    assert found["default_server_config"]["io.element.e2ee"] == {"default": True}


# -- switching ---------------------------------------------------------------------------------------------------


def test_a_release_is_seen_at_once_and_open_pages_go_on(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        missing = ask(daemon, "", Accept_Language="en")
        assert missing.status == 404 and b"There is no web client here" in missing.body
        assert ask(daemon, "config.json").status == 404
        install(daemon, tmp_path, "1.11.89")
        first = ask(daemon, "")
        assert first.status == 200 and b"Element 1.11.89" in first.body
        bundle = next(name for name in release_files("1.11.89") if name.endswith("bundle.js"))
        install(daemon, tmp_path, "1.11.90")
        page = ask(daemon, "", If_None_Match=first.headers["etag"])
        assert page.status == 200 and b"Element 1.11.90" in page.body
        assert ask(daemon, "version").body == b"1.11.90"
        assert ask(daemon, bundle).status == 200  # for pages that were opened before
        assert ask(daemon, BUNDLE).status == 200
        install(daemon, tmp_path, "1.11.91")
        assert ask(daemon, bundle).status == 404
        assert ask(daemon, BUNDLE).status == 200


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    folder = tmp_path / "unpacked"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    with Daemon(tmp_path, {"web": {"element_dir": str(folder)}}) as daemon:
        got = ask(daemon, BUNDLE, Accept_Encoding="gzip")
        assert got.status == 200 and got.body == FILES[BUNDLE] and "content-encoding" not in got.headers
        folder.rename(tmp_path / "away")
        wait_until(lambda: ask(daemon, "").status == 404)
