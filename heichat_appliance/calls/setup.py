"""Composes what calls need from section [calls]: the built-in relay or another one's URIs, and what people are told."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from heichat_appliance.calls import offer
from heichat_appliance.calls.allocations import Limits
from heichat_appliance.calls.server import CallServer
from heichat_appliance.clock import Clock
from heichat_appliance.config import Config, ConfigErrors, Settings
from heichat_appliance.settings import CallListener
from heichat_appliance.tls import Certificates, TLSError


class Calls:
    """The help that calls get. `offer` is what people are told; `server` is None where another server relays."""

    def __init__(self, settings: Settings, server: CallServer | None, *, host: str, secret: str, clock: Clock) -> None:
        """`host` is where people reach the server."""
        self._settings, self.server, self._host = settings, server, host
        self.offer = offer.Offer(self._uris, secret, settings.credential_lifetime, lambda: clock.now_ms() / 1000)

    async def start(self) -> None:
        """Listen. Raises ConfigErrors where that can't be."""
        if not self.server:
            return
        try:
            await self.server.start()
        except OSError as error:
            hint = "does another STUN or TURN server run on this machine?"
            raise ConfigErrors([f"[calls] listen: {error.strerror or error} (hint: {hint})"]) from error

    async def stop(self) -> None:
        """End all allocations and close every socket."""
        if self.server:
            await self.server.stop()

    def describe(self) -> Iterable[str]:
        """What the start prints."""
        if self.server:
            yield from self.server.describe()
        else:
            yield f"calls: relayed by {', '.join(self._uris())}"

    def _uris(self) -> list[str]:
        if self.server is None:
            return list(self._settings.uris)
        return offer.uris(self._host, [CallListener(*address) for address in self.server.addresses()])


def build(config: Config, data_dir: Path, clock: Clock, reactor: Any, certificates: Certificates) -> Calls | None:
    """None when calls are switched off. Nothing listens yet. Raises ConfigErrors."""
    settings = config["calls"]
    if not settings.enabled:
        return None
    errors = contradictions(settings)
    if errors:
        raise ConfigErrors(errors)
    secret = offer.load_secret(settings.shared_secret_file, data_dir)
    host = settings.public_host or urlsplit(config["server"].public_url).hostname or ""
    server = None
    if not settings.uris:
        server = _server(settings, reactor, clock, secret=secret, context=_context(settings, certificates))
    return Calls(settings, server, host=host, secret=secret, clock=clock)


def _server(settings: Settings, reactor: Any, clock: Clock, *, secret: str, context: Any) -> CallServer:
    return CallServer(
        reactor,
        listen=settings.listen,
        secret=secret,
        realm=settings.realm,
        relay_ports=settings.relay_ports,
        external_addresses=settings.external_address,
        allow_private=settings.allow_private,
        allowed_peers=[str(network) for network in settings.allow_networks],
        limits=Limits(
            allocations=settings.allocations,
            allocations_per_person=settings.allocations_per_person,
            bandwidth=settings.bandwidth_per_allocation,
            total_bandwidth=settings.bandwidth,
        ),
        tls_context=context,
        wall=lambda: clock.now_ms() / 1000,
    )


def _context(settings: Settings, certificates: Certificates) -> Any:
    """The server's side of TLS, if it is wanted."""
    if not _has_tls(settings):
        return None
    try:
        return certificates.files(settings.private_key, settings.certificate)
    except TLSError as error:
        raise ConfigErrors([f"[calls] certificate, private_key: {error}"]) from None


def _has_tls(settings: Settings) -> bool:
    return any(one.transport == "tls" for one in settings.listen)


def contradictions(settings: Settings) -> list[str]:
    """What is wrong with the settings together, as sentences."""
    errors = []
    if settings.uris and not settings.shared_secret_file:
        errors.append(
            "[calls] uris needs shared_secret_file, the secret of that server "
            "(hint: coturn has it as static-auth-secret, with use-auth-secret)"
        )
    if not settings.uris and not settings.listen:
        errors.append("[calls] listen names nothing (hint: udp:3478, or enabled = no)")
    for key in ("certificate", "private_key"):
        if _has_tls(settings) and not settings.uris and not settings[key]:
            errors.append(f"[calls] {key} is missing, as listen has tls (hint: the files that the web server uses)")
    return errors
