"""doctor: STUN and TURN, asked as a client would.

RFC 8489 (STUN) and RFC 8656 (TURN): a binding, an allocation that must be refused, one that must be given.
"""

from __future__ import annotations

import re
import secrets
import socket
import ssl
import time
from collections.abc import Iterator
from ipaddress import ip_address
from types import TracebackType
from typing import Any

from heichat_appliance.admin.client import NotRunning, Refused
from heichat_appliance.admin.findings import FAIL, OK, WARN, Finding, Patient, ms
from heichat_appliance.admin.language import t
from heichat_appliance.calls import stun
from heichat_appliance.calls.credentials import long_term_key

#: Seconds in which an answer must come; a datagram is sent again after each part of them.
SECONDS, TRIES = 3.0, 4
_URI = re.compile(r"(turns?|stuns?):(\[[0-9A-Fa-f:]+\]|[^:?\[\]]+)(?::([0-9]+))?(?:\?transport=(udp|tcp))?")


def calls(patient: Patient) -> Iterator[Finding]:
    """Every URI that people are told."""
    if not patient.config["calls"].enabled:
        yield Finding(
            OK,
            "calls",
            t("calls are not helped: [calls] enabled = no", "Anrufe werden nicht vermittelt: [calls] enabled = no"),
        )
        return
    if patient.status is None:
        yield Finding(
            WARN,
            "calls",
            t("not examined, since the daemon does not run", "nicht geprüft, da der Dienst nicht läuft"),
            "systemctl start heichat",
        )
        return
    try:
        offer = patient.call.daemon.get("/calls", seconds=SECONDS)
    except (NotRunning, Refused) as error:
        yield Finding(FAIL, "calls", str(error), "journalctl -u heichat -n 50")
        return
    if not offer.get("uris"):
        yield Finding(
            FAIL,
            "calls",
            t("the daemon offers no relay", "der Dienst bietet kein Relay an"),
            t("[calls] listen; restart the daemon", "[calls] listen; den Dienst neu starten"),
        )
    for uri in offer.get("uris", ()):
        yield from _examine(uri, offer, patient.ca_file)


def _examine(uri: str, offer: dict[str, Any], ca_file: str | None) -> Iterator[Finding]:
    start = time.monotonic()
    try:
        with _Relay(uri, ca_file) as relay:
            mapped = relay.binding()
            if not uri.startswith("turn"):
                yield Finding(OK, "calls", t(f"{uri}: answers in {ms(start)}", f"{uri}: antwortet in {ms(start)}"))
                return
            yield from _refusals(uri, relay, offer)
            relayed = relay.allocate(offer["username"], offer["password"])
            relay.release()
    except (OSError, stun.Malformed, _Unexpected) as error:
        yield Finding(
            FAIL,
            "calls",
            f"{uri}: {error or type(error).__name__}",
            t(
                "firewall: the ports of [calls] listen (UDP and TCP); [calls] public_host",
                "Firewall: die Ports von [calls] listen (UDP und TCP); [calls] public_host",
            ),
        )
        return
    text = t(
        f"{uri}: sees us as {mapped}, relays at {relayed}, in {ms(start)}",
        f"{uri}: sieht uns als {mapped}, vermittelt bei {relayed}, in {ms(start)}",
    )
    if _is_hidden(relayed) and not _is_hidden(mapped):
        yield Finding(
            WARN,
            "calls",
            text,
            t(
                "nobody outside reaches that address: [calls] external_address",
                "diese Adresse erreicht draußen niemand: [calls] external_address",
            ),
        )
    else:
        yield Finding(OK, "calls", text)


def _refusals(uri: str, relay: _Relay, offer: dict[str, Any]) -> Iterator[Finding]:
    """What must be refused: no credentials, and a wrong password. (The first refusal also tells realm and nonce.)"""
    open_to_all = t(
        "the relay is open to everybody: shut it off now ([calls] enabled = no)",
        "das Relay steht allen offen: sofort abschalten ([calls] enabled = no)",
    )
    if relay.asks_for_credentials():
        yield Finding(
            OK,
            "calls",
            t(f"{uri}: refuses an allocation without credentials", f"{uri}: weist eine Anfrage ohne Zugangsdaten ab"),
        )
    else:
        yield Finding(FAIL, "calls", t(f"{uri}: relays for everybody", f"{uri}: vermittelt für alle"), open_to_all)
    try:
        relay.allocate(offer["username"], offer["password"] + "x")
    except _Unexpected as error:
        if error.code != 401:
            raise
        yield Finding(OK, "calls", t(f"{uri}: refuses wrong credentials", f"{uri}: weist falsche Zugangsdaten ab"))
    else:
        relay.release()
        yield Finding(
            FAIL, "calls", t(f"{uri}: takes wrong credentials", f"{uri}: nimmt falsche Zugangsdaten an"), open_to_all
        )


