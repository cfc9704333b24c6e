"""`heichat-admin notice`: messages of the service to people, in their rooms "Server Notices"."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from heichat_appliance.admin.client import Refused
from heichat_appliance.admin.command import Call, Commands, Trouble
from heichat_appliance.admin.language import count, t
from heichat_appliance.store import administration

#: Notices in a second: a person's first one makes a room of ten events.
RATE = 20.0


def register(commands: Commands) -> None:
    """The commands of this module."""
    group = commands.group(
        "notice",
        en="write to people in their room “Server Notices”",
        de="Personen in ihrem Raum „Server Notices“ schreiben",
        examples="notice send --to ab123 'Your quota is nearly used up.'",
    )
    send = group.add(
        "send",
        _send,
        en="send a notice to one person, to a list, or to everybody",
        de="eine Mitteilung an eine Person, an eine Liste oder an alle senden",
        more_en="Nobody gets the same notice twice: a run that was cut off is simply started again. What the same "
        "notice is, its "
        "--id says, or without one its text. It is sent slowly, so that nobody's chat is held up.",
        more_de="Niemand bekommt dieselbe Mitteilung zweimal: ein abgebrochener Lauf wird einfach noch einmal "
        "gestartet. Was "
        "dieselbe ist, sagt --id, sonst ihr Text. Gesendet wird langsam, damit niemandes Chat aufgehalten wird.",
        examples="notice send --to ab123 --to cd456 'Hello'\n"
        "notice send --all --file maintenance.md --markdown --id maintenance-2026-12\n"
        "notice send --list people.txt --file - < text.txt",
    )
    whom = send.add_mutually_exclusive_group(required=True)
    whom.add_argument(
        "--to",
        action="append",
        metavar="PERSON",
        help=t("user ID or Uni-ID; several times", "Nutzer-ID oder Uni-ID; auch mehrmals"),
    )
    whom.add_argument(
        "--list",
        metavar=t("FILE", "DATEI"),
        help=t("a file with a person on each line", "eine Datei mit einer Person je Zeile"),
    )
    whom.add_argument(
        "--all",
        action="store_true",
        help=t("everybody with an account that is not locked", "alle mit einem Konto, das nicht gesperrt ist"),
    )
    send.add_argument("text", nargs="?", metavar="TEXT", help=t("what to say", "was gesagt wird"))
    send.add_argument(
        "--file",
        metavar=t("FILE", "DATEI"),
        help=t("take the text from a file (-: standard input)", "den Text aus einer Datei nehmen (-: Standardeingabe)"),
    )
    send.add_argument("--markdown", action="store_true", help=t("the text is Markdown", "der Text ist Markdown"))
    send.add_argument(
        "--id",
        help=t("a name of this notice (default: by its text)", "ein Name dieser Mitteilung (sonst nach dem Text)"),
    )
    send.add_argument(
        "--rate",
        type=float,
        default=RATE,
        help=t("so many in a second (default 20)", "so viele in der Sekunde (sonst 20)"),
    )
    send.add_argument("--dry-run", action="store_true", help=t("only say to whom", "nur sagen, an wen"))


def _send(call: Call) -> int:
    text = _text(call)
    people = _people(call)
    name = call.options.id or sha256(text.encode()).hexdigest()[:16]
    if call.options.dry_run:
        print(*people, sep="\n")
        whom = _whom(len(people))
        print(t(f"Notice {name} would go to {whom}.", f"Mitteilung {name} ginge an {whom}."))
        return 0
    notice = {"body": text, "once": f"notice-{name}"}
    if call.options.markdown:
        from heichat_appliance.http import pages  # loads templates, which no other command has to wait for

        notice["formatted_body"] = str(pages.markdown(text)).strip()
    sent = known = 0
    failures = []
    for user_id in _slowly(people, call.options.rate):
        try:
            answer = call.daemon.post("/notices", {**notice, "user_id": user_id})
        except Refused as error:
            missing = t("has no account here", "hat hier kein Konto")
            failures.append(f"{user_id}: {missing if error.status == 404 else error}")
        else:
            sent, known = sent + answer["sent"], known + (not answer["sent"])
    print(t(f"Notice {name}: sent to {_whom(sent)}", f"Mitteilung {name}: gesendet an {_whom(sent)}"), end="")
    print(t(f"; {_whom(known)} had it already." if known else ".",
            f"; schon vorher hatten sie {_whom(known)}." if known else "."))  # fmt: skip
    print(*failures, sep="\n", end="\n" * bool(failures), file=sys.stderr)
    return 1 if failures else 0


def _whom(number: int) -> str:
    return count(number, "person|people", "Person|Personen")


def _text(call: Call) -> str:
    named = call.options.file
    if (named is None) == (call.options.text is None):
        raise Trouble(t("give the text, or --file", "bitte den Text angeben oder --file"))
    if named is None:
        text = str(call.options.text)
    elif named == "-":
        text = sys.stdin.read()
    else:
        text = _read(named)
    if not text.strip():
        raise Trouble(t("the text is empty", "der Text ist leer"))
    if len(text.encode()) > 20_000:
        raise Trouble(t("the text is longer than 20,000 bytes", "der Text ist länger als 20.000 Bytes"))
    return text.strip()


def _people(call: Call) -> list[str]:
    options = call.options
    if options.all:
        with call.database() as connection:
            return administration.everybody(connection.execute)
    names = options.to or [line.strip() for line in _read(options.list).splitlines()]
    return list(dict.fromkeys(call.user_id(name) for name in names if name and not name.startswith("#")))


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Trouble(t(f"{path} can't be read: {error}", f"{path} ist nicht lesbar: {error}")) from None


def _slowly(people: list[str], rate: float) -> Iterator[str]:
    """One after another, `rate` in a second at most."""
    step = 1 / max(rate, 0.1)
    due = time.monotonic()
    for number, user_id in enumerate(people, 1):
        time.sleep(max(0.0, due - time.monotonic()))
        due = max(due + step, time.monotonic())
        yield user_id
        if number % 500 == 0:
            print(t(f"{number} of {len(people)}", f"{number} von {len(people)}"), file=sys.stderr)
