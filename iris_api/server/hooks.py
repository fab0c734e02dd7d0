"""The functions that Gunicorn calls as a server starts, forks, loses a worker and stops.

They work with any of Gunicorn's workers, `-k gthread` for example.
"""

from __future__ import annotations

import atexit
import logging
import os
from functools import cache
from typing import TYPE_CHECKING, Any

from iris_api.monitoring.counter_directory import CounterDirectory, directory_for, installed
from iris_api.settings import Settings

from .reload import BundleWatcher, ManifestFollower, PollingThread
from .shutdown import drain_at_sigterm, hold_signals_while_forking, release_signals
from .startup import check_addresses, check_options, freeze_garbage, local_address, print_example
from .unreadable import answer_errors_of, register_error_handler

if TYPE_CHECKING:
    from pathlib import Path

    from iris_api.web.service import Service

logger = logging.getLogger(__name__)


@cache
def prepared() -> Settings:
    """Read the settings, and install the directory that all of this server's processes count in.

    Done once in a server's life. At a reload Gunicorn runs its configuration again, while the app
    keeps its settings: a mistake made in them since must not end the server.

    Raises:
        SettingsError: if the settings can't be used.
    """
    settings = Settings.read()
    directory = CounterDirectory(directory_for(settings))
    directory.install()
    atexit.register(directory.close)
    return settings


def on_starting(server: Any) -> None:
    """Before it listens: refuse options that would not work, with one sentence."""
    check_options(server.cfg)
    check_addresses(server.address, _service(server).settings)


def when_ready(server: Any) -> None:
    """Once it listens: say how to call it, drain at a SIGTERM, and follow the bundle."""
    service = _service(server)
    register_error_handler(server.app.wsgi())
    freeze_garbage()
    hold_signals_while_forking()
    drain_at_sigterm(server, service)
    directory = installed()
    if directory is not None:
        published = _published_manifest(directory, os.getpid())
        published.unlink(missing_ok=True)  # A former server may have had this process id.
        server.polling_thread = PollingThread(BundleWatcher(service, published).poll)
        server.polling_thread.start()
    address = local_address(server.LISTENERS[0])
    logger.info(
        {
            "event": "ready",
            "address": address,
            "model": service.model.manifest.name,
            "model_version": service.model.version,
            "keys": len(service.keys.names),
        }
    )
    print_example(service, address)


def post_fork(server: Any, _worker: Any) -> None:
    """In a new worker: take a slot to count in, and read the keys again."""
    service = _service(server)
    directory = installed()
    if directory is not None:
        _count_in(directory)
    service.metrics.worker_starts.inc()
    service.keys.forget_file()


def post_worker_init(worker: Any) -> None:
    """In a worker that is ready: follow the server's bundle, and handle signals from now on."""
    service = _service(worker)
    answer_errors_of(worker, service)
    directory = installed()
    if directory is not None:
        published = _published_manifest(directory, worker.ppid)
        worker.polling_thread = PollingThread(ManifestFollower(service, published).poll)
        worker.polling_thread.start()
    release_signals()


def worker_exit(_server: Any, worker: Any) -> None:
    """In a worker that ends: stop its thread before the interpreter ends."""
    _stop_polling(worker)


def pre_exec(_server: Any) -> None:
    """Before a server starts its replacement, which would inherit blocked signals."""
    release_signals()


def on_exit(server: Any) -> None:
    """In a server that ends: stop its thread before the interpreter ends."""
    _stop_polling(server)


def child_exit(_server: Any, _worker: Any) -> None:
    """After a worker died: reset its gauges. What it has counted stays."""
    directory = installed()
    if directory is not None:
        directory.sweep()


def _count_in(directory: CounterDirectory) -> None:
    """Take a slot. A worker without one still serves, and logs that it is not counted."""
    try:
        directory.claim()
    except OSError as error:
        logger.warning({"event": "worker_not_counted", "reason": str(error)})
        directory.count_apart()


def _published_manifest(directory: CounterDirectory, server_pid: int) -> Path:
    """Where a server publishes the manifest of the bundle that its workers load."""
    return directory.path / f"{server_pid}.manifest"


def _service(owner: Any) -> Service:
    """The service of the app that a server or a worker has loaded."""
    service: Service = owner.app.wsgi().extensions["iris_api"]
    return service


def _stop_polling(owner: Any) -> None:
    if hasattr(owner, "polling_thread"):
        owner.polling_thread.stop()
