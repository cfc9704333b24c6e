"""`twistd -n heichat`: the options, and the service that starts and stops the appliance."""

from __future__ import annotations

import atexit
import gc
import os
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.python import usage

from heichat_appliance import demo
from heichat_appliance.app import Appliance
from heichat_appliance.config import Config, ConfigErrors, read
from heichat_appliance.db.database import DatabaseRefused
from heichat_appliance.plugins import all_sections
from heichat_appliance.systemd import Supervisor

log = Logger()

#: File descriptors that the daemon asks for.
MAX_FILES = 65_536
PORT_TAKEN = "(hint: `ss -ltnp` says who listens there; [server] listen chooses the address)"


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65_535):
        raise ValueError("a port is a number from 1 to 65535")
    return int(text)


class Options(usage.Options):
    """The command line."""

    longdesc = "Chat server of a university: a Matrix homeserver with directory login, in one daemon."
    optParameters = [
        ["config", "c", None, "The configuration file (or the variable HEICHAT_CONFIG). See config.example.ini."],
        ["demo-dir", None, "heichat-demo", "Folder for the data of --demo."],
        ["demo-port", None, 8008, "Port of --demo, on 127.0.0.1.", _port],
    ]
    optFlags = [["demo", None, "Run without a configuration: demo people, data in a local folder, loopback only."]]


def makeService(options: Any) -> Service:
    """Called by twistd: read the configuration, or end with every error it has."""
    try:
        return HeichatService(_config(options))
    except ConfigErrors as error:
        raise SystemExit(
            "heiCHAT can't start, the configuration has errors:\n" + "\n".join(f"  - {e}" for e in error.errors)
        )


def _config(options: Any) -> Config:
    if options["demo"]:
        return demo.config(Path(options["demo-dir"]), options["demo-port"], all_sections())
    source = options["config"] or os.environ.get("HEICHAT_CONFIG")
    if not source:
        raise ConfigErrors(["no configuration is named (hint: --config FILE, or --demo to try it out)"])
    return read(Path(source), all_sections())


class HeichatService(Service):
    """Starts the appliance with twistd and stops it in order."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._appliance: Appliance | None = None
        self._supervisor = Supervisor()

    def startService(self) -> None:
        """Build and start; a refusal is told in one sentence and ends the process."""
        from twisted.internet import reactor

        Service.startService(self)
        _allow_many_connections()
        reactor.callWhenRunning(_end_well_on, signal.SIGTERM)  # type: ignore[attr-defined]
        if self._config.demo:  # its terminal was closed
            reactor.callWhenRunning(_end_well_on, signal.SIGHUP)  # type: ignore[attr-defined]
        else:
            signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(self._reload))  # type: ignore[attr-defined]
        try:
            self._appliance = Appliance(self._config, reactor)
        except (DatabaseRefused, ConfigErrors) as error:
            _refuse_start(str(error))
        started = Deferred.fromCoroutine(self._appliance.start()).addCallback(lambda _: self._ready())
        if self._config.demo:
            started.addCallback(lambda _: self._greet())
        started.addErrback(_end, demo.PORT_TAKEN if self._config.demo else PORT_TAKEN)

    def _ready(self, problems: Sequence[str] = ()) -> None:
        """Tell systemd."""
        from twisted.internet import reactor

        _collect_garbage_seldom()
        name = self._config["server"].name
        self._supervisor.ready("; ".join([f"serving {name}", *problems]), reactor)

    def _reload(self) -> None:
        """SIGHUP: read again what may change while the daemon runs, which are the certificates."""
        if not self.running or self._appliance is None or not self._appliance.ports:
            return  # not listening yet (what is there will be read), or no longer
        log.info("SIGHUP: reading the certificates again")
        self._supervisor.reloading()
        self._ready(self._appliance.tls.reload())

    def _greet(self) -> None:
        assert self._appliance is not None
        people = getattr(self._appliance.identity, "people", ())
        text = demo.banner(self._config["server"].public_url, people, self._appliance.data_dir)
        print(text, file=sys.__stdout__, flush=True)  # not into the log

    def stopService(self) -> Deferred[None] | None:
        """Stop accepting, answer waiting syncs, finish the queue, close the database."""
        Service.stopService(self)
        self._supervisor.stopping()
        return None if self._appliance is None else Deferred.fromCoroutine(self._appliance.stop())


def _collect_garbage_seldom() -> None:
    """Nearly everything here is freed by counting references. A full search for cycles looks at every object there is,
    which takes a tenth of a second with ten thousand people connected, and nobody is served meanwhile."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


def _allow_many_connections() -> None:
    """Every client in a long poll holds a file descriptor, and the usual soft limit is 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _end_well_on(number: int) -> None:
    """Stop in order on a signal, with exit status 0: twistd by itself would stop in order and then die of the signal."""
    from twisted.internet import reactor

    def stop(*_: object) -> None:
        signal.signal(number, signal.SIG_IGN)
        reactor.callFromThread(reactor.stop)  # type: ignore[attr-defined]

    signal.signal(number, stop)


def _refuse_start(reason: str) -> None:
    print(f"heiCHAT can't start: {reason}", file=sys.stderr)
    raise SystemExit(1)


def _end(failure: Any, port_taken: str) -> None:
    from twisted.internet import reactor

    if failure.check(CannotListenError):
        reason = f"{failure.getErrorMessage()} {port_taken}"
    else:
        if not failure.check(ConfigErrors):
            log.failure("heiCHAT could not start", failure)
        reason = failure.getErrorMessage()
    print(f"heiCHAT can't start: {reason}", file=sys.stderr)
    atexit.register(os._exit, 1)  # twistd lets nobody say its exit status; this runs when it has tidied up
    reactor.callWhenRunning(reactor.stop)  # type: ignore[attr-defined]
