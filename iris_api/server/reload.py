"""The bundle in the model's directory, followed while the server runs.

The server's first process decides: it loads and verifies what has changed in the directory, and
shows the workers the manifest that it took up. They load the same; one that can't ends, and its
successor is forked from a process that has it. So all serve one version, and a bundle that is
broken is found, told and counted once.
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
    """Calls `look` again and again, on a thread that is gone while this process forks."""

    interval = 0.2
    """Time between two calls, in seconds."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look
        self._enough = Event()
        self._thread: Thread | None = None
        self._forking = False
        os.register_at_fork(before=self._before_fork, after_in_parent=self._after_fork)

    def start(self) -> None:
        """Begin to look."""
        self._enough.clear()
        self._thread = Thread(target=self._watch, name="lookout", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Come to an end, after the look that is being taken."""
        if self._thread is not None:
            self._enough.set()
            self._thread.join()
            self._thread = None

    def _watch(self) -> None:
        # Gunicorn's main thread sleeps until a signal interrupts it: none may be taken here.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while not self._enough.wait(self.interval):
            try:
                self._look()
            except Exception:
                logger.exception({"event": "poll_failed"})

    def _before_fork(self) -> None:
        self._forking = self._thread is not None
        self.stop()

    def _after_fork(self) -> None:
        if self._forking:
            self.start()


class BundleWatcher:
    """Takes up what is in the model's directory, if it is whole, and shows it to the workers."""

    def __init__(self, service: Service, shown: Path) -> None:
        self._service = service
        self._directory = service.settings.model_dir
        self._shown = shown
        self._seen: object = None
        self._judged: object = None
        self._refusal: str | None = None

    def look(self) -> None:
        """Judge what is there, once it has changed and come to rest."""
        seen, self._seen = self._seen, _state(self._directory)
        if self._seen == self._judged or self._seen != seen:
            return
        self._judged = self._seen
        try:
            self._take_up()
        except BundleError as error:
            self._refuse(str(error))
        except Exception as error:  # noqa: BLE001  # No room, say: it is told, and tried again.
            self._judged = None
            self._refuse(f"{type(error).__name__}: {reason(error)}")

    def _take_up(self) -> None:
        bundle, serving = Bundle.load(self._directory), self._service.model
        if bundle.manifest.version != serving.version:
            model = Model.of(bundle, max_rows=self._service.settings.max_rows)
            replace(self._shown, model.manifest.model_dump_json().encode())
            self._service.serve(model)
            self._service.metrics.swaps.labels("activated").inc()
            logger.info(_said("model_activated", model, replaced=serving.version))
        elif self._refusal:
            logger.info(_said("model_recovered", serving))
        self._refusal = None

    def _refuse(self, why: str) -> None:
        if why != self._refusal:
            self._refusal = why
            self._service.metrics.swaps.labels("refused").inc()
            logger.error(_said("model_refused", self._service.model, reason=why))


class ManifestFollower:
    """Takes up what the leader shows."""

    exit_spread = 5.0
    """Workers that exit for the same reason do so within this time, in seconds, not at once."""

    def __init__(self, service: Service, shown: Path) -> None:
        self._service = service
        self._shown = shown
        self._seen: object = None

    def look(self) -> None:
        """Load what is newly shown. Whoever can't makes room for a process that has it."""
        seen = _state(self._shown)
        if seen == self._seen or not self._shown.exists():
            return
        self._seen = seen
        settings = self._service.settings
        try:
            if read_manifest(self._shown).version != self._service.model.version:
                bundle = Bundle.load(settings.model_dir, self._shown)
                self._service.serve(Model.of(bundle, max_rows=settings.max_rows))
        except Exception as error:  # noqa: BLE001  # Whatever it is, the others serve another model.
            logger.info({"event": "worker_exiting", "reason": reason(error)})
            time.sleep(random.random() * self.exit_spread)  # noqa: S311
            os.kill(os.getpid(), signal.SIGTERM)


def _state(path: Path) -> object:
    """What changes when anything is written there: a file, or a bundle's directory."""
    found: list[tuple[str | int, ...]] = []
    for entry in (path, path / MANIFEST, *path.glob("*/*")):
        try:
            status = entry.stat()
        except OSError as error:
            found.append((entry.name, reason(error)))
        else:
            found.append((entry.name, status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)


def _said(event: str, model: Model, **more: str) -> dict[str, str]:
    name, version = model.manifest.name, model.version
    return {"event": event, "model": name, "model_version": version, **more}
