"""Two homes, each behind a router with address translation, and a server that both reach: network namespaces of Linux.

    home "a"  192.168.1.2 -- 192.168.1.1 router "a"  NET.2 \\
                                                             bridge, server  NET.1
    home "b"  192.168.1.2 -- 192.168.1.1 router "b"  NET.3 /

The routers translate every connection to a port of its own (symmetric NAT), and let in only what was asked for. So neither
host nor server-reflexive addresses of one home can be reached from the other.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Daemon, free_port

_PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": _PATH}
    return subprocess.run(command, capture_output=True, text=True, timeout=20, env=environment)


def _obstacle() -> str:
    """Why this machine can't make such networks; empty if it can."""
    missing = [name for name in ("ip", "iptables") if not shutil.which(name, path=_PATH)]
    if missing:
        return f"{', '.join(missing)} not installed (Debian: apt-get install iproute2 iptables)"
    name = f"hc{os.getpid()}t"
    made = _run("ip", "netns", "add", name)
    try:
        works = made.returncode == 0 and not _in(name, "iptables", "-t", "nat", "-L").returncode
    finally:
        _run("ip", "netns", "delete", name)
    return "" if works else f"no rights to make networks here ({made.stderr.strip() or 'no NAT in the kernel'})"


def _in(namespace: str, *command: str) -> subprocess.CompletedProcess[str]:
    return _run("ip", "netns", "exec", namespace, *command)


_REASON = _obstacle()
#: Not a skip, since the machine decides: where nothing may be skipped this is shown as an expected failure.
_XFAIL = pytest.mark.xfail(bool(_REASON), reason=_REASON, run=False)


def requires_networks(test: Any) -> Any:
    """Marks a test."""
    return pytest.mark.networks(_XFAIL(test))


_instances = itertools.count()


class TwoHomes:
    """The networks, while the context lasts. `server` is the address that both homes reach."""

    def __init__(self) -> None:
        number = os.getpid()
        self._net = f"10.{100 + number // 250 % 100}.{number % 250}"
        # New names each time: what belongs to a deleted namespace goes a little later. Linux allows 15 characters.
        self._name = f"hc{number}n{next(_instances)}"
        self.server = f"{self._net}.1"

    def inside(self, home: str) -> list[str]:
        """What stands before a command that runs in home "a" or "b"."""
        return ["ip", "netns", "exec", f"{self._name}{home}"]

    def __enter__(self) -> TwoHomes:
        try:
            self._ip("link", "add", self._name, "type", "bridge")
            self._ip("address", "add", f"{self.server}/24", "dev", self._name)
            self._ip("link", "set", self._name, "up")
            for home, number in (("a", 2), ("b", 3)):
                self._build(home, f"{self._net}.{number}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        """Nothing is left."""
        for home in ("a", "b"):
            _run("ip", "link", "delete", f"{self._name}{home}o")
            for name in (f"{self._name}{home}", f"{self._name}r{home}"):
                _run("ip", "netns", "delete", name)
        _run("ip", "link", "delete", self._name)

    @staticmethod
    def _ip(*arguments: str) -> None:
        done = _run("ip", *arguments)
        assert done.returncode == 0, (arguments, done.stderr)

    def _build(self, home: str, outside: str) -> None:
        name, router = f"{self._name}{home}", f"{self._name}r{home}"
        for namespace in (name, router):
            self._ip("netns", "add", namespace)
            self._ip("-n", namespace, "link", "set", "lo", "up")
        # from the bridge to the router
        self._ip("link", "add", f"{name}o", "type", "veth", "peer", "name", "wan", "netns", router)
        self._ip("link", "set", f"{name}o", "master", self._name, "up")
        self._ip("-n", router, "address", "add", f"{outside}/24", "dev", "wan")
        # from the router to the home
        self._ip("-n", router, "link", "add", "lan", "type", "veth", "peer", "name", "eth0", "netns", name)
        self._ip("-n", router, "address", "add", "192.168.1.1/24", "dev", "lan")
        self._ip("-n", name, "address", "add", "192.168.1.2/24", "dev", "eth0")
        for namespace, device in ((router, "wan"), (router, "lan"), (name, "eth0")):
            self._ip("-n", namespace, "link", "set", device, "up")
        self._ip("-n", name, "route", "add", "default", "via", "192.168.1.1")
        for command in (
            ["sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"],
            ["iptables", "-t", "nat", "-A", "POSTROUTING", "-o", "wan", "-j", "MASQUERADE", "--random-fully"],
            ["iptables", "-P", "FORWARD", "DROP"],
            ["iptables", "-A", "FORWARD", "-i", "lan", "-j", "ACCEPT"],
            ["iptables", "-A", "FORWARD", "-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT"],
        ):
            done = _in(router, *command)
            assert done.returncode == 0, (command, done.stderr)


def reachable(folder: Path, homes: TwoHomes, **calls: str) -> Daemon:
    """A daemon that both homes reach."""
    port = free_port()
    url = f"http://{homes.server}:{port}"
    server = {"listen": f"tcp:{port}:interface={homes.server}", "public_url": url}
    listen = f"udp:{homes.server}:0"
    daemon = Daemon(folder, {"server": server, "calls": {"enabled": "yes", "listen": listen, **calls}})
    daemon.port, daemon.url = port, url
    return daemon
