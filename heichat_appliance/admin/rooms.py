"""`heichat-admin rooms`: which rooms there are, and what can be done about them."""

from __future__ import annotations

import sys
from urllib.parse import quote

from heichat_appliance.admin.command import Call, Commands, Parser, Run, Trouble
from heichat_appliance.admin.language import count, t
from heichat_appliance.admin.show import facts, plain, rows_as_json, size, table, when, yes
from heichat_appliance.services.administration import ADMINISTRATOR
from heichat_appliance.store import administration, aliases
from heichat_appliance.store.administration import RoomRow

#: Seconds that the daemon may take for a room with very many people or messages.
LONG = 3600.0

_SORTS = {
    "activity": lambda room: -(room.last_ts or 0),
    "members": lambda room: -room.joined,
    "size": lambda room: -(room.bytes or 0),
    "created": lambda room: -room.created_ts,
}


def register(commands: Commands) -> None:
    """The commands of this module."""
    rooms = commands.group(
        "rooms",
        en="list rooms, show one, freeze or shut one down, redact events",
        de="Räume auflisten, anzeigen, einfrieren oder auflösen, Ereignisse löschen",
        more_en="What people write in encrypted rooms nobody can read here; the IDs of events come from `reports`.",
        more_de="Was in verschlüsselten Räumen steht, kann hier niemand lesen; IDs von Ereignissen stehen in "
        "`reports`.",
        examples="rooms list --sort size\nrooms show '!abc:chat.example.org'\n"
        "rooms redact '!abc:chat.example.org' '$event'",
    )
    _register_list(rooms)
    _one(
        rooms, "show", _show,
        en="show one room: members, creation, encryption, activity, size",
        de="einen Raum zeigen: Mitglieder, Entstehung, Verschlüsselung, Aktivität, Größe",
    )  # fmt: skip
    _one(
        rooms, "freeze", lambda call: _freeze(call, True),
        en="nobody can write in a room or join it any more; everybody may read and leave",
        de="niemand kann mehr in einem Raum schreiben oder ihm beitreten; alle dürfen lesen und gehen",
    )  # fmt: skip
    _one(
        rooms, "unfreeze", lambda call: _freeze(call, False),
        en="undo freeze", de="das Einfrieren aufheben",
    )  # fmt: skip
    promote = _one(
        rooms, "promote", _promote, " ab123",
        en="make a member an administrator of a room",
        de="ein Mitglied zur Administratorin oder zum Administrator eines Raums machen",
        more_en="For a room whose administrators have left the university, or will: somebody who has the power must still be in "
        "it, since the change is made in their name. So promote first, then `users retire`.",
        more_de="Für einen Raum, dessen Administratoren die Universität verlassen: Jemand mit den Rechten muss noch darin sein, "
        "denn die Änderung geschieht in ihrem Namen. Also erst befördern, dann `users retire`.",
    )  # fmt: skip
    promote.add_argument("person", metavar="PERSON", help=t("user ID or Uni-ID", "Nutzer-ID oder Uni-ID"))
    _register_removals(rooms)


