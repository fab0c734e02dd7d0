from __future__ import annotations

from typing import TYPE_CHECKING, cast

from iris_api.server.connection import RequestState
from iris_api.server.scheduling import LAST_FEW, MAX_SECONDS_AT_ONCE, POOL_AFTER_SLOW, RequestQueue

if TYPE_CHECKING:
    from iris_api.server.connection import Connection


def queued(turns: RequestQueue, names: str) -> None:
    """Connections of one letter each, a capital one with a probe."""
    for name in names:
        turns.add(
            cast("Connection", name), RequestState.PROBE if name.isupper() else RequestState.SMALL
        )


def order(turns: RequestQueue) -> str:
    return "".join(cast("str", turns.next()[0]) for _ in range(len(turns)))


def test_turns_are_in_order_and_one_probe_at_a_time_passes() -> None:
    """However many probes there are, what waits goes on."""
    turns = RequestQueue()
    queued(turns, "abAcBC")
    assert order(turns) == "AabcBC"
    queued(turns, "aA")
    first = turns.next()[0]
    queued(turns, "B")
    assert (first, order(turns)) == ("A", "Ba")


def test_where_answers_are_slow_threads_have_the_next() -> None:
    """A slow one among quick ones changes nothing, and a probe is never a thread's."""
    turns = RequestQueue()
    turns.record_latency(MAX_SECONDS_AT_ONCE * LAST_FEW * 0.9)
    for _ in range(LAST_FEW):
        turns.record_latency(0.0001)
    queued(turns, "a")
    assert turns.next()[1]
    turns.record_latency(MAX_SECONDS_AT_ONCE * LAST_FEW * 1.1)
    queued(turns, "Pb" + "c" * POOL_AFTER_SLOW)
    assert [turns.next()[1] for _ in range(len(turns))] == [True] + [False] * POOL_AFTER_SLOW + [
        True
    ]
