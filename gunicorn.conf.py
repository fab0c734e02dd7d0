"""Gunicorn's settings: `gunicorn wsgi:app` in this directory is the whole production command."""

import os
import sys

from iris_api.errors import SettingsError
from iris_api.server.hooks import (
    child_exit,
    on_exit,
    on_starting,
    post_fork,
    post_worker_init,
    pre_exec,
    prepared,
    when_ready,
    worker_exit,
)

__all__ = [
    "child_exit",
    "on_exit",
    "on_starting",
    "post_fork",
    "post_worker_init",
    "pre_exec",
    "when_ready",
    "worker_exit",
]

try:
    settings = prepared()
except SettingsError as error:
    sys.exit(f"iris-api: {error}")

host = f"[{settings.host}]" if ":" in settings.host else settings.host
bind = f"{host}:{settings.port}"
workers = settings.workers
worker_class = "iris_api.server.worker.EventLoopWorker"
threads = 4
keepalive = 5
# The main loop keeps what is written and waits for nobody, which a file sent by the kernel would.
sendfile = False
timeout = 30
# With IRIS_DRAIN_SECONDS it fits into the ten seconds that `docker stop` waits.
graceful_timeout = 8
preload_app = True
logger_class = "iris_api.web.request_log.GunicornLogger"
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
