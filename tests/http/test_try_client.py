"""The page to try the demo out with: who has it, what protects it, how it is cached. What it does is in tests/browser."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest_twisted

from tests.appliance import Appliance

FILES = sorted(path.name for path in (files("heichat_appliance.http") / "try").iterdir())


@pytest_twisted.ensureDeferred
async def test_a_server_with_a_configuration_does_not_have_it(tmp_path: Path) -> None:
    server = await Appliance.start(tmp_path, config={"demo_directory": {"demo": "yes"}}, demo=False)
    for path in ("/try", "/try/", "/try/about.json", "/try/main.js"):
        answer = await server.http.request("GET", path)
        assert answer.status == 404, path
        assert "demo" not in answer.body.decode()
    await server.stop()


@pytest_twisted.ensureDeferred
async def test_everything_of_the_page_is_there_and_under_its_policy(tmp_path: Path) -> None:
    server = await Appliance.start(tmp_path)
    page = await server.http.request("GET", "/try/")
    assert page.status == 200 and page.headers["content-type"] == "text/html; charset=utf-8"
    for name in FILES:
        answer = await server.http.request("GET", f"/try/{name}")
        assert answer.status == 200, name
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy and "data:" not in policy
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
    await server.stop()


def test_the_page_holds_no_inline_script_or_style() -> None:
    text = (files("heichat_appliance.http") / "try" / "index.html").read_text("utf-8")
    assert re.findall(r"<script[^>]*>[^<]+|<style|\sstyle=|\son\w+=", text) == []
    assert re.findall(r"(?:src|href)=\"(?:https?:)?//", text) == []


@pytest_twisted.ensureDeferred
async def test_modules_import_only_what_is_there(tmp_path: Path) -> None:
    server = await Appliance.start(tmp_path)
    for name in [name for name in FILES if name.endswith(".js")]:
        source = (await server.http.request("GET", f"/try/{name}")).body.decode()
        for imported in re.findall(r'^import .* from "(.+)";$', source, re.MULTILINE):
            assert (await server.http.request("GET", f"/try/{imported[2:]}")).status == 200, (name, imported)
    await server.stop()


@pytest_twisted.ensureDeferred
async def test_a_browser_that_has_a_file_is_told_so(tmp_path: Path) -> None:
    server = await Appliance.start(tmp_path)
    first = await server.http.request("GET", "/try/main.js")
    tag = first.headers["etag"]
    again = await server.http.request("GET", "/try/main.js", headers={"If-None-Match": tag})
    assert (again.status, again.body) == (304, b"")
    assert again.headers["etag"] == tag and again.headers["cache-control"] == "no-cache"
    other = await server.http.request("GET", "/try/main.js", headers={"If-None-Match": '"other"'})
    assert (other.status, other.body) == (200, first.body)
    await server.stop()


@pytest_twisted.ensureDeferred
async def test_names_that_are_no_file_of_the_page(tmp_path: Path) -> None:
    server = await Appliance.start(tmp_path)
    for name in ("nothing.js", "..%2Ftry_client.py", "..%2f..%2f__init__.py", "%2e%2e", "main.js%00", "__pycache__"):
        answer = await server.http.request("GET", f"/try/{name}")
        assert answer.status in (400, 404), name
        assert answer.errcode in ("M_NOT_FOUND", "M_INVALID_PARAM"), name
    bare = await server.http.request("GET", "/try")
    assert (bare.status, bare.headers["location"]) == (308, "/try/")
    await server.stop()
