"""The servers under test: how each is started, and the CPU and memory of its process tree."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from iris_api.bundle.store import Bundle
from iris_api.web.keys import digest_of, new_key

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
WORKERS = 2
TICKS = os.sysconf("SC_CLK_TCK")
KEY = new_key()


@dataclass
class Contender:
    """A server under test: its command, and its processes while it runs."""

    name: str
    command: list[str]
    environment: dict[str, str]
    port: int
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> float:
        """Start the server; returns the seconds until its first correct answer."""
        started = time.perf_counter()
        self.processes.append(
            subprocess.Popen(
                self.command,
                cwd=ROOT,
                env=os.environ | self.environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
        while time.perf_counter() - started < 60:
            if self.answer():
                return time.perf_counter() - started
            time.sleep(0.002)
        raise TimeoutError(f"{self.name} did not start")

    def answer(self, body: bytes = b"") -> bytes:
        """Its answer to a body (one row by default); empty if there is none with status 200."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Content-Type": "application/json", "X-API-Key": KEY}
        try:
            connection.request("POST", "/v1/predict", body or ONE_ROW, headers)
            response = connection.getresponse()
            answer = response.read()
        except (ConnectionError, http.client.HTTPException):
            return b""
        finally:
            connection.close()
        return answer if response.status == 200 else b""

    def stop(self) -> None:
        """Stop the server and wait until it has ended."""
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            # A worker that is still starting misses the signal, and is killed after 30 s.
            process.wait(60)
        self.processes.clear()

    def cpu_seconds(self) -> float:
        """User and system time of the whole process tree so far."""
        return sum(_cpu_ticks(pid) for pid in self.tree()) / TICKS

    def pss_mebibytes(self) -> float:
        """Proportional set size of the whole process tree."""
        return sum(_pss_kibibytes(pid) for pid in self.tree()) / 1024

    def tree(self) -> list[int]:
        """Process ids of the server and all its children."""
        return [pid for process in self.processes for pid in _descendants(process.pid)]


ONE_ROW = b'{"sepal_length":6.7,"sepal_width":3.0,"petal_length":5.2,"petal_width":2.3}'


def _descendants(pid: int) -> Iterator[int]:
    yield pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for child in children:
        yield from _descendants(int(child))


def _cpu_ticks(pid: int) -> int:
    """CPU ticks of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15]))


def _pss_kibibytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def free_port() -> int:
    """A port that no process listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def service(model: Path, *, workers: int = WORKERS, name: str = "ours") -> Contender:
    """The service as it ships: the command of the README, with all features on."""
    port = free_port()
    environment = {
        "IRIS_MODEL_DIR": str(model),
        "IRIS_API_KEYS": f"bench:{digest_of(KEY)}",
        "WEB_CONCURRENCY": str(workers),
        "PORT": str(port),
    }
    return Contender(name, [sys.executable, "-m", "gunicorn", "wsgi:app"], environment, port)


def without(parts: str) -> Contender:
    """The service without some of its parts.

    Args:
        parts: Separated by commas: `log` (the log line), `records` (log line and metrics), `keys`,
            `answer` (the prediction).
    """
    server = service(ROOT / "model", name=f"without {parts}")
    if parts == "log":
        server.environment["IRIS_LOG_LEVEL"] = "error"
    else:
        server.command[-1] = "benchmarks.rivals.without:app"
        server.environment["WITHOUT"] = parts
    return server


def on_our_gunicorn(name: str, app: str) -> Contender:
    """A bare app with the Gunicorn settings of the service."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "-c", "benchmarks/rivals/gunicorn.conf.py", app]
    return Contender(name, command, {"WEB_CONCURRENCY": str(WORKERS), "PORT": str(port)}, port)


def rival(name: str, server: list[str], model: Path, work: Path) -> Contender:
    """A rival with the same model files and the same key."""
    port = free_port()
    artefacts = {a.runtime: model / a.path for a in Bundle.load(model).manifest.artefacts}
    metrics = work / f"prometheus-{port}"
    metrics.mkdir()
    environment = {
        "RIVAL_ONNX": str(artefacts["onnxruntime"]),
        "RIVAL_JOBLIB": str(artefacts["scikit-learn"]),
        "RIVAL_KEY_DIGEST": digest_of(KEY),
        "PROMETHEUS_MULTIPROC_DIR": str(metrics),
    }
    command = [sys.executable, "-m", *(part.format(port=port) for part in server)]
    return Contender(name, command, environment, port)


NGINX = """
user root; daemon off; pid {work}/pid; error_log {work}/error.log; worker_processes 1;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {work}/body; proxy_temp_path {work}/proxy;
    fastcgi_temp_path {work}/f; uwsgi_temp_path {work}/u; scgi_temp_path {work}/s;
    {site}
}}
"""


@dataclass
class BehindNginx(Contender):
    """The service behind a real nginx with the site of `deploy/`."""

    backend: Contender = field(kw_only=True)

    def start(self) -> float:
        """Start the service, then nginx."""
        self.backend.start()
        self.processes += self.backend.processes
        return super().start()


def behind_nginx(backend: Contender, work: Path) -> BehindNginx:
    """A service behind nginx with `deploy/nginx.conf`."""
    port = free_port()
    site = (ROOT / "deploy" / "nginx.conf").read_text()
    site = site.replace("listen 80;", f"listen 127.0.0.1:{port};")
    site = site.replace("127.0.0.1:8000", f"127.0.0.1:{backend.port}")
    # All load comes from one address with one key, and nginx's limits are not what is measured.
    site = site.replace("rate=2000r/s", "rate=1000000r/s").replace("max_conns=128", "")
    path = work / "nginx.conf"
    path.write_text(NGINX.format(work=work, site=site))
    command = ["nginx", "-c", str(path)]
    return BehindNginx("ours behind nginx", command, {}, port, backend=backend)
