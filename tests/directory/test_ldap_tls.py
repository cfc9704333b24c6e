"""LDAPS and StartTLS: who is talked to is verified before a password leaves this machine."""

from __future__ import annotations

import gc
import os

import pytest
import pytest_twisted
from twisted.logger import capturedLogs

from heichat_appliance.directory.ldap import LdapDirectory
from heichat_appliance.extension import DirectoryUnavailable
from tests.slapd import Authority, Slapd, Swallower, requires_slapd

pytestmark = requires_slapd
WAYS = ["ldaps", "start_tls"]


def settings(server, way, authority):
    """The settings for one way of encryption."""
    uri = server.ldaps_uri if way == "ldaps" else server.uri
    return {"uris": [uri], "start_tls": way == "start_tls", "ca_file": authority.ca_file}


async def reason(directory):
    """Why a login with the right password fails."""
    with pytest.raises(DirectoryUnavailable) as caught:
        await directory.authenticate("alice", "wonder-land")
    return str(caught.value)


@pytest.mark.parametrize("way", WAYS)
@pytest_twisted.ensureDeferred
async def test_good_certificate(make_directory, slapd, authority, way):
    directory = make_directory(**settings(slapd, way, authority))
    assert (await directory.authenticate("alice", "wonder-land")).uni_id == "alice"
    assert await directory.authenticate("alice", "wrong") is None
    assert "WITHOUT ENCRYPTION" not in str(await directory.check())


@pytest.mark.parametrize("way", WAYS)
@pytest_twisted.ensureDeferred
async def test_unknown_authority(make_directory, slapd, tmp_path, way):
    stranger = Authority.make(tmp_path, "Other CA")
    assert "certificate verify failed" in await reason(make_directory(**settings(slapd, way, stranger)))
    of_the_system = make_directory(**{**settings(slapd, way, stranger), "ca_file": None})
    assert "certificate verify failed" in await reason(of_the_system)


@pytest.mark.parametrize("way", WAYS)
@pytest_twisted.ensureDeferred
async def test_certificate_for_another_host(make_directory, slapd, authority, tmp_path, way):
    choice = settings(slapd, way, authority)
    by_name = make_directory(**{**choice, "uris": [choice["uris"][0].replace("127.0.0.1", "localhost")]})
    assert "not valid for 'localhost'" in await reason(by_name)
    with Slapd(tmp_path, [{"uid": "alice"}], tls=authority.issue(["ldap.example.org", "*"])) as server:
        assert "not valid for '127.0.0.1'" in await reason(make_directory(**settings(server, way, authority)))


@pytest.mark.parametrize("way", WAYS)
@pytest_twisted.ensureDeferred
async def test_host_name(make_directory, tmp_path, authority, way):
    people = [{"uid": "alice", "userPassword": "wonder-land"}]
    with Slapd(tmp_path, people, tls=authority.issue(["localhost"])) as server:
        choice = settings(server, way, authority)
        by_name = make_directory(**{**choice, "uris": [choice["uris"][0].replace("127.0.0.1", "localhost")]})
        assert (await by_name.authenticate("alice", "wonder-land")).uni_id == "alice"


@pytest.mark.parametrize("way", WAYS)
@pytest_twisted.ensureDeferred
async def test_expired_certificate(make_directory, tmp_path, authority, way):
    with Slapd(tmp_path, [{"uid": "alice"}], tls=authority.issue(["127.0.0.1"], expired=True)) as server:
        assert "certificate has expired" in await reason(make_directory(**settings(server, way, authority)))


@pytest_twisted.ensureDeferred
async def test_start_tls_never_falls_back_to_clear_text(make_directory, tmp_path):
    people = [{"uid": "alice", "userPassword": "wonder-land"}]
    with Slapd(tmp_path, people) as server:
        assert "startTLS failed" in await reason(make_directory(server, start_tls=True))
        assert await make_directory(server, start_tls=False).authenticate("alice", "wonder-land")


@pytest.mark.parametrize("mode", [{}, {"user_dn_template": Slapd.user_dn_template}])
@pytest_twisted.ensureDeferred
async def test_no_password_before_encryption(make_directory, mode):
    with Swallower() as ear:
        for uri in (ear.uri, ear.uri.replace("ldap:", "ldaps:")):
            await reason(make_directory(uris=[uri], start_tls=True, timeout=0.2, **mode))
        assert ear.connections == 2
        assert ear.received
        assert b"wonder-land" not in ear.received
        assert Slapd.service_password.encode() not in ear.received


def test_encryption_is_the_default():
    directory = LdapDirectory(["ldap://ldap.example.org"], Slapd.base)
    assert directory._connector.is_private(directory._servers.all[0])


@pytest.mark.parametrize(
    ("uri", "start_tls", "warned"),
    [
        ("ldap://ldap.example.org", False, True),
        ("ldap://ldap.example.org", True, False),
        ("ldaps://ldap.example.org", False, False),
        ("ldap://127.0.0.1", False, False),
    ],
)
@pytest_twisted.ensureDeferred
async def test_clear_text_is_warned_of(make_directory, uri, start_tls, warned):
    with capturedLogs() as events:
        make_directory(uris=[uri], start_tls=start_tls)
    assert any("clear text" in event["log_format"] for event in events) == warned


def test_unreadable_authorities(tmp_path):
    for content in (None, "no certificate"):
        path = tmp_path / "ca.pem"
        if content:
            path.write_text(content)
        with pytest.raises(ValueError, match=r"ca_file .*ca\.pem holds no certificates"):
            LdapDirectory(["ldaps://ldap.example.org"], Slapd.base, ca_file=path)


@pytest_twisted.ensureDeferred
async def test_refused_connections_are_closed(make_directory, slapd, tmp_path):
    directories = [make_directory(**settings(slapd, way, Authority.make(tmp_path, way))) for way in WAYS]
    gc.disable()
    try:
        before = len(os.listdir("/proc/self/fd"))
        for directory in directories * 5:
            await reason(directory)
        assert len(os.listdir("/proc/self/fd")) <= before
    finally:
        gc.enable()
