"""Gunicorn's threaded worker, but silent clients hold no thread, and log lines go out together."""

from __future__ import annotations

import errno
import logging
import selectors
import time
from functools import partial
from typing import TYPE_CHECKING

from gunicorn.workers.gthread import TConn, ThreadWorker

from .lines import StdoutHandler

if TYPE_CHECKING:
    from socket import socket

NOTHING_TO_ACCEPT = {errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED}


class PatientWorker(ThreadWorker):  # type: ignore[misc]
    """A new connection waits for its first byte in the poller, as a kept-alive one does.

    Gunicorn 27 gives it to a thread at once, which waits up to five seconds on a selector of its
    own: as many silent clients as there are threads stop the worker, and each connection that does
    send has paid for the selector.
    """

    def init_process(self) -> None:
        """Hold the requests' log lines: the main loop below writes them."""
        self._log = [
            handler
            for handler in logging.getLogger("iris_api").handlers
            if isinstance(handler, StdoutHandler)
        ]
        for handler in self._log:
            handler.hold()
        super().init_process()

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Write the log lines of the requests that were finished meanwhile.

        Each finished request wakes this loop, so that lines wait for no longer than it takes to
        come round: at once when there is little to do, and several together under load.
        """
        super().wait_for_and_dispatch_events(timeout)
        for handler in self._log:
            handler.flush()

    def accept(self, listener: socket) -> None:
        """Take a connection, and look at it when there is something to read."""
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno in NOTHING_TO_ACCEPT:
                return
            raise
        connection = TConn(self.cfg, client, address, listener.getsockname())
        connection.timeout = time.monotonic() + self.cfg.keepalive
        self.nr_conns += 1
        self.pending_conns.append(connection)
        ready = partial(self.on_pending_socket_readable, connection)
        self.poller.register(client, selectors.EVENT_READ, ready)