def _register_removals(rooms: Commands) -> None:
    down = _one(
        rooms, "shut-down", _shut_down,
        en="dissolve a room: everybody leaves, and it can't be used any more",
        de="einen Raum auflösen: alle verlassen ihn, und er kann nicht mehr benutzt werden",
        more_en="Those who were in it keep what their clients have and can still read what they could read before they "
        "left: "
        "with --redact all messages are redacted first.",
        more_de="Wer darin war, behält, was im eigenen Programm gespeichert ist, und kann weiterhin lesen, was vor dem "
        "Verlassen "
        "zu lesen war: mit --redact werden vorher alle Nachrichten gelöscht.",
    )  # fmt: skip
    down.add_argument(
        "--redact", action="store_true", help=t("redact all messages first", "vorher alle Nachrichten löschen")
    )
    down.add_argument("--reason", help=t("shown in the room", "wird im Raum gezeigt"))
    redact = _one(
        rooms, "redact", _redact, " '$EVENT_ID' --reason spam",
        en="redact an event: what it said is gone for good",
        de="ein Ereignis löschen: was es sagte, ist endgültig weg",
        more_en="It happens in the name of its sender, or of somebody in the room with the power, and says that the "
        "administration "
        "wanted it. A file that the event pointed to stays: see `media remove`.",
        more_de="Das geschieht im Namen der Person, die es schrieb, oder einer mit dem Recht dazu, und nennt die "
        "Administration "
        "als Grund. Eine Datei, auf die das Ereignis verwies, bleibt: siehe `media remove`.",
    )  # fmt: skip
    redact.add_argument("event", metavar=t("EVENT", "EREIGNIS"), help=t("its ID, $…", "seine ID, $…"))
    redact.add_argument("--reason", help=t("shown in the room", "wird im Raum gezeigt"))


def _register_list(rooms: Commands) -> None:
    listing = rooms.add(
        "list",
        _list,
        en="list rooms, all or those that match",
        de="Räume auflisten, alle oder die, auf die ein Wort passt",
        examples="rooms list\nrooms list seminar --sort members\nrooms list --limit 20 --json",
    )
    listing.add_argument(
        "term", nargs="?", default="", metavar=t("TERM", "WORT"),
        help=t("part of the ID, name or address", "Teil der ID, des Namens oder der Adresse"),
    )  # fmt: skip
    listing.add_argument(
        "--sort",
        choices=tuple(_SORTS),
        default="activity",
        help=t(
            "the order (default activity); size reads all events, which takes a while",
            "die Reihenfolge (sonst activity); size liest alle Ereignisse, was eine Weile dauert",
        ),
    )
    listing.add_argument("--limit", type=int, help=t("at most so many", "höchstens so viele"))
    listing.add_argument(
        "--notices", action="store_true", help=t("the rooms “Server Notices” too", "auch die Räume „Server Notices“")
    )
    listing.add_argument("--json", action="store_true", help=t("for programs", "für Programme"))


def _one(
    rooms: Commands, name: str, run: Run, example: str = "", *, en: str, de: str, more_en: str = "", more_de: str = ""
) -> Parser:
    parser = rooms.add(
        name, run, en=en, de=de, more_en=more_en, more_de=more_de, examples=f"rooms {name} '!ROOM_ID'{example}"
    )
    parser.add_argument(
        "room", metavar=t("ROOM", "RAUM"), help=t("its ID, !…, or address, #…", "seine ID, !…, oder Adresse, #…")
    )
    return parser


def _list(call: Call) -> int:
    options = call.options
    term = options.term.casefold()
    with call.database() as connection:
        found = [
            row
            for row in administration.rooms(connection.execute, notices=options.notices, sizes=options.sort == "size")
            if not term or any(term in (text or "").casefold() for text in (row.room_id, row.name, row.alias))
        ]
    found = sorted(found, key=_SORTS[options.sort])[: options.limit]
    if options.json:
        rows_as_json(found)
        return 0
    table(
        ("ID", "Name", t("people", "Personen"), t("created", "entstanden"), t("encrypted", "verschlüsselt"),
         t("last activity", "letzte Aktivität"), t("events", "Ereignisse"), t("size", "Größe"), t("state", "Zustand")),
        (
            (row.room_id, plain(row.name or row.alias, 30), row.joined, when(row.created_ts), yes(row.encryption is not None),
             when(row.last_ts), row.events, "–" if row.bytes is None else size(row.bytes),
             t("frozen", "eingefroren") if row.frozen else "")
            for row in found
        ),
    )  # fmt: skip
    print(count(len(found), "room|rooms", "Raum|Räume") + ".")
    return 0


