"""How a server stops: it drains first, and no worker loses a signal."""

from __future__ import annotations

import logging
import os
import signal
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iris_api.web.service import Service

STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}

logger = logging.getLogger(__name__)


def hold_signals_while_forking() -> None:
    """Block stop signals in a new worker: until it is ready it has the handlers of the server.

    `release_signals` unblocks them.
    """
    os.register_at_fork(
        before=partial(signal.pthread_sigmask, signal.SIG_BLOCK, STOP_SIGNALS),
        after_in_parent=partial(signal.pthread_sigmask, signal.SIG_UNBLOCK, STOP_SIGNALS),
    )


def release_signals() -> None:
    """Unblock stop signals in this process."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def drain_at_sigterm(server: Any, service: Service) -> None:
    """Before Gunicorn stops at a SIGTERM, have /health/ready answer 503 for a while.

    Requests are still served meanwhile. A second SIGTERM stops at once.
    """
    seconds = service.settings.drain_seconds
    stop = signal.getsignal(signal.SIGTERM)
    if not callable(stop):
        return

    def drain(number: int, frame: Any) -> None:
        replaced = server.reexec_pid != 0  # Its replacement listens on the same socket.
        if replaced or seconds == 0 or service.drain.begun:
            stop(number, frame)
            return
        service.drain.begin()
        signal.signal(signal.SIGALRM, lambda *_: stop(number, frame))
        signal.setitimer(signal.ITIMER_REAL, seconds)
        logger.info({"event": "draining", "seconds": seconds})

    signal.signal(signal.SIGTERM, drain)
