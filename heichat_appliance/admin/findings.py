"""What doctor finds: one line each, with the next step where something is not well."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from heichat_appliance.admin.client import NotRunning, Refused
from heichat_appliance.admin.command import Call

OK, WARN, FAIL = "OK", "WARN", "FAIL"
#: Days before the end of a certificate from which on it is worth a word.
EXPIRY_DAYS = 21
#: Seconds that one step over the network may take.
PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Finding:
    """`level` is OK, WARN or FAIL; `check` names the check (the same in both languages); `text` is what was found,
    `step` what to do about it, in the operator's language."""

    level: str
    check: str
    text: str
    step: str = ""


class Patient:
    """What the checks look at."""

    def __init__(self, call: Call, ca_file: str | None, seconds: float) -> None:
        """`ca_file`: authorities to trust for the public address; `seconds`: how long the database may be checked."""
        self.call = call
        self.config = call.config
        self.ca_file = ca_file
        self.seconds = seconds

    @cached_property
    def status(self) -> dict[str, Any] | None:
        """What the daemon says of itself; None if it does not run."""
        try:
            return dict(self.call.daemon.get("/status", seconds=PATIENCE))
        except (NotRunning, Refused) as error:
            self.silence = str(error)
            return None

    #: Why the daemon says nothing.
    silence = ""


#: A check looks at the patient and says what it finds.
Check = Callable[[Patient], Iterator[Finding]]


def ms(start: float) -> str:
    """The time since `start` (time.monotonic) in milliseconds."""
    return f"{(time.monotonic() - start) * 1000:.0f} ms"
