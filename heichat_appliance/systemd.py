"""What systemd is told by sd_notify(3), and the log in the form that journald wants. Without systemd nothing is said.

The unit (deploy/heichat.service) has Type=notify: READY=1 when everything listens, RELOADING=1 at SIGHUP, STOPPING=1,
and WATCHDOG=1 at half the interval that it asks for, from the reactor: a daemon whose reactor hangs is started again.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import MutableMapping
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.logger import (
    FileLogObserver,
    ILogObserver,
    LogLevel,
    eventAsText,
    textFileLogObserver,
)

#: Priorities of syslog(3), for the prefix of a line (sd-daemon(3)).
_PRIORITIES = {LogLevel.debug: 7, LogLevel.info: 6, LogLevel.warn: 4, LogLevel.error: 3, LogLevel.critical: 2}


class Supervisor:
    """The other end of NOTIFY_SOCKET. Every method does nothing where there is none."""

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        """Takes systemd's variables out of `environ`: no process that this one starts may speak for it."""
        address = environ.pop("NOTIFY_SOCKET", "")
        interval = environ.pop("WATCHDOG_USEC", "")
        watched = environ.pop("WATCHDOG_PID", "") in ("", str(os.getpid()))
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._interval = int(interval) / 1e6 if interval.isdigit() and watched else 0.0
        self._watchdog: LoopingCall | None = None

    def ready(self, status: str, clock: Any) -> None:
        """It runs, or runs again after `reloading`; `status` is a line for people. From here on the watchdog is fed."""
        self._tell("READY=1", f"STATUS={status}")
        if self._interval and self._watchdog is None:
            self._watchdog = LoopingCall(self._tell, "WATCHDOG=1")
            self._watchdog.clock = clock
            self._watchdog.start(self._interval / 2)

    def reloading(self) -> None:
        """The configuration is read again; `ready` says when that is over."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """It ends. The watchdog stays: an end that hangs is broken off."""
        self._tell("STOPPING=1", "STATUS=stopping")

    def _tell(self, *lines: str) -> None:
        """A lost message must not end the daemon: what matters (READY) is missed by systemd itself, which then says so."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
            notify.setblocking(False)
            try:
                notify.connect(self._address)
                notify.send("\n".join(line.replace("\n", " ") for line in lines).encode())
            except OSError:
                pass


def log_observer() -> Any:
    """For `twistd --logger heichat_appliance.systemd.log_observer`: on standard output, as it is; where that is journald,
    without the time (it has its own), with each line's priority, and a trace as one entry for each of its lines."""
    if not _is_journal(sys.stdout.fileno()):
        return textFileLogObserver(sys.stdout)
    return _journal_observer(sys.stdout)


def _journal_observer(out: Any) -> ILogObserver:
    observer: ILogObserver = FileLogObserver(out, _journal_lines)
    return observer


def _journal_lines(event: Any) -> str:
    text = eventAsText(event, includeTimestamp=False)
    priority = _PRIORITIES.get(event.get("log_level"), 6)
    first, *others = [line for line in text.splitlines() if line] or [""]
    # What follows a line break is set in, so that no text which a stranger chose looks like a line of its own.
    return "".join(f"<{priority}>{line}\n" for line in (first, *(f"  {line}" for line in others)))


def _is_journal(descriptor: int) -> bool:
    """Whether systemd connected this descriptor to the journal (systemd.exec(5), JOURNAL_STREAM)."""
    found = os.fstat(descriptor)
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
