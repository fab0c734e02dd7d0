"""What Gunicorn calls as a server starts, forks, loses a worker and stops."""

from __future__ import annotations

import atexit
import gc
import json
import logging
import os
import shlex
import socket
import sys
from contextlib import suppress
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import gunicorn.util

from iris_api.monitoring.counter_directory import CounterDirectory, directory_for, installed
from iris_api.server.reload import BundleWatcher, ManifestFollower, PollingThread
from iris_api.server.shutdown import drain_at_sigterm, hold_signals_while_forking, release_signals
from iris_api.settings import Settings, listener_is_inherited
from iris_api.web import problems, request

if TYPE_CHECKING:
    from pathlib import Path

    from iris_api.web.service import Service

logger = logging.getLogger(__name__)


@cache
def prepared() -> Settings:
    """The settings, and the directory that all of this server's processes count in.

    Once for a server: Gunicorn asks again at a reload, when its workers keep the app and so its
    settings, and what can't be used any more must not end it.

    Raises:
        SettingsError: if they can't be used.
    """
    settings = Settings.read()
    directory = CounterDirectory(directory_for(settings))
    directory.install()
    atexit.register(_close, directory, os.getpid())
    return settings


def on_starting(server: Any) -> None:
    """Say in one line what would not work. Gunicorn would try a taken port for five seconds."""
    if server.cfg.is_ssl:
        sys.exit("iris-api: TLS is nginx's: see deploy/nginx-tls.conf")
    if server.cfg.protocol != "http" or server.cfg.http2_cleartext != "off":
        sys.exit("iris-api: only HTTP/1.1 is spoken here: leave --protocol and --http2-cleartext")
    if listener_is_inherited():
        return
    settings = _service(server).settings
    for address in server.address:
        if address != (settings.host, settings.port):
            # Counters are kept for an address, and these are whose they would be mixed with.
            sys.exit("iris-api: set IRIS_HOST and PORT instead of --bind")
        _refuse_taken(address)


def when_ready(server: Any) -> None:
    """Say where the service is and how to call it; from now on drain, and follow the bundle."""
    service = _service(server)
    _freeze()
    hold_signals_while_forking()
    drain_at_sigterm(server, service)
    directory = installed()
    if directory is not None:
        shown = _shown(directory, os.getpid())
        shown.unlink(missing_ok=True)  # Of a server that had this process id.
        server.lookout = PollingThread(BundleWatcher(service, shown).look)
        server.lookout.start()
    address = str(server.LISTENERS[0]).replace("//0.0.0.0", "//127.0.0.1").replace("[::]", "[::1]")
    logger.info(
        {
            "event": "ready",
            "address": address,
            "model": service.model.manifest.name,
            "model_version": service.model.version,
            "keys": len(service.keys.names),
        }
    )
    gunicorn.util.write_error = partial(write_problem, service)
    _print_how_to_call(service, address)


def post_fork(server: Any, _worker: Any) -> None:
    """Let a worker count in a slot of its own, and read the keys anew if it starts late."""
    service = _service(server)
    directory = installed()
    if directory is not None:
        _count_in(directory)
    service.metrics.worker_starts.inc()
    service.keys.forget_file()


def post_worker_init(worker: Any) -> None:
    """Follow the bundle that the server takes up; and a SIGTERM can be dealt with from now on."""
    directory = installed()
    if directory is not None:
        service = worker.app.wsgi().extensions["iris_api"]
        worker.lookout = PollingThread(
            ManifestFollower(service, _shown(directory, worker.ppid)).look
        )
        worker.lookout.start()
    release_signals()


def worker_exit(_server: Any, worker: Any) -> None:
    """End the worker's own thread before its interpreter."""
    if hasattr(worker, "lookout"):
        worker.lookout.stop()


def pre_exec(_server: Any) -> None:
    """A server that is replaced hands on no blocked signal."""
    release_signals()


def on_exit(server: Any) -> None:
    """End the server's own thread before its interpreter."""
    if hasattr(server, "lookout"):
        server.lookout.stop()


def child_exit(_server: Any, _worker: Any) -> None:
    """Forget what a dead worker was in the middle of; what it has counted stays."""
    directory = installed()
    if directory is not None:
        directory.sweep()


def write_problem(
    service: Service, client: socket.socket, status: int, _reason: str, message: str
) -> None:
    """Gunicorn's own refusals of unreadable requests, in the shape of all our errors."""
    request_id = request.new_id()
    document = problems.problem(status, message, request_id)
    service.metrics.count_unreadable(status)
    with suppress(OSError):
        address = client.getpeername()
        peer = address[0] if isinstance(address, tuple) else None
        said = {
            "event": "unreadable_request",
            "request_id": request_id,
            "status": status,
            "client": peer,
        }
        # Why, but not what: a line of the request may be a key or an input.
        logger.info(said | {"reason": message.partition("'")[0].strip(" :")[:80]})
    body = json.dumps(document, separators=(",", ":")).encode()
    head = (
        f"HTTP/1.1 {status} {document['title']}\r\n"
        "Connection: close\r\n"
        f"Content-Type: {problems.MEDIA_TYPE}\r\n"
        f"Content-Length: {len(body)}\r\n"
        f"{request.HEADER}: {request_id}\r\n\r\n"
    )
    gunicorn.util.write_nonblock(client, head.encode() + body)


def _close(directory: CounterDirectory, owner: int) -> None:
    if os.getpid() == owner:  # Each worker inherits what its server does at exit.
        directory.close()


def _count_in(directory: CounterDirectory) -> None:
    """Take a slot; without one serve all the same, and say that it is not counted."""
    try:
        directory.claim()
    except OSError as error:
        logger.warning({"event": "worker_not_counted", "reason": str(error)})
        directory.count_apart()


def _freeze() -> None:
    """Keep the garbage collector from touching, and so copying, what the workers share."""
    gc.collect()
    gc.freeze()
    # A batch of 1,000 rows is 3,000 dictionaries that live together: no use to look at them thrice.
    gc.set_threshold(20_000, 10, 10)


def _shown(directory: CounterDirectory, server: int) -> Path:
    """Where a server shows its workers which bundle it has taken up."""
    return directory.path / f"{server}.manifest"


def _service(server: Any) -> Service:
    found: Service = server.app.wsgi().extensions["iris_api"]
    return found


def _print_how_to_call(service: Service, address: str) -> None:
    """On stderr, for whoever started it: the log on stdout never holds a key."""
    key = service.keys.own_key
    if not service.keys.names:
        print(
            "No API key is stored yet: `flask --app wsgi keys add NAME` makes one.", file=sys.stderr
        )
    if key:
        print("No API key is configured: this one is good for this run only.", file=sys.stderr)
    if service.keys.names and not key:
        print("KEY is one that `flask --app wsgi keys add NAME` has printed:", file=sys.stderr)
    header = f"'X-API-Key: {key}'" if key else '"X-API-Key: $KEY"'
    example = json.dumps(service.model.manifest.contract.example)
    print(
        f"curl {address}/v1/predict -H {header} "
        f"-H 'Content-Type: application/json' -d {shlex.quote(example)}",
        file=sys.stderr,
        flush=True,
    )


def _refuse_taken(address: Any) -> None:
    if not isinstance(address, tuple):
        return
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            where = f"{address[0]}:{address[1]}"
            mend = "free it, or set PORT and IRIS_HOST"
            sys.exit(f"iris-api: can't listen on {where} ({error.strerror}): {mend}")
