"""Fill in config.example.ini: `fill_config.py EXAMPLE SECTION.KEY=VALUE... > heichat.ini`.

Values are set where their keys stand, everything else stays as it is; a value of several lines has line breaks in it.
Needs nothing but Python, since install.sh calls it.
"""

from __future__ import annotations

import re
import sys


def fill(example: str, values: dict[tuple[str, str], str]) -> str:
    """The text with `values` (by section and key) set; raises KeyError for a key that it doesn't have."""
    section, lines, left, skipping = "", [], dict(values), False
    for line in example.splitlines():
        if skipping and re.match(r"#?\s{4,}\S", line):
            continue  # the further lines of a value that was replaced
        skipping = False
        if header := re.fullmatch(r"\[(\w+)\]", line):
            section = header[1]
        key = re.match(r"(?:# )?(\w+) =", line)
        if key and (section, key[1]) in left:
            line = f"{key[1]} = " + left.pop((section, key[1])).replace("\n", "\n    ")
            skipping = True
        lines.append(line)
    if left:
        raise KeyError(", ".join(f"[{section}] {key}" for section, key in left))
    return "\n".join(lines) + "\n"


def main() -> int:
    """The command."""
    values = {}
    for argument in sys.argv[2:]:
        name, _, value = argument.partition("=")
        section, _, key = name.partition(".")
        values[section, key] = value
    with open(sys.argv[1], encoding="utf-8") as example:
        try:
            sys.stdout.write(fill(example.read(), values))
        except KeyError as error:
            print(f"config.example.ini does not know {error.args[0]}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
