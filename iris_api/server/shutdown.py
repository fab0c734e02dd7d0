"""How a server stops: drained first, and without a signal that is lost on a worker."""

from __future__ import annotations

import logging
import os
import signal
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iris_api.web.service import Service

HELD = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}

logger = logging.getLogger(__name__)


def hold_signals_while_forking() -> None:
    """A worker that is not yet up has Gunicorn's handler, which would lose the signal."""
    os.register_at_fork(
        before=partial(signal.pthread_sigmask, signal.SIG_BLOCK, HELD),
        after_in_parent=partial(signal.pthread_sigmask, signal.SIG_UNBLOCK, HELD),
    )


def drain_at_sigterm(server: Any, service: Service) -> None:
    """Let /health/ready say 503 for a while, in which all is served, before Gunicorn stops."""
    seconds = service.settings.drain_seconds
    stop = signal.getsignal(signal.SIGTERM)
    if not callable(stop):
        return

    def drain(number: int, frame: Any) -> None:
        replaced = server.reexec_pid != 0  # Its successor has the same socket.
        if replaced or seconds == 0 or service.drain.begun:
            stop(number, frame)
            return
        service.drain.begin()
        signal.signal(signal.SIGALRM, lambda *_: stop(number, frame))
        signal.setitimer(signal.ITIMER_REAL, seconds)
        logger.info({"event": "draining", "seconds": seconds})

    signal.signal(signal.SIGTERM, drain)


def release_signals() -> None:
    """Whoever was forked can deal with them from now on."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
