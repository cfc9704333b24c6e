"""matrix-js-sdk in Node against the real daemon."""

from __future__ import annotations

from pathlib import Path

from tests.clients.driver import requires_node, run_script, service
from tests.daemon import Daemon

pytestmark = requires_node


def test_two_people_with_matrix_js_sdk(tmp_path: Path) -> None:
    with service(tmp_path) as daemon:
        run_script("journey.mjs", daemon)
        assert "whole" in daemon.verify()


def test_what_matrix_js_sdk_can_do(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        run_script("features.mjs", daemon)
        assert "whole" in daemon.verify()


def test_sliding_sync_with_matrix_js_sdk(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        run_script("sliding.mjs", daemon)
        assert "whole" in daemon.verify()
