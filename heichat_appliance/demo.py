"""`--demo`: a configuration without a file, for the first minute."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from heichat_appliance.config import Config, Section, from_values

SERVER_NAME = "demo.heichat.localhost"


def config(data_dir: Path, port: str, sections: Iterable[Section]) -> Config:
    """The configuration of the demo: loopback only, embedded people, data in `data_dir`."""
    values = {
        "server": {
            "name": SERVER_NAME,
            "public_url": f"http://127.0.0.1:{port}",
            "listen": f"tcp:{port}:interface=127.0.0.1",
            "data_dir": str(data_dir.absolute()),
            "admins": "admin",
        },
        "plugins": {"enabled": "demo_directory, terms_consent, closed_rooms"},
    }
    return from_values(values, sections, source="(demo)", folder=Path.cwd(), demo=True)
