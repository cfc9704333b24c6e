"""`heichat-admin element`: install a release of Element Web, and what is installed."""

from __future__ import annotations

import argparse
import http.client
import re
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from heichat_appliance.admin.command import Call, Commands, Trouble
from heichat_appliance.admin.language import t
from heichat_appliance.admin.owner import as_owner_of
from heichat_appliance.admin.releases import Releases, too_large
from heichat_appliance.admin.show import size
from heichat_appliance.http.element_web import folder_of

#: Bytes of an archive.
MAX_ARCHIVE = 300 * 2**20
_SECONDS = 60
_PIECE = 256 * 1024
_EXAMPLE = (
    "https://github.com/element-hq/element-web/releases/download/v1.11.90/element-v1.11.90.tar.gz --sha256 0123…cdef"
)


def register(commands: Commands) -> None:
    """The commands of this module."""
    group = commands.group(
        "element",
        en="install Element Web, the web client, or say what is installed",
        de="Element Web, die Weboberfläche, installieren, oder nennen, was installiert ist",
        examples=f"element status\nelement install {_EXAMPLE}",
    )
    install = group.add(
        "install",
        _install,
        en="check and unpack a release and switch to it",
        de="eine Ausgabe prüfen, auspacken und auf sie umschalten",
        more_en="The running daemon serves it at once, without a restart; pages that are open go on. The release before it is "
        "kept: install its archive again to go back. Nothing changes if anything is wrong with the archive.\n\n"
        "Releases and their SHA-256 are at https://github.com/element-hq/element-web/releases. Check the signature "
        "(.asc) beside the archive, too, before you trust a sum from the same page.",
        more_de="Der laufende Dienst liefert sie sofort aus, ohne Neustart; offene Seiten laufen weiter. Die vorige Ausgabe "
        "bleibt: Um zurückzugehen, deren Archiv noch einmal installieren. Stimmt etwas am Archiv nicht, ändert sich nichts.\n\n"
        "Ausgaben und ihre SHA-256 stehen auf https://github.com/element-hq/element-web/releases. Prüfen Sie auch die "
        "Signatur (.asc) neben dem Archiv, bevor Sie einer Summe von derselben Seite trauen.",
        examples=f"element install element-v1.11.90.tar.gz --sha256 0123…cdef\nelement install {_EXAMPLE}",
    )
    install.add_argument(
        "archive",
        metavar=t("ARCHIVE", "ARCHIV"),
        help=t("a .tar.gz file, or its https:// address", "eine .tar.gz-Datei, oder ihre https://-Adresse"),
    )
    install.add_argument(
        "--sha256",
        required=True,
        type=_digest,
        metavar="SHA256",
        help=t("the archive's SHA-256, 64 hexadecimal digits", "die SHA-256-Summe des Archivs, 64 Hexadezimalziffern"),
    )
    group.add(
        "status",
        _status,
        en="say which version is served, and whether it is whole and the newest that was installed",
        de="die ausgelieferte Version nennen, und ob sie heil und die zuletzt installierte ist",
    )


def _digest(value: str) -> str:
    if not re.fullmatch("[0-9a-fA-F]{64}", value):
        raise argparse.ArgumentTypeError(t("64 hexadecimal digits are needed", "64 Hexadezimalziffern sind nötig"))
    return value.lower()


def _install(call: Call) -> int:
    releases = Releases(folder_of(call.config))
    with _opened(call.options.archive) as archive, as_owner_of(releases.folder):
        try:
            record = releases.install(archive, call.options.sha256, call.options.archive)
        except OSError as error:  # a full disk, a folder that may not be written
            place = error.filename or releases.folder
            raise Trouble(t(f"{place}: {error.strerror}; nothing was installed",
                            f"{place}: {error.strerror}; nichts wurde installiert")) from None  # fmt: skip
    print(
        t(f"Element Web {record.version} is served at {call.config['server'].public_url}/element/ "
          f"({record.files} files, {size(record.bytes)}).",
          f"Element Web {record.version} wird unter {call.config['server'].public_url}/element/ ausgeliefert "
          f"({record.files} Dateien, {size(record.bytes)}).")
    )  # fmt: skip
    return 0


def _status(call: Call) -> int:
    releases = Releases(folder_of(call.config))
    current = releases.current()
    if current is None:
        hint = t("hint", "Hinweis") + ": heichat-admin element install"
        print(t(f"Element Web is not installed (nothing at {releases.folder}; {hint}).",
                f"Element Web ist nicht installiert (nichts in {releases.folder}; {hint})."))  # fmt: skip
        return 1
    record = releases.record(current)
    if record is None:
        print(t(f"Element Web in {current} was not put there by this command, so nothing is known of it.",
                f"Element Web in {current} stammt nicht von diesem Befehl; darüber ist nichts bekannt."))  # fmt: skip
        return 0
    print(t(f"Element Web {record.version}, installed {record.installed[:16]} from {record.source}",
            f"Element Web {record.version}, installiert {record.installed[:16]} von {record.source}"))  # fmt: skip
    print(f"SHA-256: {record.sha256}")
    former = releases.record(releases.former.resolve())
    if former is not None:
        print(t(f"Before it: {former.version}", f"Davor: {former.version}"))
    problems = list(_problems(releases, current))
    print(*problems or [t("It is whole, and the last that was installed.", "Sie ist heil und die zuletzt installierte.")],
          sep="\n")  # fmt: skip
    return 1 if problems else 0


def _problems(releases: Releases, current: Path) -> Iterator[str]:
    record, newest = releases.record(current), releases.newest()
    if record is not None and not releases.is_whole(current, record):
        yield t("Files are missing or have changed (hint: install it again).",
                "Dateien fehlen oder haben sich geändert (Hinweis: neu installieren).")  # fmt: skip
    if newest is not None and newest != current and (other := releases.record(newest)):
        yield t(
            f"Not current: {other.version} was installed after it.",
            f"Nicht aktuell: {other.version} wurde danach installiert.",
        )


@contextmanager
def _opened(name: str) -> Iterator[IO[bytes]]:
    """A copy of the archive in a nameless file, which nobody can change between being checked and being unpacked."""
    with tempfile.TemporaryFile() as copy:
        try:
            with _source(name) as source:
                while piece := source.read(_PIECE):
                    copy.write(piece)
                    if copy.tell() > MAX_ARCHIVE:
                        raise too_large(MAX_ARCHIVE)
        except PermissionError:
            raise
        except (OSError, http.client.HTTPException) as error:
            raise Trouble(t(f"{name} can't be read: {error}", f"{name} lässt sich nicht lesen: {error}")) from None
        yield copy


def _source(name: str) -> Any:
    """A file, or what an address answers: http and https only, redirects too; proxies as the environment says."""
    if urlsplit(name).scheme not in ("http", "https"):
        return open(name, "rb")
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener.open(name, timeout=_SECONDS)
