"""Requests to other servers, at addresses that strangers may have named: to public addresses only, within limits.

A name is resolved, and the connection goes to the very addresses that were looked at, so a name that changes its
meaning in between (DNS rebinding) gains nothing. Nothing is decompressed, so a small answer can't become a large one.
"""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Any, NamedTuple

from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IReactorPluggableNameResolver,
    IResolutionReceiver,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool, ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory
from zope.interface import implementer

#: Seconds for connecting, and for a whole request.
CONNECT_SECONDS = 10.0
SECONDS = 30.0
#: Connections to one server that are kept for the next request.
MAX_KEPT = 10
#: The most bytes of an answer's body.
MAX_ANSWER = 64 * 1024
_IPV6_GLOBAL = IPv6Network("2000::/3")


class Answer(NamedTuple):
    """What came back: the beginning of the body if it was cut. `location` is where a redirect leads."""

    status: int
    body: bytes
    content_type: str = ""
    location: str | None = None


class AnswerTooLong(Exception):
    """The body is longer than MAX_ANSWER."""


def is_public(address: str) -> bool:
    """Whether this is the address of one machine in the public internet; not of a network within, or a way into one."""
    found = ip_address(address)
    if isinstance(found, IPv6Address) and (found not in _IPV6_GLOBAL or found.sixtofour is not None):
        return False
    return found.is_global and not found.is_multicast and not found.is_reserved


class Outgoing:
    """A client for other servers."""

    def __init__(self, reactor: Any, *, allow_private: bool) -> None:
        """`allow_private`: connect to addresses in private networks and on this machine too."""
        self.allow_private = allow_private
        self._reactor = reactor
        self._pool = HTTPConnectionPool(reactor, persistent=True)
        self._pool.maxPersistentPerHost = MAX_KEPT
        self._pool.retryAutomatically = False
        endpoints = _Endpoints(reactor if allow_private else _PublicReactor(reactor))
        self._client = HTTPClient(_PlainAgent(Agent.usingEndpointFactory(reactor, endpoints, pool=self._pool)))

    def post(self, url: str, body: bytes) -> Deferred[Answer]:
        """POST a JSON body. Fails with what went wrong: no public address, no connection, time-out, AnswerTooLong."""
        sending = self._send("POST", url, {"Content-Type": "application/json"}, body, _Body(MAX_ANSWER))
        return Deferred.fromCoroutine(sending).addTimeout(SECONDS, self._reactor)

    def get(self, url: str, accept: str, beginning: int) -> Deferred[Answer]:
        """GET the first `beginning` bytes of a page, without following redirects. Fails as `post` does."""
        sending = self._send("GET", url, {"Accept": accept}, None, _Body(beginning, cut=True))
        return Deferred.fromCoroutine(sending).addTimeout(SECONDS, self._reactor)

    async def _send(self, method: str, url: str, headers: dict[str, str], data: bytes | None, body: _Body) -> Answer:
        headers = {"User-Agent": "heiCHAT", **headers}
        response = await self._client.request(
            method, url, data=data, headers=headers, allow_redirects=False, unbuffered=True
        )
        response.deliverBody(body)
        content_type, location = (
            (response.headers.getRawHeaders(name) or [None])[0] for name in ("content-type", "location")
        )
        return Answer(response.code, await body.done, content_type or "", location)

    async def stop(self) -> None:
        """Close the connections that are kept."""
        await self._pool.closeCachedConnections()


class _Body(Protocol):
    """Collects a body of at most `limit` bytes; one that nobody waits for any more is broken off.

    A longer one is cut there, or (not `cut`) it is an error.
    """

    def __init__(self, limit: int, *, cut: bool = False) -> None:
        self._limit = limit
        self._cut = cut
        self.done: Deferred[bytes] = Deferred(lambda _: self._break_off())
        self._parts: list[bytes] = []
        self._length = 0

    def dataReceived(self, data: bytes) -> None:
        """Part of IProtocol."""
        self._length += len(data)
        if self._length <= self._limit or self._cut:
            self._parts.append(data)
        if self._length > self._limit and not self.done.called:
            if self._cut:
                self.done.callback(b"".join(self._parts)[: self._limit])
            else:
                self.done.errback(AnswerTooLong())
            self._break_off()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Part of IProtocol."""
        if not self.done.called:
            if reason.check(ResponseDone):
                self.done.callback(b"".join(self._parts))
            else:
                self.done.errback(reason)

    def _break_off(self) -> None:
        abort = getattr(self.transport, "abortConnection", None)
        if abort is not None:
            abort()


@implementer(IAgent)
class _PlainAgent:
    """Asks for plain bodies, and hides from treq that one is compressed: it would unpack it without a limit."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def request(self, method: bytes, uri: bytes, headers: Any = None, bodyProducer: Any = None) -> Deferred[Any]:
        headers = headers.copy() if headers is not None else Headers()
        headers.setRawHeaders("accept-encoding", ["identity"])
        return self._agent.request(method, uri, headers, bodyProducer).addCallback(self._plain)

    @staticmethod
    def _plain(response: Any) -> Any:
        response.headers.removeHeader("content-encoding")
        return response


# -- connecting --------------------------------------------------------------------------------------------------------


@implementer(IAgentEndpointFactory)
class _Endpoints:
    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._tls = BrowserLikePolicyForHTTPS()

    def endpointForURI(self, uri: Any) -> Any:
        endpoint = HostnameEndpoint(self._reactor, uri.host, uri.port, timeout=CONNECT_SECONDS)
        if uri.scheme == b"https":
            return wrapClientTLS(self._tls.creatorForNetloc(uri.host, uri.port), endpoint)
        return endpoint


@implementer(IReactorPluggableNameResolver)
class _PublicReactor:
    """The reactor, but its names have public addresses only."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.nameResolver = _PublicResolver(reactor)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)


@implementer(IHostnameResolver)
class _PublicResolver:
    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def resolveHostName(self, receiver: Any, hostName: str, *args: Any, **options: Any) -> Any:
        return self._reactor.nameResolver.resolveHostName(_PublicReceiver(receiver), hostName, *args, **options)


@implementer(IResolutionReceiver)
class _PublicReceiver:
    def __init__(self, receiver: Any) -> None:
        self._receiver = receiver

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        self._receiver.resolutionBegan(resolutionInProgress)

    def addressResolved(self, address: IAddress) -> None:
        if is_public(address.host):  # type: ignore[attr-defined]
            self._receiver.addressResolved(address)

    def resolutionComplete(self) -> None:
        self._receiver.resolutionComplete()