def _find(call: Call) -> RoomRow:
    name = call.options.room
    with call.database() as connection:
        alias = aliases.get(connection.execute, name) if name.startswith("#") else None
        found = administration.room(connection.execute, alias.room_id if alias else name, sizes=True)
    if found is None:
        raise Trouble(t(f"there is no room {name}", f"den Raum {name} gibt es nicht"))
    return found


def _show(call: Call) -> int:
    row = _find(call)
    with call.database() as connection:
        members = administration.members(connection.execute, row.room_id)
        addresses = aliases.of_room(connection.execute, row.room_id)
    facts(
        (
            ("ID", row.room_id),
            ("Name", plain(row.name)),
            (t("addresses", "Adressen"), ", ".join(map(plain, addresses)) or "–"),
            (t("kind", "Art"), t("space", "Space") if row.type == "m.space" else plain(row.type or t("room", "Raum"))),
            (t("room version", "Raumversion"), row.version),
            (t("created", "entstanden"), f"{when(row.created_ts)} {t('by', 'durch')} {row.creator}"),
            (t("encrypted", "verschlüsselt"), plain(row.encryption) if row.encryption else yes(False)),
            (t("who may join", "Beitritt"), plain(row.join_rule)),
            (t("last activity", "letzte Aktivität"), when(row.last_ts)),
            (t("size", "Größe"), t(f"{row.events} events, ", f"{row.events} Ereignisse, ") + size(row.bytes or 0)),
            (t("frozen", "eingefroren"), yes(row.frozen)),
        )
    )
    print()
    table((t("person", "Person"), t("membership", "Mitgliedschaft"), t("since", "seit")),
          ((one.user_id, one.membership, when(one.ts)) for one in members))  # fmt: skip
    return 0


def _freeze(call: Call, frozen: bool) -> int:
    row = _find(call)
    call.daemon.post(f"/rooms/{quote(row.room_id)}/frozen", {"value": frozen})
    done = t("is frozen", "ist eingefroren") if frozen else t("can be used again", "kann wieder benutzt werden")
    print(f"{row.room_id} {done}.")
    return 0


def _promote(call: Call) -> int:
    row, user_id = _find(call), call.user_id(call.options.person)
    level = call.daemon.post(f"/rooms/{quote(row.room_id)}/promote/{quote(user_id)}")["level"]
    if level < ADMINISTRATOR:
        print(t(f"Nobody in the room may do that; {user_id} has the level {level}.",
                f"Niemand im Raum darf das; {user_id} hat die Stufe {level}."), file=sys.stderr)  # fmt: skip
        return 1
    print(t(f"{user_id} is an administrator of {row.room_id}.", f"{user_id} administriert jetzt {row.room_id}."))
    return 0


def _shut_down(call: Call) -> int:
    row = _find(call)
    path = f"/rooms/{quote(row.room_id)}"
    failed = 0
    if call.options.redact:
        call.daemon.post(f"{path}/frozen", {"value": True})
        answer = call.daemon.post(f"{path}/redact", {"reason": call.options.reason}, seconds=LONG)
        failed = answer["failed"]
        done = answer["redacted"]
        print(t(f"{done} messages redacted, {failed} could not be.",
                f"{done} Nachrichten gelöscht, bei {failed} ging es nicht."))  # fmt: skip
    number = call.daemon.post(f"{path}/shut-down", {"reason": call.options.reason}, seconds=LONG)["left"]
    left = count(number, "person|people", "Person|Personen")
    print(t(f"{row.room_id} is shut down; {left} left.", f"{row.room_id} ist aufgelöst; verlassen haben ihn: {left}."))
    return 1 if failed else 0


def _redact(call: Call) -> int:
    row = _find(call)
    path = f"/rooms/{quote(row.room_id)}/redact/{quote(call.options.event)}"
    redaction = call.daemon.post(path, {"reason": call.options.reason})["event_id"]
    print(
        t(
            f"{call.options.event} is redacted (by {redaction}).",
            f"{call.options.event} ist gelöscht (durch {redaction}).",
        )
    )
    return 0
