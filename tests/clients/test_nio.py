"""matrix-nio against the real daemon."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.clients.driver import run_journey, service
from tests.daemon import Daemon

FOLDER = Path(__file__).parent / "nio"


def test_two_people_with_matrix_nio(tmp_path: Path) -> None:
    with service(tmp_path) as daemon:
        run_journey([sys.executable, str(FOLDER / "journey.py")], daemon)
        assert "whole" in daemon.verify()


def test_what_matrix_nio_can_do(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        run_journey([sys.executable, str(FOLDER / "features.py")], daemon)
        assert "whole" in daemon.verify()
