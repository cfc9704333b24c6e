"""Shared by all tests: an unhandled error that is logged during a test fails it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.logger import globalLogPublisher


@pytest.fixture(autouse=True)
def logged_errors() -> Iterator[list[dict[str, Any]]]:
    """Errors logged while the test runs. A test that expects some takes them out of this list after looking at them."""
    seen: list[dict[str, Any]] = []

    def observe(event: dict[str, Any]) -> None:
        if "log_failure" in event or event.get("isError"):
            seen.append(event)

    globalLogPublisher.addObserver(observe)
    try:
        yield seen
    finally:
        globalLogPublisher.removeObserver(observe)
    texts = [
        event["log_failure"].getTraceback() if "log_failure" in event else str(event.get("log_format"))
        for event in seen
    ]
    assert not seen, "errors were logged during the test:\n" + "\n".join(texts)
