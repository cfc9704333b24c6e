"""Composes what calls need from section [calls]: what people are told, and the built-in relay or another one's URIs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from heichat_appliance.calls import offer
from heichat_appliance.clock import Clock
from heichat_appliance.config import Config, ConfigErrors, Settings


class Calls:
    """The help that calls get. `offer` is what people are told."""

    def __init__(self, settings: Settings, *, host: str, secret: str, clock: Clock) -> None:
        self._settings, self._host = settings, host
        self.offer = offer.Offer(self._uris, secret, settings.credential_lifetime, lambda: clock.now_ms() / 1000)

    def _uris(self) -> list[str]:
        return list(self._settings.uris) or offer.uris(self._host, self._settings.listen)

    def describe(self) -> Iterable[str]:
        """What the start prints."""
        yield f"calls: {', '.join(self._uris())}"


def build(config: Config, data_dir: Path, clock: Clock) -> Calls | None:
    """None when calls are switched off. Nothing listens yet. Raises ConfigErrors."""
    settings = config["calls"]
    if not settings.enabled:
        return None
    errors = _contradictions(settings)
    if errors:
        raise ConfigErrors(errors)
    host = settings.public_host or urlsplit(config["server"].public_url).hostname or ""
    return Calls(settings, host=host, secret=offer.load_secret(settings.shared_secret_file, data_dir), clock=clock)


def _contradictions(settings: Settings) -> list[str]:
    errors = []
    if settings.uris and not settings.shared_secret_file:
        errors.append(
            "[calls] uris needs shared_secret_file, the secret of that server "
            "(hint: coturn has it as static-auth-secret, with use-auth-secret)"
        )
    if not settings.uris and not settings.listen:
        errors.append("[calls] listen names nothing (hint: udp:3478, or enabled = no)")
    has_tls = any(one.transport == "tls" for one in settings.listen)
    for key in ("certificate", "private_key"):
        if has_tls and not settings.uris and not settings[key]:
            errors.append(f"[calls] {key} is missing, as listen has tls (hint: the files that the web server uses)")
    return errors
