"""Following the bundle in the model's directory while the server runs.

The server's first process loads and verifies a changed bundle, then publishes its manifest to the
workers, which load the same version. A worker that can't load it exits, and its replacement forks
from the process that has it. So all processes serve one version, and a broken bundle is found,
logged and counted once.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import time
from threading import Event, Thread
from typing import TYPE_CHECKING

from iris_api.bundle.files import replace
from iris_api.bundle.model import Model
from iris_api.bundle.store import MANIFEST, Bundle, read_manifest
from iris_api.errors import BundleError, reason

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from iris_api.web.service import Service

logger = logging.getLogger(__name__)


class PollingThread:
    """Calls a function again and again, on a thread that is stopped while this process forks."""

    interval = 0.2
    """Time between two calls, in seconds."""

    def __init__(self, poll: Callable[[], None]) -> None:
        self._poll = poll
        self._stopping = Event()
        self._thread: Thread | None = None
        self._restart = False
        os.register_at_fork(before=self._before_fork, after_in_parent=self._after_fork)

    def start(self) -> None:
        """Start the thread."""
        self._stopping.clear()
        self._thread = Thread(target=self._run, name="polling", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, after the call that is running."""
        if self._thread is not None:
            self._stopping.set()
            self._thread.join()
            self._thread = None

    def is_running(self) -> bool:
        """Whether the thread runs in this process."""
        return self._thread is not None

    def _run(self) -> None:
        # Gunicorn's main thread sleeps until a signal interrupts it: take none on this thread.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while not self._stopping.wait(self.interval):
            try:
                self._poll()
            except Exception:
                logger.exception({"event": "poll_failed"})

    def _before_fork(self) -> None:
        self._restart = self.is_running()
        self.stop()

    def _after_fork(self) -> None:
        if self._restart:
            self.start()


class BundleWatcher:
    """Activates a changed bundle if it is whole, and publishes its manifest to the workers.

    A change is loaded once two polls in a row have seen the same files.
    """

    def __init__(self, service: Service, published: Path) -> None:
        self._service = service
        self._directory = service.settings.model_dir
        self._published = published
        self._last_state: object = None
        self._handled_state: object = None
        self._refusal: str | None = None

    def poll(self) -> None:
        """Load what is in the directory, if it has changed and is no longer being written."""
        previous, self._last_state = self._last_state, _state(self._directory)
        if self._last_state == self._handled_state or self._last_state != previous:
            return
        self._handled_state = self._last_state
        try:
            self._load()
        except BundleError as error:
            self._refuse(str(error))
        except Exception as error:  # noqa: BLE001  # A full disk, for example: try again.
            self._handled_state = None
            self._refuse(f"{type(error).__name__}: {reason(error)}")

    def _load(self) -> None:
        bundle, serving = Bundle.load(self._directory), self._service.model
        if bundle.manifest.version != serving.version:
            model = Model.of(bundle, max_rows=self._service.settings.max_rows)
            replace(self._published, model.manifest.model_dump_json().encode())
            self._service.serve(model)
            self._service.metrics.swaps.labels("activated").inc()
            logger.info(_fields("model_activated", model, replaced=serving.version))
        elif self._refusal:
            logger.info(_fields("model_recovered", serving))
        self._refusal = None

    def _refuse(self, why: str) -> None:
        if why != self._refusal:
            self._refusal = why
            self._service.metrics.swaps.labels("refused").inc()
            logger.error(_fields("model_refused", self._service.model, reason=why))


class ManifestFollower:
    """Has a worker serve the bundle whose manifest the server has published."""

    exit_spread = 5.0
    """Workers that exit for the same reason do so within this time, in seconds, not at once."""

    def __init__(self, service: Service, published: Path) -> None:
        self._service = service
        self._published = published
        self._last_state: object = None

    def poll(self) -> None:
        """Load a newly published version. A worker that can't exits; its replacement has it."""
        state = _state(self._published)
        if state == self._last_state or not self._published.exists():
            return
        self._last_state = state
        settings = self._service.settings
        try:
            if read_manifest(self._published).version != self._service.model.version:
                bundle = Bundle.load(settings.model_dir, self._published)
                self._service.serve(Model.of(bundle, max_rows=settings.max_rows))
        except Exception as error:  # noqa: BLE001  # Any error: the other workers serve it already.
            logger.info({"event": "worker_exiting", "reason": reason(error)})
            time.sleep(random.random() * self.exit_spread)  # noqa: S311
            os.kill(os.getpid(), signal.SIGTERM)


def _state(path: Path) -> object:
    """A value that changes whenever the file, or a file of the bundle's directory, is written."""
    state: list[tuple[str | int, ...]] = []
    for entry in (path, path / MANIFEST, *path.glob("*/*")):
        try:
            status = entry.stat()
        except OSError as error:
            state.append((entry.name, reason(error)))
        else:
            state.append((entry.name, status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(state)


def _fields(event: str, model: Model, **more: str) -> dict[str, str]:
    name, version = model.manifest.name, model.version
    return {"event": event, "model": name, "model_version": version, **more}
