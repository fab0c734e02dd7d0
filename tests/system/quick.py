"""A worker with short timeouts, for tests of what happens when they expire."""

from __future__ import annotations

from iris_api.server.worker import EventLoopWorker


class QuickWorker(EventLoopWorker):
    """The service's worker, but it waits 2 seconds where that waits 10."""

    read_timeout = 2.0
    write_timeout = 2.0
