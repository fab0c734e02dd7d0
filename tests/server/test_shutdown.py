from __future__ import annotations

import signal
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from iris_api.server.shutdown import drain_at_sigterm
from iris_api.web.service import Drain

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def stopped() -> Iterator[list[int]]:
    """Signals that Gunicorn's own handler has received."""
    stopped: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: stopped.append(number))
    yield stopped
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGTERM, before)


def service(seconds: float) -> Any:
    return SimpleNamespace(settings=SimpleNamespace(drain_seconds=seconds), drain=Drain())


def test_a_sigterm_drains_first_and_then_stops(stopped: list[int]) -> None:
    """A second SIGTERM stops at once."""
    draining = service(0.05)
    drain_at_sigterm(SimpleNamespace(reexec_pid=0), draining)
    signal.raise_signal(signal.SIGTERM)
    assert draining.drain.begun
    assert stopped == []
    time.sleep(0.1)
    assert stopped == [signal.SIGTERM]
    signal.raise_signal(signal.SIGTERM)
    assert len(stopped) == 2


@pytest.mark.parametrize(("seconds", "replacement"), [(0, 0), (5, 123)])
def test_a_server_without_a_reason_to_drain_stops_at_once(
    stopped: list[int], seconds: float, replacement: int
) -> None:
    """If draining is turned off, or if a replacement listens on the same socket."""
    draining = service(seconds)
    drain_at_sigterm(SimpleNamespace(reexec_pid=replacement), draining)
    signal.raise_signal(signal.SIGTERM)
    assert stopped == [signal.SIGTERM]
    assert not draining.drain.begun


def test_an_ignored_sigterm_stays_ignored(stopped: list[int]) -> None:
    """There is no handler to call after draining."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    drain_at_sigterm(SimpleNamespace(reexec_pid=0), service(1))
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    assert stopped == []
