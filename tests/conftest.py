"""Shared by all tests: an unhandled error that is logged during a test fails it; HEICHAT_REQUIRE_ALL=1 lets none be skipped."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    """A test that is skipped, where none may be, has failed."""
    return _unskipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    """The same for a whole module."""
    return _unskipped((yield))


def _unskipped(report: Any) -> Any:
    if report.skipped and os.environ.get("HEICHAT_REQUIRE_ALL") and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"HEICHAT_REQUIRE_ALL is set, so nothing may be skipped, but: {reason}"
    return report
