"""A bare Debian 12 machine in a folder: for what installs and runs heiCHAT as on a real one.

`build(folder)` makes it with debootstrap; `Machine.run` runs a command in it by chroot, with the network of this machine;
`Machine.boot` boots it with its own systemd (systemd-nspawn) and a network of its own that has loopback alone, so that its
ports disturb nobody. Mirrors and proxies are those that this machine is configured with. Needs root.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.daemon import wait_until

ROOT = Path(__file__).parents[2]
SUITE = "bookworm"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TRUST = "/etc/ssl/host-bundle.pem"
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def why_not() -> str:
    """Why there can be no such machine here; empty if there can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root on Linux"
    missing = [name for name in ("debootstrap", "chroot", "unshare") if not which(name)]
    return f"{', '.join(missing)} is missing" if missing else ""


def which(name: str) -> str | None:
    """The path of a program, also of those for root alone."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


class Machine:
    """A root folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = {"PATH": _PATH, "HOME": "/root", "LC_ALL": "C.UTF-8", **_network_environment(root)}
        self._container: subprocess.Popen[bytes] | None = None
        self._leader = 0

    # -- files ---------------------------------------------------------------------------------------------------

    def path(self, inside: str) -> Path:
        """Where a file of the machine is on ours."""
        return self.root / inside.lstrip("/")

    def write(self, inside: str, text: str) -> None:
        """Write a file."""
        self.path(inside).parent.mkdir(parents=True, exist_ok=True)
        self.path(inside).write_text(text)

    def put_project(self, inside: str = "/root/heichat") -> str:
        """Unpack the project; the folder."""
        target = self.path(inside)
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc", "dropin.cache")
        for name in ("heichat_appliance", "twisted", "deploy"):
            shutil.copytree(ROOT / name, target / name, ignore=ignored)
        for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, target)
        return inside

    # -- commands ------------------------------------------------------------------------------------------------

    def run(self, *command: str, check: bool = True, input: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command: in the booted machine, or else by chroot."""
        if self._leader:
            enter = ["nsenter", "-t", str(self._leader), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w"]
        else:
            enter = ["chroot", str(self.root)]
        environment = [f"{key}={value}" for key, value in self.environment.items()]
        done = subprocess.run(
            [*enter, "env", "-i", *environment, *command],
            capture_output=True, text=True, check=False, input=input, timeout=170,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def shell(self, script: str, *, check: bool = True) -> str:
        """What a shell script prints."""
        return self.run("bash", "-c", script, check=check).stdout

    def alone(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a command by chroot, with /proc, and with loopback as its only network."""
        up = 'mount -t proc proc "$1/proc" && { ip link set lo up || ifconfig lo up; } && exec chroot "$@"'
        environment = [f"{key}={value}" for key, value in self.environment.items()]
        return subprocess.Popen(
            ["unshare", "--net", "--mount", "sh", "-c", up, "sh", str(self.root), "env", "-i", *environment, *command],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    @staticmethod
    def end(process: subprocess.Popen[bytes]) -> None:
        """End what `alone` started, with all that it started itself."""
        process.terminate()
        process.wait(20)
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def beside(self, process: subprocess.Popen[bytes], *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command by chroot, with the network and /proc of one that `alone` started."""
        environment = [f"{key}={value}" for key, value in self.environment.items()]
        enter = ["nsenter", "-t", str(process.pid), "-n", "-m", "chroot", str(self.root), "env", "-i", *environment]
        return subprocess.run([*enter, *command], capture_output=True, text=True, check=False, timeout=60)

    # -- the life of a machine -----------------------------------------------------------------------------------

    def boot(self) -> str:
        """Boot it; if that can't be done here, why."""
        log = self.root.with_name("boot.log")
        with log.open("wb") as output:
            self._container = subprocess.Popen(
                ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--private-network", "--boot",
                 "--machine=heichat-test", "-D", str(self.root)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        try:
            wait_until(self._is_up, 60, "the machine has booted")
        except AssertionError:
            self._leader = 0
            self.power_off()
            return f"systemd does not boot here: {log.read_text(errors='replace')[-500:]}"
        return ""

    def _is_up(self) -> bool:
        assert self._container is not None
        if self._container.poll() is not None:
            raise AssertionError
        children = Path(f"/proc/{self._container.pid}/task/{self._container.pid}/children").read_text().split()
        if not children:
            return False
        self._leader = int(children[0])
        state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        return state in ("running", "degraded")

    def power_off(self) -> None:
        """Shut it down in order."""
        if self._container is None:
            return
        if self._leader and self._container.poll() is None:
            os.kill(self._leader, signal.SIGRTMIN + 4)  # systemd(1): poweroff.target
        try:
            self._container.wait(60 if self._leader else 1)
        except subprocess.TimeoutExpired:
            self._container.kill()
            self._container.wait()
        self._container, self._leader = None, 0

    def remove(self) -> None:
        """Shut it down and remove its files, some hundred megabytes."""
        self.power_off()
        shutil.rmtree(self.root)


def build(folder: Path) -> Machine:
    """A bare machine with systemd; network names and trust are this machine's."""
    root = folder / "machine"
    mirror = _mirror()
    debootstrap = which("debootstrap") or "debootstrap"
    done = subprocess.run(
        [debootstrap, "--variant=minbase", "--include=systemd,systemd-sysv,dbus", SUITE, str(root), *mirror],
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    machine = Machine(root)
    # Services that packages bring must not start in a chroot, where they would use our network.
    machine.write("/usr/sbin/policy-rc.d", "#!/bin/sh\n[ -d /run/systemd/system ] || exit 101\n")
    machine.path("/usr/sbin/policy-rc.d").chmod(0o755)
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    hosts = Path("/etc/hosts").read_text()
    machine.write("/etc/hosts", "127.0.0.1 localhost chat.uni.example\n::1 localhost\n" + _without_loopback(hosts))
    machine.write("/etc/hostname", "chat\n")
    for settings in (*Path("/etc/apt/apt.conf.d").glob("*"), Path("/etc/apt/apt.conf")):
        if settings.is_file() and "Acquire::" in settings.read_text(errors="replace"):
            shutil.copy(settings, root / "etc/apt/apt.conf.d")
    if Path("/etc/pip.conf").is_file():
        shutil.copy("/etc/pip.conf", root / "etc/pip.conf")
    return machine


def _without_loopback(hosts: str) -> str:
    return "".join(line + "\n" for line in hosts.splitlines() if not re.match(r"(127\.|::1|fe|ff)", line))


def _mirror() -> list[str]:
    """The mirror that this machine takes this release of Debian from; nothing if it is none of that, for the usual one."""
    for source in (Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))):
        text = source.read_text(errors="replace") if source.is_file() else ""
        for stanza in re.split(r"\n\s*\n", text):
            found = re.search(r"(?m)^URIs:\s*(\S+)", stanza)
            if found and re.search(rf"(?m)^Suites:.*\b{SUITE}(\s|$)", stanza):
                return [found[1]]
        if found := re.search(rf"(?m)^deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+{SUITE}\s", text):
            return [found[1]]
    return []


def _network_environment(root: Path) -> dict[str, str]:
    """Proxies, and pip's settings; the certificates that this machine trusts are copied."""
    found = {name: os.environ[name] for name in _PROXIES if name in os.environ}
    found |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    bundle = found.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE") or "/etc/ssl/certs/ca-certificates.crt"
    if Path(bundle).is_file():
        (root / "etc/ssl").mkdir(exist_ok=True)
        shutil.copy(bundle, root / _TRUST.lstrip("/"))
        found["PIP_CERT"] = _TRUST
    for folder in found.get("PIP_FIND_LINKS", "").split():
        if Path(folder).is_dir():
            shutil.copytree(folder, root / folder.lstrip("/"), dirs_exist_ok=True)
    return found
