"""Fixtures of the server's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .running import RunningWorker, echo

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def worker() -> Iterator[RunningWorker]:
    """A running worker that answers with the body of the request."""
    worker = RunningWorker.make(echo)
    worker.start()
    yield worker
    worker.stop()
