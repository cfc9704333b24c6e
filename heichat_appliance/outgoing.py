"""Requests to other servers, at addresses that strangers may have named: to public addresses only, within limits.

A name is resolved, and the connection goes to the very addresses that were looked at, so a name that changes its
meaning in between (DNS rebinding) gains nothing. Redirects are not followed.
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
from twisted.web.iweb import IAgentEndpointFactory
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
    """What came back."""

    status: int
    body: bytes


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
        self._client = HTTPClient(Agent.usingEndpointFactory(reactor, endpoints, pool=self._pool))

    def post(self, url: str, body: bytes) -> Deferred[Answer]:
        """POST a JSON body. Fails with what went wrong: no public address, no connection, time-out, AnswerTooLong."""
        return Deferred.fromCoroutine(self._post(url, body)).addTimeout(SECONDS, self._reactor)

    async def _post(self, url: str, body: bytes) -> Answer:
        headers = {"Content-Type": "application/json", "User-Agent": "heiCHAT"}
        response = await self._client.request(
            "POST", url, data=body, headers=headers, allow_redirects=False, unbuffered=True
        )
        collector = _Body()
        response.deliverBody(collector)
        return Answer(response.code, await collector.done)

    async def stop(self) -> None:
        """Close the connections that are kept."""
        await self._pool.closeCachedConnections()


class _Body(Protocol):
    """Collects a body; too long a one, or one that nobody waits for any more, is broken off."""

    def __init__(self) -> None:
        self.done: Deferred[bytes] = Deferred(lambda _: self._break_off())
        self._parts: list[bytes] = []
        self._length = 0

    def dataReceived(self, data: bytes) -> None:
        """Part of IProtocol."""
        self._length += len(data)
        if self._length <= MAX_ANSWER:
            self._parts.append(data)
        elif not self.done.called:
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
