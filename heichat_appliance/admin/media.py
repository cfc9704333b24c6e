"""`heichat-admin media`: uploaded files, and removing them."""

from __future__ import annotations

from urllib.parse import quote

from heichat_appliance.admin.command import Call, Commands, Trouble
from heichat_appliance.admin.language import count, t
from heichat_appliance.admin.show import plain, rows_as_json, size, table, when
from heichat_appliance.store import media


def register(commands: Commands) -> None:
    """The commands of this module."""
    group = commands.group(
        "media",
        en="list uploaded files, remove one",
        de="hochgeladene Dateien auflisten, eine entfernen",
        examples="media list --user ab123\nmedia remove mxc://chat.example.org/AbCdEf",
    )
    listing = group.add(
        "list",
        _list,
        en="list the newest uploads",
        de="die neuesten Dateien auflisten",
        examples="media list\nmedia list --user ab123 --limit 500",
    )
    listing.add_argument("--user", metavar="PERSON", help=t("only this person's", "nur die dieser Person"))
    listing.add_argument("--limit", type=int, default=50, help=t("how many (default 50)", "wie viele (sonst 50)"))
    listing.add_argument("--json", action="store_true", help=t("for programs", "für Programme"))
    remove = group.add(
        "remove",
        _remove,
        en="remove a file, and everybody's uploads of the same content",
        de="eine Datei entfernen, und alle Uploads desselben Inhalts",
        more_en="It can't be undone. Files of encrypted rooms are encrypted, each with a key of its own, so equal ones "
        "can't be told.",
        more_de="Das lässt sich nicht rückgängig machen. Dateien verschlüsselter Räume sind jede mit eigenem Schlüssel "
        "verschlüsselt; gleiche sind daher nicht zu erkennen.",
        examples="media remove mxc://chat.example.org/AbCdEf",
    )
    remove.add_argument("file", metavar="MXC", help=t("its address, mxc://…, or ID", "ihre Adresse, mxc://…, oder ID"))


def _list(call: Call) -> int:
    person = call.options.user
    with call.database() as connection:
        found = media.newest(connection.execute, call.user_id(person) if person else None, max(0, call.options.limit))
    if call.options.json:
        rows_as_json(found)
        return 0
    name = call.config["server"].name
    table(
        (t("address", "Adresse"), t("person", "Person"), t("when", "wann"), t("size", "Größe"), t("type", "Art"), "Name"),
        (
            (f"mxc://{name}/{row.media_id}", row.user_id, when(row.created_ts), size(row.size or 0),
             plain(row.content_type, 30), plain(row.file_name, 40))
            for row in found
        ),
    )  # fmt: skip
    print(count(len(found), "file|files", "Datei|Dateien") + ".")
    return 0


def _remove(call: Call) -> int:
    server, _, media_id = call.options.file.removeprefix("mxc://").rpartition("/")
    if server and server != call.config["server"].name:
        raise Trouble(t(f"{server} is another server", f"{server} ist ein anderer Server"))
    removed = call.daemon.post(f"/media/{quote(media_id, safe='')}/remove")["removed"]
    print(t(f"Removed: {', '.join(removed)}", f"Entfernt: {', '.join(removed)}"))
    return 0
