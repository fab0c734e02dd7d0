from __future__ import annotations

from typing import TYPE_CHECKING, cast

from iris_api.server.connection import RequestState
from iris_api.server.scheduling import MAX_MEAN_SECONDS, MEAN_OVER, POOL_AFTER_SLOW, RequestQueue

if TYPE_CHECKING:
    from iris_api.server.connection import Connection


def add(queue: RequestQueue, names: str) -> None:
    """Add connections named by one letter each, a capital one with a health check."""
    for name in names:
        state = RequestState.PROBE if name.isupper() else RequestState.SMALL
        queue.add(cast("Connection", name), state)


def order(queue: RequestQueue) -> str:
    return "".join(cast("str", queue.next()[0]) for _ in range(len(queue)))


def test_requests_are_answered_in_order_and_one_health_check_first() -> None:
    """Many health checks do not delay everything else."""
    queue = RequestQueue()
    add(queue, "abAcBC")
    assert order(queue) == "AabcBC"
    add(queue, "aA")
    first = queue.next()[0]
    add(queue, "B")
    assert (first, order(queue)) == ("A", "Ba")


def test_threads_answer_after_slow_answers() -> None:
    """A slow answer among quick ones changes nothing, and health checks never need a thread."""
    queue = RequestQueue()
    queue.record_latency(MAX_MEAN_SECONDS * MEAN_OVER * 0.9)
    for _ in range(MEAN_OVER):
        queue.record_latency(0.0001)
    add(queue, "a")
    assert queue.next()[1]
    queue.record_latency(MAX_MEAN_SECONDS * MEAN_OVER * 1.1)
    add(queue, "Pb" + "c" * POOL_AFTER_SLOW)
    on_event_loop = [queue.next()[1] for _ in range(len(queue))]
    assert on_event_loop == [True] + [False] * POOL_AFTER_SLOW + [True]
