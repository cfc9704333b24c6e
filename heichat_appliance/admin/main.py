"""`heichat-admin`: the operator's command. Its commands are in the modules of this package, see `command.py`."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Sequence

from heichat_appliance.admin import backup, basics, doctor, element, media, notice, restore, rooms, users
from heichat_appliance.admin.client import NotRunning, Refused
from heichat_appliance.admin.command import Call, Commands, Parser, Trouble, main_parser
from heichat_appliance.admin.language import t
from heichat_appliance.config import ConfigErrors
from heichat_appliance.db.database import DatabaseRefused

#: Modules with `register(commands)`, in the order of the help.
GROUPS = (basics, doctor, backup, restore, users, rooms, media, notice, element)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 0 if all is well, 1 if something is wrong, 2 for a wrong call."""
    options = parser().parse_args(arguments)
    try:
        return int(options.run(Call(options)))
    except ConfigErrors as error:
        print(
            t("The configuration has errors:", "Die Konfiguration hat Fehler:"),
            *(f"  - {one}" for one in error.errors),
            sep="\n",
            file=sys.stderr,
        )
    except (Trouble, NotRunning, Refused, DatabaseRefused) as error:
        print(str(error), file=sys.stderr)
    except PermissionError as error:
        print(t(f"{error.filename} may not be read by you (hint: run this as root or as the daemon's user)",
                f"{error.filename} dürfen Sie nicht lesen (Hinweis: als root oder als Benutzer des Dienstes aufrufen)"),
              file=sys.stderr)  # fmt: skip
    except sqlite3.Error as error:
        print(t(f"The database can't be used: {error}", f"Die Datenbank ist nicht benutzbar: {error}"), file=sys.stderr)
    except BrokenPipeError:
        sys.stderr.close()  # `heichat-admin users list | head`: nobody reads on
    except OSError as error:
        print(t(f"That can't be done: {error}", f"Das geht nicht: {error}"), file=sys.stderr)
    except KeyboardInterrupt:
        print(file=sys.stderr)
    return 1


def parser() -> Parser:
    """The parser with all commands."""
    whole = main_parser()
    commands = Commands(whole)
    for group in GROUPS:
        group.register(commands)
    return whole


if __name__ == "__main__":
    sys.exit(main())
