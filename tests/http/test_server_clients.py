"""The HTTP server and clients that others wrote: h11, curl, twisted.web's agent; over TCP, TLS and Unix sockets."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import h11
import pytest
import pytest_twisted
import treq
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet import reactor
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    UNIXClientEndpoint,
    connectProtocol,
    serverFromString,
    wrapClientTLS,
)
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import Clock
from twisted.internet.utils import getProcessOutputAndValue

from heichat_appliance.http.server import HTTPFactory
from tests.http.server_kit import PLAIN, RawClient, RecordingSite, request, serving, split_answers, until
from tests.http.test_server_framing import BAD, GOOD, SMUGGLED

async_test = pytest_twisted.ensureDeferred
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")


async def curl(*arguments: str) -> bytes:
    out, error, code = await getProcessOutputAndValue("curl", ("-sS", "-m", "10", *arguments))
    assert code == 0, error
    return out


async def h11_exchange(
    client, connection: h11.Connection, head: h11.Request, *body: bytes
) -> tuple[h11.Response, bytes]:
    """Sends a request with h11 and reads the answer with it, so both sides of the wire are h11's."""
    client.send(connection.send(head))
    for data in body:
        client.send(connection.send(h11.Data(data=data)))
    client.send(connection.send(h11.EndOfMessage()))
    response, received = None, b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            await client.until(lambda: client.data or client.closed)
            data, client.data = client.data, b""
            connection.receive_data(data)
        elif isinstance(event, h11.Response):
            response = event
        elif isinstance(event, h11.Data):
            received += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            return response, received


@async_test
async def test_h11_many_requests_on_one_connection():
    async with serving() as server:

        def stream(exchange) -> None:
            writer = exchange.respond_stream(200, PLAIN, None)
            for number in range(10):
                writer.write(b"%d," % number)
            writer.finish()

        server.site.handles["/stream"] = stream
        client, connection = await server.connect(), h11.Connection(h11.CLIENT)
        host, chunks = ("Host", "here"), ("Transfer-Encoding", "chunked")
        cases = [
            (h11.Request(method="GET", target="/a?b", headers=[host]), (), b"GET /a?b "),
            (
                h11.Request(method="PUT", target="/a", headers=[host, ("Content-Length", "3")]),
                (b"abc",),
                b"PUT /a? abc",
            ),
            (
                h11.Request(method="PUT", target="/a", headers=[host, chunks]),
                (b"ab", b"c" * 999),
                b"PUT /a? ab" + b"c" * 999,
            ),
            (h11.Request(method="HEAD", target="/a", headers=[host]), (), b""),
            (h11.Request(method="GET", target="/stream", headers=[host]), (), b"0,1,2,3,4,5,6,7,8,9,"),
        ]
        for _ in range(3):
            for head, body, expected in cases:
                response, received = await h11_exchange(client, connection, head, *body)
                assert (response.status_code, received) == (200, expected)
                connection.start_next_cycle()


@needs_curl
@async_test
async def test_curl(tmp_path):
    body = b"0123456789" * 9000
    file = tmp_path / "body"
    file.write_bytes(body)
    async with serving() as server:
        url = server.url
        assert await curl(f"{url}/a?b=c") == b"GET /a?b=c "
        assert await curl("-0", f"{url}/a") == b"GET /a? "
        assert await curl("-X", "DELETE", f"{url}/a") == b"DELETE /a? "
        assert await curl("-T", str(file), f"{url}/a") == b"PUT /a? " + body  # with Expect: 100-continue
        assert await curl("-T", str(file), "-H", "Transfer-Encoding: chunked", f"{url}/a") == b"PUT /a? " + body
        assert (await curl("-I", f"{url}/a")).startswith(b"HTTP/1.1 200 OK\r\n")
        assert await curl("--http2", f"{url}/a") == b"GET /a? "  # asks for an upgrade
        assert await curl(f"{url}/1", f"{url}/2", "-d", "x") == b"POST /1? xPOST /2? x"
        assert await curl("--proxy", url, f"{url}/a") == b"GET /a? "  # absolute form
        large = tmp_path / "large"
        large.write_bytes(body * 20)
        assert await curl("-o", "/dev/null", "-w", "%{http_code}", "-T", str(large), f"{url}/a") == b"413"


@async_test
async def test_treq():
    async with serving() as server:
        response = await treq.post(f"{server.url}/a", data=b"hello", persistent=False)
        assert (response.code, await response.content()) == (200, b"POST /a? hello")


@pytest.mark.parametrize("name", [name for name in BAD if name not in ("body too long", "trailers without end")])
@async_test
async def test_bad_requests_over_a_real_socket(name):
    status, data = BAD[name]
    async with serving() as server:
        client = await server.connect()
        client.send(request("GET /before") + data + SMUGGLED)
        answers, rest = split_answers(await client.at_end())
        assert ([answer.status for answer in answers], rest) == ([200, status], b"")
        assert [seen.path for seen in server.site.seen] == ["/before"]


