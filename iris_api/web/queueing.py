"""How long a request waited to be taken up: told by the worker, read where it is answered."""

from __future__ import annotations

from threading import local

_thread = local()


def note_wait(seconds: float) -> None:
    """The request that this thread takes up now was ready so long before."""
    _thread.waited = seconds


def seconds_in_queue() -> float:
    """How long this thread's request waited; 0 outside a worker."""
    waited: float = getattr(_thread, "waited", 0.0)
    return waited
