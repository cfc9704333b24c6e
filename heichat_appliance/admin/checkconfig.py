"""What is wrong with a configuration beyond its keys: all that would keep the daemon from starting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from zope.interface import providedBy

from heichat_appliance.calls import offer
from heichat_appliance.calls.setup import contradictions
from heichat_appliance.config import Config, ConfigErrors
from heichat_appliance.extension import IIdentity
from heichat_appliance.plugins import extensions
from heichat_appliance.tls import CertificateFiles, TLSError, parse


def problems(config: Config) -> list[str]:
    """Sentences, each with its hint; an empty list if nothing is wrong."""
    return [*plugins(config), *relay(config), *certificates(config)]


def plugins(config: Config) -> Iterator[str]:
    """Plugins that are not installed or refuse their settings, and whether exactly one knows people."""
    known = extensions()
    # As much of the appliance as plugins may use before it exists.
    host = SimpleNamespace(config=config, demo=config.demo, server_name=config["server"].name)
    identities, broken = 0, False
    for name in config["plugins"].enabled:
        if name not in known:
            broken = True
            yield f"[plugins] enabled names {name}, which is not installed (hint: known are {', '.join(sorted(known))})"
            continue
        try:
            built: Any = known[name].build(config[name], host)
        except ConfigErrors as error:
            broken = True
            yield from error.errors
        else:
            identities += IIdentity in providedBy(built)
    if identities != 1 and not broken:
        yield "[plugins] enabled must name exactly one plugin that knows people (hint: ldap_identity)"


def relay(config: Config) -> Iterator[str]:
    """Contradictions in [calls], and its secret."""
    settings = config["calls"]
    if not settings.enabled:
        return
    yield from contradictions(settings)
    secret = settings.shared_secret_file
    if secret is not None:
        try:
            offer.load_secret(secret, config["server"].data_dir)
        except ConfigErrors as error:
            yield from error.errors


def certificates(config: Config) -> Iterator[str]:
    """The files of TLS listeners."""
    for endpoint in config["server"].listen:
        if endpoint.startswith("ssl:"):
            try:
                found = parse(endpoint)
                chain = [Path(found[name]) for name in ("certKey", "extraCertChain") if found.get(name)]
                CertificateFiles(Path(found["privateKey"]), chain or [Path(found["privateKey"])], [])
            except TLSError as error:
                yield f"[server] listen: {error}"
    settings = config["calls"]
    if settings.enabled and not settings.uris and settings.certificate and settings.private_key:
        try:
            CertificateFiles(settings.private_key, [settings.certificate], [])
        except TLSError as error:
            yield f"[calls] certificate, private_key: {error}"
