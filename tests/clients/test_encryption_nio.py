"""matrix-nio and matrix-js-sdk in one encrypted room of the real daemon."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.clients.driver import requires_node, run_journey, run_script
from tests.daemon import Daemon

pytest.importorskip("vodozemac", reason="matrix-nio is installed without encryption (pip install matrix-nio[e2e])")
pytestmark = requires_node

NIO = Path(__file__).parent / "nio"


def test_two_implementations_read_each_other_on_every_device(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon, ThreadPoolExecutor(1) as beside:
        bob = beside.submit(run_script, "echo.mjs", daemon)
        run_journey([sys.executable, str(NIO / "encryption.py")], daemon)
        bob.result()
        assert "whole" in daemon.verify()


def test_two_implementations_verify_each_other_and_hand_keys_over(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon, ThreadPoolExecutor(1) as beside:
        bob = beside.submit(run_script, "partner.mjs", daemon)
        run_journey([sys.executable, str(NIO / "verification.py")], daemon)
        bob.result()
        assert "whole" in daemon.verify()


def test_two_implementations_read_every_message_though_the_server_is_killed_again_and_again(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon, ThreadPoolExecutor(1) as beside:
        bob = beside.submit(run_script, "writer.mjs", daemon, 170)
        run_journey([sys.executable, str(NIO / "encryption_kill.py")], daemon, 150)
        bob.result()
        assert "whole" in daemon.verify()
