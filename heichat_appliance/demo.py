"""`--demo`: a configuration without a file, for the first minute."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from heichat_appliance.config import Config, Section, from_values

SERVER_NAME = "demo.heichat.localhost"
PORT_TAKEN = (
    "(hint: another program uses this port, perhaps another demo; `make run PORT=8009` takes another one / "
    "Ein anderes Programm nutzt diesen Port, vielleicht eine zweite Demo; `make run PORT=8009` nimmt einen anderen)"
)


def config(data_dir: Path, port: int, sections: Iterable[Section]) -> Config:
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
        "calls": {"listen": "udp:127.0.0.1:0, tcp:127.0.0.1:0", "allow_networks": "127.0.0.0/8"},
    }
    return from_values(values, sections, source="(demo)", folder=Path.cwd(), demo=True)


def banner(url: str, people: Iterable[Any], data_dir: Path) -> str:
    """What the demo prints when it runs: where to go, who can log in (directory.people_file.DemoPerson), what is kept."""
    rows = [f"    {p.person.uni_id:<12}{p.password:<20}{p.person.display_name or ''} ({p.role})" for p in people]
    return "\n".join(
        [
            "",
            "  heiCHAT läuft als Demo – nur auf diesem Rechner. / heiCHAT runs as a demo, on this machine only.",
            "",
            f"  Im Browser ausprobieren / try it in the browser:  {url}/try/",
            "",
            f"  Oder mit einem Matrix-Client (z. B. Element), der Serveradresse {url} und einer dieser Uni-IDs:",
            f"  Or with a Matrix client (e.g. Element), the server address {url} and one of these Uni-IDs:",
            "",
            f"    {'Uni-ID':<12}{'Passwort/password':<20}Name",
            *rows,
            "",
            f"  Die Daten bleiben in / the data is kept in {data_dir}",
            "  (Ordner löschen: neu beginnen / delete the folder to begin anew). Beenden mit Strg-C / stop with Ctrl-C.",
            "",
        ]
    )
