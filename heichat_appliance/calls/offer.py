"""What people are told of the relay: its URIs (RFC 7065), and credentials that end by themselves."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

from heichat_appliance.calls.credentials import credentials
from heichat_appliance.config import ConfigErrors
from heichat_appliance.settings import CallListener


class Offer:
    """Answers `GET /voip/turnServer` (client-server API, "Voice over IP")."""

    def __init__(self, uris: Callable[[], list[str]], secret: str, ttl: int, now: Callable[[], float]) -> None:
        """`uris` are asked for at each answer; credentials live `ttl` seconds; `now` in seconds since 1970."""
        self._uris, self._secret, self._ttl, self._now = uris, secret, ttl, now

    def turn_server(self, user_id: str) -> dict[str, object]:
        """The body of the answer: username, password, uris, ttl in seconds."""
        username, password = credentials(self._secret, user_id, self._now(), self._ttl)
        return {"username": username, "password": password, "uris": self._uris(), "ttl": self._ttl}


def uris(host: str, listeners: Sequence[CallListener]) -> list[str]:
    """The URIs under which clients reach `listeners` at `host`, UDP first as it is best for media, each once."""
    shown = f"[{host}]" if ":" in host else host
    found = {
        "udp": [f"turn:{shown}:{one.port}?transport=udp" for one in listeners if one.transport == "udp"],
        "tcp": [f"turn:{shown}:{one.port}?transport=tcp" for one in listeners if one.transport == "tcp"],
        "tls": [f"turns:{shown}:{one.port}?transport=tcp" for one in listeners if one.transport == "tls"],
    }
    return list(dict.fromkeys(found["udp"] + found["tcp"] + found["tls"]))


def load_secret(file: Path | None, data_dir: Path) -> str:
    """The shared secret from `file`; without one, from `calls.secret` in the data folder, made at the first start.

    Raises ConfigErrors."""
    path = file or data_dir / "calls.secret"
    if file is None and not path.exists():
        new = path.with_suffix(".new")
        new.unlink(missing_ok=True)
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as out:
            out.write(secrets.token_urlsafe(32) + "\n")
        new.rename(path)
    try:
        secret = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigErrors([f"[calls] shared_secret_file can't be read: {error}"]) from None
    if len(secret) < 16:
        raise ConfigErrors(
            [f"[calls] shared_secret_file: {path} has no secret of 16 or more characters (hint: openssl rand -hex 32)"]
        )
    return secret
