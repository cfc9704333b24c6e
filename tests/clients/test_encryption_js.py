"""End-to-end encryption with matrix-js-sdk and its Rust crypto against the real daemon."""

from __future__ import annotations

from pathlib import Path

from tests.clients.driver import requires_node, run_script, service
from tests.daemon import Daemon

pytestmark = requires_node


def test_encryption_of_two_people_with_matrix_js_sdk(tmp_path: Path) -> None:
    with service(tmp_path) as daemon:
        run_script("encryption.mjs", daemon)
        assert "whole" in daemon.verify()


def test_every_device_reads_every_message_though_the_server_is_killed_again_and_again(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        run_script("encryption_kill.mjs", daemon, seconds=180)
        assert "whole" in daemon.verify()


def test_keys_that_are_asked_for_and_keys_in_safekeeping(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        run_script("safekeeping.mjs", daemon)
        assert "whole" in daemon.verify()
