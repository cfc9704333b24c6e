"""What an upload, a download and a thumbnail cost: memory beyond what the server had, and CPU.

    python -m benchmarks.media [--megabytes 10] [--readers 8]

Memory is the peak of the resident set (VmHWM, reset before each step) over the resident set before it. The slow reader
takes its download in pieces with pauses, so whatever the server would pile up for it shows. Linux only.
"""

from __future__ import annotations

import argparse
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

from PIL import Image

from tests.daemon import Daemon, Person

TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")


def memory(pid: int, key: str) -> float:
    """A figure of /proc/PID/status in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    raise KeyError(key)


def cpu_ms(pid: int) -> float:
    """User and system time in ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_MS


def measured(pid: int, name: str, step: Callable[[], object]) -> object:
    """Run a step and print what it cost the server."""
    before, cpu = memory(pid, "VmRSS"), cpu_ms(pid)
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
    began = time.perf_counter()
    result = step()
    seconds = time.perf_counter() - began
    peak = memory(pid, "VmHWM") - before
    print(f"{name:<42} {peak:7.1f} MiB more {cpu_ms(pid) - cpu:8.0f} ms CPU {seconds * 1000:8.0f} ms")
    return result


def upload(person: Person, data: bytes, content_type: str) -> str:
    """Upload; server name and media ID with a slash between."""
    headers = {"Authorization": f"Bearer {person.token}", "Content-Type": content_type}
    person.connection.request("POST", "/_matrix/media/v3/upload", data, headers)
    answer = person.finish()
    assert answer.status == 200, answer
    return answer.json["content_uri"].removeprefix("mxc://")


def download(person: Person, place: str, length: int) -> None:
    """Download at full speed."""
    answer = person.again().request("GET", f"/_matrix/client/v1/media/download/{place}")
    assert len(answer.body) == length, answer.status


def download_slowly(daemon: Daemon, person: Person, place: str, length: int) -> None:
    """Download with a small window and pauses."""
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        reader.connect(("127.0.0.1", daemon.port))
        path = f"/_matrix/client/v1/media/download/{place}"
        reader.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {person.token}\r\n\r\n".encode())
        received = 0
        while received < length:
            received += len(reader.recv(65_536))
            time.sleep(0.001)


def main() -> None:
    """Run all steps on a server of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=10)
    parser.add_argument("--readers", type=int, default=8)
    options = parser.parse_args()
    length = options.megabytes * 2**20
    with tempfile.TemporaryDirectory() as folder:
        daemon = Daemon(Path(folder))
        daemon.start()
        try:
            run(daemon, length, options.readers)
        finally:
            daemon.stop()


def run(daemon: Daemon, length: int, readers: int) -> None:
    """The steps."""
    assert daemon.process is not None
    pid = daemon.process.pid
    alice = daemon.login("alice")
    download(alice, upload(alice, b"warm", "text/plain"), 4)
    data = os.urandom(length)
    size = f"{length / 2**20:.0f} MiB"
    place = measured(pid, f"upload of {size}", lambda: upload(alice, data, "application/octet-stream"))
    measured(pid, f"download of {size}", lambda: download(alice, str(place), length))
    measured(pid, f"download of {size}, slow reader", lambda: download_slowly(daemon, alice, str(place), length))

    def many() -> None:
        threads = [threading.Thread(target=download, args=(alice, str(place), length)) for _ in range(readers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    measured(pid, f"{readers} downloads of {size} at once", many)
    photo = BytesIO()
    Image.effect_noise((4000, 3000), 60).convert("RGB").save(photo, "JPEG", quality=85)
    picture = upload(alice, photo.getvalue(), "image/jpeg")
    wish = f"/_matrix/client/v1/media/thumbnail/{picture}?width=800&height=600"
    measured(pid, "thumbnail 800x600 of a 12-megapixel JPEG", lambda: alice.request("GET", wish))
    measured(pid, "the same again", lambda: alice.request("GET", wish))


if __name__ == "__main__":
    main()
