"""Debian's coturn as another TURN server, and its clients."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import free_port, wait_until

PROGRAMS = {name: shutil.which(name) for name in ("turnserver", "turnutils_uclient", "turnutils_stunclient")}
_MISSING = [name for name, path in PROGRAMS.items() if path is None]
requires_coturn = pytest.mark.skipif(
    bool(_MISSING), reason=f"{', '.join(_MISSING)} not installed (Debian: apt-get install coturn)"
)


class Coturn:
    """`turnserver` on 127.0.0.1 with time-limited credentials; settings and log are files in `folder`."""

    def __init__(self, folder: Path, *, cores: set[int] | None = None) -> None:
        """`cores`: the only ones that it may use."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.port, self.secret = folder, free_port(), secrets.token_hex(32)
        self._cores = cores
        self.process: subprocess.Popen[bytes] | None = None
        (folder / "secret").write_text(self.secret)
        (folder / "turnserver.conf").write_text(
            f"listening-ip=127.0.0.1\nrelay-ip=127.0.0.1\nlistening-port={self.port}\nallow-loopback-peers\nno-tls\nno-dtls\n"
            f"use-auth-secret\nstatic-auth-secret={self.secret}\nrealm=coturn.test\nno-cli\nfingerprint\nno-rfc5780\n"
            f"userdb={folder}/turndb\npidfile={folder}/pid\nlog-file={folder}/log\nsimple-log\nno-stdout-log\n"
            "min-port=40000\nmax-port=45000\nrelay-threads=1\n"
        )

    def settings(self) -> dict[str, str]:
        """Section [calls] of a daemon that sends people here."""
        uris = [f"turn:127.0.0.1:{self.port}?transport={transport}" for transport in ("udp", "tcp")]
        return {"enabled": "yes", "uris": "\n".join(uris), "shared_secret_file": str(self.folder / "secret")}

    def __enter__(self) -> Coturn:
        """Start, and wait until it answers."""
        cores = self._cores
        self.process = subprocess.Popen(
            [PROGRAMS["turnserver"] or "turnserver", "-c", str(self.folder / "turnserver.conf")],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores else None,
        )
        wait_until(lambda: answers("127.0.0.1", self.port), 20, "coturn answers")
        return self

    def __exit__(self, *_: Any) -> None:
        """Leave no process behind."""
        assert self.process is not None
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def answers(host: str, port: int) -> bool:
    """Whether a STUN server answers a Binding request over UDP (RFC 8489 section 6)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(0.2)
        asking.connect((host, port))
        transaction = secrets.token_bytes(12)
        try:
            asking.send(b"\x00\x01\x00\x00\x21\x12\xa4\x42" + transaction)
            return asking.recv(2048)[8:20] == transaction
        except OSError:
            return False
