"""Gunicorn's settings: `gunicorn wsgi:app` in this directory is the whole production command."""

import gc
import json
import os
import shlex
import socket
import sys
import uuid
from http import HTTPStatus
from typing import Any

import gunicorn.util

from iris_api.exceptions import SettingsError
from iris_api.settings import Settings

try:
    settings = Settings.read()
except SettingsError as error:
    sys.exit(f"iris-api: {error}")

host = f"[{settings.host}]" if ":" in settings.host else settings.host
bind = f"{host}:{settings.port}"
workers = settings.workers
worker_class = "iris_api.worker.PatientWorker"
threads = 4
keepalive = 5
timeout = 30
graceful_timeout = 30
preload_app = True
loglevel = settings.log_level
forwarded_allow_ips = ",".join(settings.trusted_proxies)
# Nothing here is mounted below a path, and a client next to us could send SCRIPT_NAME too.
forwarder_headers = ""
# The heartbeat is a file touched every second: on a disk a slow fsync would look like a hang.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
# A socket file beside the app can't be made on a read-only root, and nothing here uses it.
control_socket_disable = True
# The workers are the parallelism; thread pools of the numeric libraries would only be copied.
raw_env = ["OPENBLAS_NUM_THREADS=1", "OMP_NUM_THREADS=1"]


def on_starting(server: Any) -> None:
    """Say in one line that the port is taken, where Gunicorn would try for five seconds."""
    gunicorn.util.write_error = write_problem
    if {"GUNICORN_FD", "LISTEN_FDS"} & os.environ.keys():
        return  # The listener is inherited, from the server that is replaced or from systemd.
    for address in server.address:
        _refuse_taken(address)


def when_ready(server: Any) -> None:
    """Freeze what the workers will share, and say how to call the service."""
    gc.collect()
    gc.freeze()
    # A batch of 1,000 rows is 3,000 dictionaries that live together: no use to look at them thrice.
    gc.set_threshold(20_000, 10, 10)
    service = server.app.wsgi().extensions["iris_api"]
    key = service.keys.own_key
    address = str(server.LISTENERS[0]).replace("//0.0.0.0", "//127.0.0.1").replace("[::]", "[::1]")
    features = service.model.manifest.contract.features
    example = json.dumps({feature.name: feature.example for feature in features})
    if not service.keys.names:
        print(
            "No API key is stored yet: `flask --app wsgi keys add NAME` makes one.", file=sys.stderr
        )
    if key:
        print("No API key is configured: this one is good for this run only.", file=sys.stderr)
    header = f"'X-API-Key: {key}'" if key else '"X-API-Key: $KEY"'
    print(
        f"curl {address}/v1/predict -H {header} "
        f"-H 'Content-Type: application/json' -d {shlex.quote(example)}",
        file=sys.stderr,
        flush=True,
    )


def post_fork(server: Any, _worker: Any) -> None:
    """Let a worker that starts late read the keys anew."""
    server.app.wsgi().extensions["iris_api"].keys.forget_file()


def write_problem(client: socket.socket, status: int, _reason: str, message: str) -> None:
    """Gunicorn's own refusals of unreadable requests, in the shape of all our errors."""
    title = HTTPStatus(status).phrase
    request_id = uuid.uuid4().hex
    document = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": message,
        "request_id": request_id,
    }
    body = json.dumps(document).encode()
    head = (
        f"HTTP/1.1 {status} {title}\r\n"
        "Connection: close\r\n"
        "Content-Type: application/problem+json\r\n"
        f"Content-Length: {len(body)}\r\n"
        f"X-Request-ID: {request_id}\r\n\r\n"
    )
    gunicorn.util.write_nonblock(client, head.encode() + body)


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
