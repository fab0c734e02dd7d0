"""Fixtures for system tests: real Gunicorn servers, nginx, and a browser."""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from iris_api.monitoring.counter_directory import SHARED_MEMORY
from tests.constants import FLOWER, ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.api_document import ApiDocument
    from tests.conftest import Key

NGINX_TEMPORARY_PATHS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
PATIENT = {"IRIS_MAX_QUEUE_MS": "60000"}
"""Settings of a server that refuses no request because this machine is busy with other tests."""
READY = "curl http://"
"""Beginning of the line that a server prints when it is ready."""
PATIENCE = 60.0
"""Seconds after which a condition that has not come true fails the test."""
PORTS_PER_WORKER = 1000
INHERITED = {name: value for name, value in os.environ.items() if not name.startswith("IRIS_")}
"""This environment. A copy: threads read it while the main thread changes the original."""
QUICK_TIMEOUTS = {"GUNICORN_CMD_ARGS": "-k tests.system.quick.QuickWorker --keep-alive 1"}
"""Settings of a server that waits for its clients only one or two seconds."""


@dataclass
class Server:
    """A running Gunicorn."""

    process: subprocess.Popen[bytes]
    log: Path
    """File with its stdout and stderr."""
    key: str
    port: int
    settings: Mapping[str, str]
    document: ApiDocument | None = None
    """The document that `ask` checks responses against."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        return {"X-API-Key": self.key, "Content-Type": "application/json"}

    @property
    def log_text(self) -> str:
        return self.log.read_text()

    @property
    def log_size(self) -> int:
        return self.log.stat().st_size

    def log_since(self, offset: int) -> str:
        """The log from an offset in bytes."""
        with self.log.open("rb") as file:
            file.seek(offset)
            return file.read().decode()

    @property
    def log_lines(self) -> list[dict[str, Any]]:
        """The JSON lines of the log."""
        return [json.loads(line) for line in self.log_text.splitlines() if line.startswith("{")]

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one request with the key on a new connection; returns status, headers and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, self.headers | dict(headers or {}))
            response = connection.getresponse()
            status, fields, content = response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()
        if self.document:
            self.document.check(method, path.partition("?")[0], status, fields, content)
        return status, fields, content

    def predicts(self) -> bool:
        """Whether a valid request gets the right prediction."""
        status, _, body = self.ask("POST", "/v1/predict", json.dumps(FLOWER).encode())
        return status == 200 and json.loads(body)["prediction"] == "virginica"

    def metrics(self) -> dict[str, float]:
        """All metrics by name and labels, as they are scraped."""
        status, _, body = self.ask("GET", "/metrics")
        assert status == 200
        pairs = (line.rpartition(" ") for line in body.decode().splitlines() if line[0] != "#")
        return {name: float(value) for name, _, value in pairs}

    def workers(self) -> list[int]:
        """Process ids of the workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def stop(self) -> int:
        """Send SIGTERM and return the exit status.

        A worker that is still starting may lose the signal; Gunicorn kills it after 30 seconds.
        """
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(2 * PATIENCE)


def environment(**settings: str) -> dict[str, str]:
    """This environment with the given settings and none of the machine's."""
    return INHERITED | {"PORT": "0", "WEB_CONCURRENCY": "2"} | settings


def gunicorn_command(app: str) -> list[str]:
    """The README's command. SIGUSR2 can't replace a server started by `python -m gunicorn`."""
    return [str(Path(sys.executable).with_name("gunicorn")), app]