@pytest.mark.parametrize("name", GOOD)
@async_test
async def test_good_requests_over_a_real_socket(name):
    data, seen = GOOD[name]
    async with serving() as server:
        client = await server.connect()
        client.send(data)
        answers = await client.answers(len(seen), tuple(one.method for one in seen))
        assert [answer.status for answer in answers] == [200] * len(seen)
        assert server.site.seen == seen


# Other endpoints


@pytest.fixture
def certificate(tmp_path) -> Path:
    """A PEM file with a key and a certificate signed by it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "cert.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + built.public_bytes(serialization.Encoding.PEM)
    )  # fmt: skip
    return path


@needs_curl
@async_test
async def test_tls(certificate, tmp_path):
    site, clock = RecordingSite(), Clock()
    large = b"0123456789" * 300_000
    site.handles["/large"] = lambda exchange: exchange.respond(200, PLAIN, large)
    factory = HTTPFactory(site, clock)
    port = await serverFromString(reactor, f"ssl:0:interface=127.0.0.1:privateKey={certificate}").listen(factory)
    try:
        number = port.getHost().port
        url, options = f"https://localhost:{number}", ("--cacert", str(certificate), "--connect-to", "::127.0.0.1:")
        assert await curl(*options, f"{url}/a") == b"GET /a? "
        assert await curl(*options, "--no-alpn", f"{url}/a") == b"GET /a? "
        assert await curl(*options, "-d", "hello", f"{url}/b") == b"POST /b? hello"
        assert await curl(*options, f"{url}/large", f"{url}/c") == large + b"GET /c? "
        body = tmp_path / "body"
        body.write_bytes(b"x" * 5_000_000)
        assert await curl(*options, "-o", "/dev/null", "-w", "%{http_code}", "-T", str(body), f"{url}/a") == b"413"
        assert all(exchange.secure and exchange.peer == "127.0.0.1" for exchange in site.exchanges)
    finally:
        await port.stopListening()
        await factory.shut_down().addTimeout(5, reactor)
        assert factory.connections == 0


@async_test
async def test_a_tls_client_that_does_not_read_is_held_back_and_cut_off(certificate):
    site, clock, made = RecordingSite(), Clock(), []
    site.handles["/large"] = lambda exchange: exchange.respond(200, PLAIN, b"0123456789" * 200_000)
    site.handles["/huge"] = lambda exchange: exchange.respond(200, PLAIN, b"x" * 20_000_000)
    factory = HTTPFactory(site, clock)
    build = factory.buildProtocol
    factory.buildProtocol = lambda address: made.append(build(address)) or made[-1]
    port = await serverFromString(reactor, f"ssl:0:interface=127.0.0.1:privateKey={certificate}").listen(factory)
    try:
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        endpoint = wrapClientTLS(CertificateOptions(), endpoint)  # trusts anybody
        reader, idler = [await connectProtocol(endpoint, RawClient()) for _ in range(2)]
        reader.send(request("GET /large"))
        assert (await reader.answer()).body == b"0123456789" * 200_000
        idler.transport.pauseProducing()
        idler.send(request("GET /huge"))
        await until(lambda: made[1].choked)
        for _ in range(61):
            clock.advance(1)
        await until(lambda: factory.connections == 1)
    finally:
        await port.stopListening()
        await factory.shut_down().addTimeout(5, reactor)
        assert factory.connections == 0


@async_test
async def test_a_tls_handshake_that_never_comes_is_given_up(certificate):

    from tests.http.server_kit import RawClient

    clock = Clock()
    factory = HTTPFactory(RecordingSite(), clock)
    port = await serverFromString(reactor, f"ssl:0:interface=127.0.0.1:privateKey={certificate}").listen(factory)
    try:
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        client = await connectProtocol(endpoint, RawClient())
        await until(lambda: factory.connections == 1)
        for _ in range(16):
            clock.advance(1)
        await client.at_end()
        await until(lambda: factory.connections == 0)
    finally:
        await port.stopListening()


@async_test
async def test_unix_socket(tmp_path):
    site = RecordingSite()
    large = b"0123456789" * 300_000
    site.handles["/large"] = lambda exchange: exchange.respond(200, PLAIN, large)
    factory = HTTPFactory(site, Clock())
    path = str(tmp_path / "socket")
    port = await serverFromString(reactor, f"unix:{path}").listen(factory)
    try:
        client = await connectProtocol(UNIXClientEndpoint(reactor, path), RawClient())
        client.send(request("PUT /a", "Content-Length: 2", body=b"hi") + request("GET /large") + b"nonsense\r\n\r\n")
        (first, second, third), rest = split_answers(await client.at_end())
        assert (first.body, second.body, third.status, rest) == (b"PUT /a? hi", large, 400, b"")
        assert [(exchange.peer, exchange.peer_port, exchange.secure) for exchange in site.exchanges] == [
            ("", 0, False)
        ] * 2
    finally:
        await port.stopListening()
        await factory.shut_down().addTimeout(5, reactor)
