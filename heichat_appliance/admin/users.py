"""`heichat-admin users`: who has an account, and what can be done about them."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

from heichat_appliance.admin.command import Call, Commands, Parser, Trouble
from heichat_appliance.admin.language import count, t
from heichat_appliance.admin.show import facts, plain, rows_as_json, size, table, when, yes
from heichat_appliance.store import administration, devices, state
from heichat_appliance.store.administration import PersonRow


def register(commands: Commands) -> None:
    """The commands of this module."""
    users = commands.group(
        "users",
        en="list people, show one, lock, suspend, log out",
        de="Personen auflisten, anzeigen, sperren, stilllegen, abmelden",
        more_en="Accounts come from the directory at the first login, so there is nothing to create here.",
        more_de="Konten entstehen bei der ersten Anmeldung aus dem Verzeichnis; hier wird keines angelegt.",
        examples="users list\nusers show ab123\nusers lock ab123",
    )
    _register_list(users)
    _one(
        users, "show", _show,
        en="show one person: devices, last seen, agreement, rooms, files",
        de="eine Person zeigen: Geräte, zuletzt gesehen, Zustimmung, Räume, Dateien",
    )  # fmt: skip
    for name, flag, value, en, de, more_en, more_de in _FLAGS:
        _one(users, name, _set_flag(flag, value, name), en=en, de=de, more_en=more_en, more_de=more_de)
    _one(
        users, "log-out", _log_out,
        en="end all sessions of a person and delete their devices",
        de="alle Sitzungen einer Person beenden und ihre Geräte löschen",
        more_en="They can log in again at once, unless they are locked. Messages to their devices that were not "
        "fetched are lost.",
        more_de="Die Person kann sich sofort wieder anmelden, wenn sie nicht gesperrt ist. Nachrichten an ihre Geräte, "
        "die "
        "nicht abgeholt wurden, gehen verloren.",
    )  # fmt: skip
    retire = _one(
        users, "retire", _retire,
        en="lock a person, end all sessions, and have them leave all rooms",
        de="eine Person sperren, alle Sitzungen beenden und sie alle Räume verlassen lassen",
        more_en="For somebody who has left the university. What they wrote stays in the rooms. The account can be "
        "unlocked, "
        "but they have to be invited again.",
        more_de="Für Ausgeschiedene. Was sie geschrieben haben, bleibt in den Räumen. Das Konto lässt sich entsperren, "
        "aber "
        "die Person muss neu eingeladen werden.",
    )  # fmt: skip
    retire.add_argument("--reason", help=t("shown in the rooms", "wird in den Räumen gezeigt"))


_FLAGS = (
    ("lock", "locked", True, "lock an account: nothing works for it any more", "ein Konto sperren: nichts geht mehr damit",
     "Sessions stay and work again once it is unlocked.",
     "Die Sitzungen bleiben und gehen wieder, wenn das Konto entsperrt wird."),
    ("unlock", "locked", False, "unlock an account", "ein Konto entsperren", "", ""),
    ("suspend", "suspended", True, "suspend an account: it can read, but not write",
     "ein Konto stilllegen: es kann lesen, aber nicht schreiben", "", ""),
    ("unsuspend", "suspended", False, "let a suspended account write again",
     "ein stillgelegtes Konto wieder schreiben lassen", "", ""),
)  # fmt: skip


def _register_list(users: Commands) -> None:
    listing = users.add(
        "list",
        _list,
        en="list people, all or those that match",
        de="Personen auflisten, alle oder die, auf die ein Wort passt",
        examples="users list\nusers list müller\nusers list --locked --json",
    )
    listing.add_argument(
        "term", nargs="?", default="", metavar=t("TERM", "WORT"),
        help=t("part of user ID, Uni-ID, name or mail address", "Teil von Nutzer-ID, Uni-ID, Name oder E-Mail-Adresse"),
    )  # fmt: skip
    listing.add_argument("--locked", action="store_true", help=t("only locked ones", "nur gesperrte"))
    listing.add_argument("--suspended", action="store_true", help=t("only suspended ones", "nur stillgelegte"))
    listing.add_argument("--limit", type=int, help=t("at most so many", "höchstens so viele"))
    listing.add_argument("--json", action="store_true", help=t("for programs", "für Programme"))


def _one(
    users: Commands, name: str, run: Callable[[Call], int], *, en: str, de: str, more_en: str = "", more_de: str = ""
) -> Parser:
    parser = users.add(name, run, en=en, de=de, more_en=more_en, more_de=more_de, examples=f"users {name} ab123")
    parser.add_argument(
        "person", metavar="PERSON", help=t("user ID or Uni-ID, e.g. ab123", "Nutzer-ID oder Uni-ID, z. B. ab123")
    )
    return parser


def _list(call: Call) -> int:
    options = call.options
    term = options.term.casefold()
    with call.database() as connection:
        found = [
            row
            for row in administration.people(connection.execute, locked=options.locked, suspended=options.suspended)
            if not term or any(term in (text or "").casefold() for text in row[:4])
        ][: options.limit]
    if options.json:
        rows_as_json(found)
        return 0
    table(
        ("Uni-ID", "Name", t("devices", "Geräte"), t("last seen", "zuletzt gesehen"), t("rooms", "Räume"),
         t("files", "Dateien"), t("terms", "Zustimmung"), t("state", "Zustand")),
        (
            (plain(row.uni_id), plain(row.display_name, 30), row.devices, when(row.last_seen_ts), row.rooms,
             size(row.media), row.consent or "–", _flags(row))
            for row in found
        ),
    )  # fmt: skip
    print(count(len(found), "person|people", "Person|Personen") + ".")
    return 0


def _flags(row: PersonRow) -> str:
    words = [t("locked", "gesperrt")] * row.locked + [t("suspended", "stillgelegt")] * row.suspended
    return ", ".join(words)


def _find(call: Call) -> PersonRow:
    with call.database() as connection:
        found = administration.person(connection.execute, call.options.person)
    if found is None:
        raise Trouble(
            t(
                f"{call.options.person} has no account here (hint: accounts are made at the first login)",
                f"{call.options.person} hat hier kein Konto (Hinweis: Konten entstehen bei der ersten Anmeldung)",
            )
        )
    return found


def _show(call: Call) -> int:
    row = _find(call)
    facts(
        (
            (t("user ID", "Nutzer-ID"), row.user_id),
            ("Uni-ID", plain(row.uni_id)),
            ("Name", plain(row.display_name)),
            ("E-Mail", plain(row.mail)),
            (t("first login", "erste Anmeldung"), when(row.created_ts)),
            (t("last seen", "zuletzt gesehen"), when(row.last_seen_ts)),
            (t("locked", "gesperrt"), yes(row.locked)),
            (t("suspended", "stillgelegt"), yes(row.suspended)),
            (t("files", "Dateien"), size(row.media)),
        )
    )
    with call.database() as connection:
        execute = connection.execute
        consents = administration.consents(execute, row.user_id)
        known = devices.of_user(execute, row.user_id)
        rooms = [(administration.room(execute, one), one) for one in state.rooms_of_user_now(execute, row.user_id)]
    print("\n" + t("Agreed to the terms:", "Den Bedingungen zugestimmt:"))
    table((t("version", "Fassung"), t("when", "wann")), ((version, when(ts)) for version, ts in consents))
    print("\n" + t("Devices:", "Geräte:"))
    table(
        ("ID", "Name", t("since", "seit"), t("last seen", "zuletzt gesehen"), t("from", "von")),
        (
            (
                plain(d.device_id),
                plain(d.display_name, 40),
                when(d.created_ts),
                when(d.last_seen_ts),
                d.last_seen_ip or "–",
            )
            for d in known
        ),
    )
    print("\n" + t("Rooms:", "Räume:"))
    table(
        ("ID", "Name", t("people", "Personen")),
        ((one, plain(found.name) if found else "–", found.joined if found else "–") for found, one in rooms),
    )
    return 0


def _set_flag(flag: str, value: bool, name: str) -> Callable[[Call], int]:
    def run(call: Call) -> int:
        row = _find(call)
        call.daemon.post(f"/users/{quote(row.user_id)}/flags/{flag}", {"value": value})
        done = {
            "lock": t("is locked", "ist gesperrt"),
            "unlock": t("is not locked any more", "ist nicht mehr gesperrt"),
            "suspend": t("is suspended", "ist stillgelegt"),
            "unsuspend": t("may write again", "darf wieder schreiben"),
        }[name]
        print(f"{row.user_id} {done}.")
        return 0

    return run


def _log_out(call: Call) -> int:
    row = _find(call)
    print(f"{row.user_id}: {_end_sessions(call, row)}.")
    return 0


def _end_sessions(call: Call, row: PersonRow) -> str:
    number = call.daemon.post(f"/users/{quote(row.user_id)}/log-out")["devices"]
    return count(number, "device|devices", "Gerät|Geräte") + t(" logged out", " abgemeldet")


def _retire(call: Call) -> int:
    row = _find(call)
    path = f"/users/{quote(row.user_id)}"
    call.daemon.post(f"{path}/flags/locked", {"value": True})
    ended = _end_sessions(call, row)
    rooms = call.daemon.post(f"{path}/leave-all", {"reason": call.options.reason}, seconds=600)["rooms"]
    left = count(rooms, "room|rooms", "Raum|Räume") + t(" left", " verlassen")
    print(t(f"{row.user_id} is locked; {ended}, {left}.", f"{row.user_id} ist gesperrt; {ended}, {left}."))
    return 0