def _is_hidden(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    return not ip_address(host).is_global


class _Unexpected(Exception):
    """The relay answered with an error; `code` is its number."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(t(f"it answers {code} {reason}", f"es antwortet {code} {reason}"))
        self.code = code


class _Relay:
    """A blocking client of one STUN or TURN server. Methods raise OSError (no answer), Malformed, _Unexpected."""

    def __init__(self, uri: str, ca_file: str | None) -> None:
        match = _URI.fullmatch(uri)
        if match is None:
            raise OSError(t("not a URI of a relay", "keine URI eines Relays"))
        scheme, host, port, transport = match.groups()
        self._host = host.strip("[]")
        self._secure = scheme.endswith("s")
        self._stream = self._secure or transport == "tcp"
        self._port = int(port or (5349 if self._secure else 3478))
        self._ca_file = ca_file
        self._realm = self._nonce = b""
        self._key = b""
        self._username = ""

    def __enter__(self) -> _Relay:
        kind = socket.SOCK_STREAM if self._stream else socket.SOCK_DGRAM
        family, _, _, _, address = socket.getaddrinfo(self._host, self._port, type=kind)[0]
        self._socket = socket.socket(family, kind)
        try:
            self._socket.settimeout(SECONDS)
            self._socket.connect(address)
            if self._secure:
                context = ssl.create_default_context(cafile=self._ca_file)
                self._socket = context.wrap_socket(self._socket, server_hostname=self._host)
        except BaseException:
            self._socket.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def binding(self) -> str:
        """Our address, as the server sees it."""
        answer = self._ask(self._request(stun.BINDING))
        return self._address(answer, stun.XOR_MAPPED_ADDRESS)

    def asks_for_credentials(self) -> bool:
        """Whether an allocation without credentials is refused; keeps realm and nonce of the refusal."""
        try:
            self._ask(self._allocation())
        except _Unexpected as error:
            return error.code == 401
        return False

    def allocate(self, username: str, password: str) -> str:
        """The relayed address."""
        self._username = username
        self._key = long_term_key(username, self._realm.decode(), password)
        return self._address(self._ask(self._sealed(self._allocation())), stun.XOR_RELAYED_ADDRESS)

    def release(self) -> None:
        """Give the allocation back."""
        self._ask(self._sealed(self._request(stun.REFRESH).add(stun.LIFETIME, bytes(4))))

    @staticmethod
    def _request(method: int) -> stun.Builder:
        return stun.Builder(method, stun.REQUEST, secrets.token_bytes(12))

    def _allocation(self) -> stun.Builder:
        return self._request(stun.ALLOCATE).add(stun.REQUESTED_TRANSPORT, bytes((17, 0, 0, 0)))  # 17: UDP

    def _sealed(self, request: stun.Builder) -> stun.Builder:
        request.add(stun.USERNAME, self._username.encode()).add(stun.REALM, self._realm).add(stun.NONCE, self._nonce)
        return request.integrity(self._key)

    def _ask(self, request: stun.Builder) -> stun.Message:
        data = request.fingerprint().build()
        answer = self._over_stream(data) if self._stream else self._over_datagrams(data)
        if answer.kind == stun.SUCCESS:
            return answer
        self._realm, self._nonce = answer.get(stun.REALM) or self._realm, answer.get(stun.NONCE) or self._nonce
        raise _Unexpected(*stun.parse_error(answer.get(stun.ERROR_CODE) or b""))

    def _over_stream(self, data: bytes) -> stun.Message:
        self._socket.sendall(data)
        received = b""
        while len(received) < stun.HEADER_BYTES or len(received) < stun.HEADER_BYTES + int.from_bytes(
            received[2:4], "big"
        ):
            piece = self._socket.recv(4096)
            if not piece:
                raise OSError(t("the connection was closed", "die Verbindung wurde geschlossen"))
            received += piece
        return stun.parse(received)

    def _over_datagrams(self, data: bytes) -> stun.Message:
        """Lost datagrams are sent again; answers to anything else are not ours."""
        for _ in range(TRIES):
            self._socket.send(data)
            until = time.monotonic() + SECONDS / TRIES
            while (left := until - time.monotonic()) > 0:
                self._socket.settimeout(left)
                try:
                    answer = stun.parse(self._socket.recv(2048))
                except (TimeoutError, stun.Malformed):
                    continue
                if answer.transaction == data[8:20]:
                    return answer
        raise TimeoutError(t(f"no answer within {SECONDS:.0f} s", f"keine Antwort binnen {SECONDS:.0f} s"))

    @staticmethod
    def _address(answer: stun.Message, attribute: int) -> str:
        value = answer.get(attribute)
        if value is None:
            raise stun.Malformed(t("the answer holds no address", "die Antwort enthält keine Adresse"))
        host, port = stun.parse_xor_address(value, answer.transaction)[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
