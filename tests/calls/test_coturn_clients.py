"""Clients of coturn (Debian's package) against this server: turnutils_stunclient and turnutils_uclient."""

from __future__ import annotations

import re
import subprocess

import pytest
import pytest_twisted
from twisted.internet.defer import gatherResults
from twisted.internet.ssl import DefaultOpenSSLContextFactory

from heichat_appliance.calls.allocations import Limits
from heichat_appliance.calls.credentials import credentials
from tests import certificates
from tests.calls.client import in_thread
from tests.calls.kit import SECRET, WALL
from tests.calls.test_server import needs_ipv6, running
from tests.clients.coturn import requires_coturn

pytestmark = requires_coturn

#: What each client asks for. All have two legs that talk to each other through the relay, ten messages of 1,200 bytes each way.
CALLS = {
    "udp": ["-y", "-c"],
    "udp with rtcp (even ports, reservations)": ["-y"],
    "udp, send indications": ["-y", "-c", "-s"],
    "udp, don't fragment": ["-y", "-c", "-g"],
    "udp, padded, with extra requests": ["-y", "-c", "-D", "-G"],
    "udp, negative tests": ["-y", "-c", "-N"],
    "tcp": ["-y", "-c", "-t"],
    "tcp, send indications": ["-y", "-c", "-t", "-s"],
    "tls": ["-y", "-c", "-t", "-S"],
    "tls, send indications": ["-y", "-c", "-t", "-S", "-s"],
}


def uclient(host: str, port: int, options: list[str]) -> str:
    """Run a client to its end; what it says."""
    username, password = credentials(SECRET, "@alice:test", WALL, 86400)
    command = [
        "turnutils_uclient",
        "-u",
        username,
        "-w",
        password,
        "-n",
        "10",
        "-l",
        "1200",
        "-p",
        str(port),
        *options,
        host,
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=100, check=False)
    return done.stdout.decode("utf-8", "replace")


def all_arrived(output: str) -> bool:
    counts = re.findall(r"tot_send_msgs=(\d+), tot_recv_msgs=(\d+)", output)
    return bool(counts) and counts[-1][0] == counts[-1][1] != "0" and "Total lost packets 0 " in output


@pytest_twisted.ensureDeferred
async def test_uclient(tmp_path_factory: pytest.TempPathFactory) -> None:
    key, certificate = certificates.make(tmp_path_factory.mktemp("tls"))
    context = DefaultOpenSSLContextFactory(str(key), str(certificate))
    listen = [(transport, "127.0.0.1", 0) for transport in ("udp", "tcp", "tls")]
    async with running(*listen, tls_context=context, limits=Limits(allocations_per_person=200)) as server:
        ports = {transport: port for transport, _, port in server.addresses()}
        names = list(CALLS)
        outputs = await gatherResults([in_thread(uclient, "127.0.0.1", ports[name[:3]], CALLS[name]) for name in names])
    failed = {name: output for name, output in zip(names, outputs, strict=True) if not all_arrived(output)}
    assert not failed, failed


@needs_ipv6
@pytest_twisted.ensureDeferred
async def test_uclient_with_ipv6() -> None:
    # Not -Z: this client asks for two families with another attribute number than RFC 8656's.
    listen = [("udp", "127.0.0.1", 0), ("udp", "::1", 0)]
    async with running(*listen, external_addresses=["127.0.0.1", "::1"]) as server:
        ports = {host: port for _, host, port in server.addresses()}
        outputs = await gatherResults(
            [
                in_thread(uclient, "::1", ports["::1"], ["-y", "-c", "-x"]),
                in_thread(uclient, "127.0.0.1", ports["127.0.0.1"], ["-y", "-c", "-X"]),
            ]
        )
    for output in outputs:
        assert all_arrived(output), output


@pytest_twisted.ensureDeferred
async def test_stunclient() -> None:
    async with running() as server:
        ((_, host, port),) = server.addresses()
        command = ["turnutils_stunclient", "-p", str(port), host]
        output = await in_thread(lambda: subprocess.run(command, capture_output=True, timeout=60, check=True).stdout)
    assert b"reflexive addr: 127.0.0.1:" in output
