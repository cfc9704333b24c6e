"""A daemon for the tests of a module, and heichat-admin on its data."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.admin.kit import Admin
from tests.daemon import Daemon


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """It runs for the whole module; a test that stops it starts it again."""
    with Daemon(tmp_path_factory.mktemp("daemon")) as running:
        yield running


@pytest.fixture
def admin(daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Admin:
    """heichat-admin for `daemon`."""
    return Admin(daemon, monkeypatch, capsys)
