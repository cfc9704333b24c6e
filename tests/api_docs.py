"""Writes docs/api.md anew: `python -m tests.api_docs`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from heichat_appliance.http.apidoc import document
from tests.appliance import Appliance

PATH = Path(__file__).parent.parent / "docs" / "api.md"
#: With everything switched on that has operations.
CONFIG = {"calls": {"enabled": "yes", "listen": "udp:127.0.0.1:0, tcp:127.0.0.1:0"}}
PLUGINS = ("demo_directory", "terms_consent", "closed_rooms")


async def text(folder: Path) -> str:
    """The document of an appliance with the usual plugins."""
    server = await Appliance.start(folder, plugins=PLUGINS, config=CONFIG)
    try:
        return document(server.daemon.site.router.routes)
    finally:
        await server.stop()


def main() -> None:
    """Write the file."""

    async def write() -> None:
        with tempfile.TemporaryDirectory() as folder:
            PATH.write_text(await text(Path(folder)), "utf-8")

    def end(result: Any) -> None:
        reactor.stop()  # type: ignore[attr-defined]
        if result is not None:
            result.printTraceback()

    Deferred.fromCoroutine(write()).addBoth(end)
    reactor.run()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
