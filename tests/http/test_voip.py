"""What people are told of the relay for calls, and what Element is told of the conference service."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import stat

import pytest
import pytest_twisted

from heichat_appliance.calls.offer import uris
from heichat_appliance.config import ConfigErrors
from heichat_appliance.settings import call_listeners
from tests.appliance import Appliance, ManualClock

HERE = {"enabled": "yes", "listen": "udp:127.0.0.1:0, tcp:127.0.0.1:0"}
SERVICE = ("demo_directory", "terms_consent", "closed_rooms")
ELSEWHERE = "turn:turn.example.org:3478?transport=udp\nturns:turn.example.org?transport=tcp"


def good(secret: str, username: str, password: str) -> bool:
    """Whether a relay with this secret would take the credentials (draft-uberti-behave-turn-rest-00)."""
    expected = hmac.new(secret.encode(), username.encode(), hashlib.sha1).digest()
    return base64.b64decode(password) == expected


async def turn_server(server, uni_id="alice"):
    actor = await server.login(uni_id)
    return actor.ok(await actor.get("/voip/turnServer"))


@pytest_twisted.ensureDeferred
async def test_credentials_that_end_for_the_person_who_asks(tmp_path):
    clock = ManualClock()
    config = {"calls": {**HERE, "credential_lifetime": "3600", "public_host": "2001:db8::1"}}
    server = await Appliance.start(tmp_path, config=config, clock=clock)
    try:
        told = await turn_server(server)
        assert told["username"] == f"{clock.now // 1000 + 3600}:@alice:chat.test"
        assert told["ttl"] == 3600
        secret = (tmp_path / "data" / "calls.secret").read_text().strip()
        assert len(secret) >= 32 and good(secret, told["username"], told["password"])
        udp, tcp = told["uris"]
        assert re.fullmatch(r"turn:\[2001:db8::1\]:[1-9][0-9]+\?transport=udp", udp)
        assert re.fullmatch(r"turn:\[2001:db8::1\]:[1-9][0-9]+\?transport=tcp", tcp)
        clock.advance(100)
        assert (await turn_server(server))["username"] == f"{clock.now // 1000 + 3600}:@alice:chat.test"
        assert (await server.http.get("/voip/turnServer")).errcode == "M_MISSING_TOKEN"
    finally:
        await server.stop()


def test_udp_comes_first_and_nothing_twice():
    listen = "tls:5349, tcp:3478, udp:192.0.2.1:3478, udp:[2001:db8::1]:3478, tls:192.0.2.1:443"
    assert uris("turn.example.org", call_listeners(listen)) == [
        "turn:turn.example.org:3478?transport=udp",
        "turn:turn.example.org:3478?transport=tcp",
        "turns:turn.example.org:5349?transport=tcp",
        "turns:turn.example.org:443?transport=tcp",
    ]


@pytest_twisted.ensureDeferred
async def test_whoever_has_not_agreed_to_the_terms_is_told_too(tmp_path):
    """matrix-js-sdk never asks again after a 403."""
    server = await Appliance.start(tmp_path, plugins=SERVICE, config={"calls": HERE})
    try:
        assert (await turn_server(server))["uris"]
    finally:
        await server.stop()


@pytest_twisted.ensureDeferred
async def test_the_secret_stays_over_a_restart_and_is_for_the_owner_alone(tmp_path):
    secrets = []
    for _ in range(2):
        server = await Appliance.start(tmp_path, config={"calls": HERE})
        await server.stop()
        file = tmp_path / "data" / "calls.secret"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        secrets.append(file.read_text())
    assert secrets[0] == secrets[1]


@pytest_twisted.ensureDeferred
async def test_another_server_with_its_secret(tmp_path):
    (tmp_path / "secret").write_text("a secret that coturn knows as well\n")
    calls = {"enabled": "yes", "uris": ELSEWHERE, "shared_secret_file": "secret"}
    server = await Appliance.start(tmp_path, config={"calls": calls})
    try:
        told = await turn_server(server)
        assert told["uris"] == ELSEWHERE.split("\n")
        assert good("a secret that coturn knows as well", told["username"], told["password"])
        assert not (tmp_path / "data" / "calls.secret").exists()
    finally:
        await server.stop()


@pytest_twisted.ensureDeferred
async def test_without_calls_there_is_nothing(tmp_path):
    server = await Appliance.start(tmp_path, config={"calls": {"enabled": "no"}})
    try:
        alice = await server.login("alice")
        answer = await alice.get("/voip/turnServer")
        assert (answer.status, answer.errcode) == (404, "M_NOT_FOUND")
        assert "io.element.voip" not in (await alice.get("/.well-known/matrix/client")).json
    finally:
        await server.stop()


@pytest_twisted.ensureDeferred
async def test_element_finds_the_conference_service_and_keeps_to_our_relay(tmp_path):
    config = {"calls": HERE, "web": {"conference_url": "https://heiconf.example.org:8443/"}}
    server = await Appliance.start(tmp_path, config=config)
    try:
        told = (await server.http.get("/.well-known/matrix/client")).json
        assert told["m.homeserver"] == {"base_url": "https://chat.test"}
        assert (
            told["io.element.jitsi"] == told["im.vector.riot.jitsi"] == {"preferredDomain": "heiconf.example.org:8443"}
        )
        assert told["io.element.voip"] == {"disable_fallback_ice": True}
    finally:
        await server.stop()


@pytest.mark.parametrize(
    ("calls", "sentences"),
    [
        ({"listen": "ssl:5349"}, ["[calls] listen 'ssl:5349' is not of the form udp:3478", "(hint: "]),
        ({"listen": "udp:70000"}, ["[calls] listen 'udp:70000'"]),
        ({"listen": "udp:1.2.3:3478"}, ["'1.2.3' is not an IP address"]),
        ({"listen": ""}, ["[calls] listen names nothing (hint: udp:3478, or enabled = no)"]),
        ({"listen": "tls:0"}, ["[calls] certificate is missing", "[calls] private_key is missing"]),
        (
            {"listen": "tls:127.0.0.1:0", "certificate": "short", "private_key": "none.pem"},
            ["[calls] certificate, private_key: ", "none.pem can't be read: No such file"],
        ),
        ({"external_address": "192.0.2.1, 192.0.2.2"}, ["[calls] external_address must be one IPv4 address"]),
        ({"external_address": "0.0.0.0"}, ["must be addresses that others reach"]),
        ({"external_address": "example.org"}, ["'example.org' is not an IP address"]),
        ({"relay_ports": "50000"}, ["[calls] relay_ports must be at least 100 ports"]),
        ({"relay_ports": "50000-50050"}, ["[calls] relay_ports must be at least 100 ports"]),
        ({"relay_ports": "80-60000"}, ["[calls] relay_ports must be at least 100 ports"]),
        ({"allow_networks": "10.0.0.1/8"}, ["[calls] allow_networks must be networks such as 10.20.0.0/16"]),
        ({"uris": "https://turn.example.org"}, ["[calls] uris 'https://turn.example.org' is not a URI such as turn:"]),
        ({"uris": "turn:turn.example.org"}, ["[calls] uris needs shared_secret_file", "static-auth-secret"]),
        ({"shared_secret_file": "none"}, ["[calls] shared_secret_file can't be read"]),
        ({"shared_secret_file": "short"}, ["has no secret of 16 or more characters (hint: openssl rand -hex 32)"]),
        ({"uri": "turn:x"}, ["[calls] uri is not a key of this section (hint: did you mean uris?)"]),
        ({"listen": "udp:x", "relay_ports": "x"}, ["[calls] listen", "[calls] relay_ports"]),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_wrong_is_told_with_its_remedy(tmp_path, calls, sentences):
    (tmp_path / "short").write_text("secret\n")
    with pytest.raises(ConfigErrors) as refused:
        await Appliance.start(tmp_path, config={"calls": {"enabled": "yes", **calls}})
    told = "\n".join(refused.value.errors)
    for sentence in sentences:
        assert sentence in told
