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
# The worker buffers what is written, and sends it without waiting; sendfile would wait.
sendfile = False
timeout = 30
# Together with IRIS_DRAIN_SECONDS it fits into the ten seconds that `docker stop` waits.
graceful_timeout = 8
preload_app = True
logger_class = "iris_api.server.logger.GunicornLogger"
loglevel = settings.log_level
forwarded_allow_ips = ",".join(settings.trusted_proxies)
# The app is not mounted below a path, and a client on this machine could send SCRIPT_NAME.
forwarder_headers = ""
# The heartbeat is a file touched every second: on a disk, a slow fsync would look like a hang.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
# Its socket file can't be made on a read-only root, and nothing uses it.
control_socket_disable = True
# Workers are the parallelism: each would have its own thread pools of the numeric libraries.
raw_env = ["OPENBLAS_NUM_THREADS=1", "OMP_NUM_THREADS=1"]