def gunicorn(
    log: Path, settings: Mapping[str, str], app: str = "wsgi:app", cwd: Path = ROOT
) -> subprocess.Popen[bytes]:
    """Start Gunicorn as the README does, with its output in a file."""
    with log.open("wb") as output:
        return subprocess.Popen(
            gunicorn_command(app),
            cwd=cwd,
            env=environment(**settings),
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """Poll a condition until it is true, and return its value."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    return pytest.fail(f"no {what} after {PATIENCE:.0f} s")


@pytest.fixture(scope="session")
def start(
    trained: Path, key: Key, api_document: ApiDocument, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Server]]:
    """Start servers on the trained bundle; those still running at the end are killed."""
    started: list[subprocess.Popen[bytes]] = []

    def start(app: str = "wsgi:app", cwd: Path = ROOT, **settings: str) -> Server:
        log = tmp_path_factory.mktemp("server") / "log"
        settings = PATIENT | {"IRIS_MODEL_DIR": str(trained), "IRIS_API_KEYS": key.entry} | settings
        process = gunicorn(log, settings, app, cwd)
        started.append(process)
        wait_for(lambda: READY in log.read_text() or process.poll() is not None, "the server")
        assert process.poll() is None, log.read_text()
        port = int(log.read_text().split(READY)[1].split("/")[0].rpartition(":")[2])
        document = api_document if app == "wsgi:app" else None
        server = Server(process, log, key.secret, port, settings, document)
        workers = int(environment(**settings)["WEB_CONCURRENCY"])
        wait_for(lambda: len(server.workers()) == workers, "the workers")
        return server

    yield start
    for process in started:
        process.kill()
        process.wait()
        # A killed server can't remove its counters.
        for left in SHARED_MEMORY.glob(f"iris-api-{os.geteuid()}-*-any-{process.pid}"):
            shutil.rmtree(left)


@pytest.fixture(scope="session")
def server(start: Callable[..., Server]) -> Server:
    """One server for all tests that leave it as it is."""
    return start()


def peak_mebibytes(server: Server) -> int:
    """Largest resident size that any worker ever had."""
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in server.workers()]
    return max(int(text.split("VmHWM:")[1].split()[0]) for text in texts) // 1024


def pss_mebibytes(server: Server) -> float:
    """Proportional set size of a server and its workers."""
    total = 0
    for pid in [server.process.pid, *server.workers()]:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += next(int(line.split()[1]) for line in rollup.splitlines() if "Pss:" in line)
    return total / 1024


def free_port() -> int:
    """A port that nothing listens on.

    It is outside the range that Linux gives to clients, and each pytest-xdist worker has a range
    of its own, so nothing else takes the port before the test does.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = 20_000 + worker % 12 * PORTS_PER_WORKER
    while True:
        port = random.randrange(first, first + PORTS_PER_WORKER)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="session")
def quick_server(start: Callable[..., Server]) -> Server:
    """One server with short timeouts, for tests that let them expire."""
    return start(**QUICK_TIMEOUTS)


@pytest.fixture(scope="session")
def nginx(
    needs: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., str]]:
    """Start nginx with deploy/nginx.conf, or with parts of it replaced; returns its URL."""
    program = needs("nginx")
    started: list[subprocess.Popen[bytes]] = []

    def nginx(backend: int, **changes: str) -> str:
        directory: Path = tmp_path_factory.mktemp("nginx")
        directory.chmod(0o755)
        port = free_port()
        site = (ROOT / "deploy" / "nginx.conf").read_text()
        ports = {
            "listen 80;": f"listen 127.0.0.1:{port};",
            "127.0.0.1:8000": f"127.0.0.1:{backend}",
        }
        for old, new in (ports | changes).items():
            assert old in site
            site = site.replace(old, new)
        temporary = "\n".join(
            f"{name}_temp_path {directory}/{name};" for name in NGINX_TEMPORARY_PATHS
        )
        (directory / "nginx.conf").write_text(
            f"user root; daemon off; pid {directory}/pid; error_log {directory}/error.log;\n"
            "worker_rlimit_nofile 20000; events { worker_connections 8000; }\n"
            f"http {{ access_log off; {temporary}\n{site} }}"
        )
        started.append(subprocess.Popen([program, "-c", f"{directory}/nginx.conf"]))
        wait_for(lambda: listens(port), "nginx")
        return f"http://127.0.0.1:{port}"

    yield nginx
    for process in started:
        process.terminate()
        process.wait()


@pytest.fixture(scope="session")
def needs() -> Callable[[str], str]:
    """Require a program: without it the test skips, or in CI fails."""

    def needs(program: str) -> str:
        path = shutil.which(program)
        if path:
            return path
        reason = f"{program} is not installed"
        return pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)

    return needs


@pytest.fixture(scope="module")
def browser(needs: Callable[[str], str]) -> Iterator[Browser]:
    """The machine's Chromium: Playwright's own can't be downloaded everywhere.

    For one module: while Playwright runs, no other test can run an event loop.
    """
    path = needs("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures of the pages are kept: SCREENSHOTS, or a temporary directory."""
    directory = Path(os.environ.get("SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open pages; fail if one asks another host, raises an error or breaks its content policy."""
    contexts: list[BrowserContext] = []
    faults: list[str] = []

    def visit(server: Server, path: str, **options: Any) -> Page:
        context = browser.new_context(base_url=server.url, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((server.url, "blob:"))
                else faults.append(request.url)
            ),
        )
        page.on(
            "console",
            lambda message: (
                faults.append(message.text) if "Content Security Policy" in message.text else None
            ),
        )
        page.goto(path)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert faults == []
