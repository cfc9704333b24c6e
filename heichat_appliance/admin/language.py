"""German or English, as the operator's locale says. Both texts of a sentence stand side by side where it is said."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping


def language(environ: Mapping[str, str] = os.environ) -> str:
    """`de` or `en`: the first of LC_ALL, LC_MESSAGES and LANG that is set decides, as in the C library."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if environ.get(name):
            return "de" if re.match(r"de([_.@]|$)", environ[name]) else "en"
    return "en"


def t(en: str, de: str) -> str:
    """The one of two texts that the operator reads."""
    return de if language() == "de" else en


def count(number: int, en: str, de: str) -> str:
    """A number with its noun, given as `singular|plural`."""
    one, many = t(en, de).split("|")
    return f"{number} {one if number == 1 else many}"


#: What argparse says by itself about a wrong call.
_WRONG_CALLS = (
    (r"the following arguments are required: (.*)", r"es fehlt: \1"),
    (r"argument (.*?): invalid choice: (.*) \(choose from (.*)\)", r"\1: \2 gibt es nicht (möglich: \3)"),
    (r"argument (.*?): invalid (?:int|float|\w+) value: (.*)", r"\1: \2 ist kein gültiger Wert"),
    (r"argument (.*?): expected (?:one|at least one) argument", r"\1: hier fehlt ein Wert"),
    (r"argument (.*?): not allowed with argument (.*)", r"\1 geht nicht zusammen mit \2"),
    (r"one of the arguments (.*) is required", r"eines hiervon wird gebraucht: \1"),
    (r"unrecognized arguments: (.*)", r"unbekannt: \1"),
    (r"argument (.*?): (.*)", r"\1: \2"),
)


def wrong_call(message: str) -> str:
    """What argparse says of a wrong call, in the operator's language."""
    if language() == "en":
        return message
    for pattern, german in _WRONG_CALLS:
        if re.fullmatch(pattern, message):
            return re.sub(pattern, german, message)
    return message
