"""docs/api.md is current."""

from __future__ import annotations

from pathlib import Path

import pytest_twisted

from tests import api_docs


@pytest_twisted.ensureDeferred
async def test_the_list_of_operations_is_current(tmp_path: Path) -> None:
    """Mend with: python -m tests.api_docs"""
    assert api_docs.PATH.read_text("utf-8") == await api_docs.text(tmp_path)
