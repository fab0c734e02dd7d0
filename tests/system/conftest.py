"""A real server for each test that asks: Gunicorn on a free port, from this checkout."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from iris_api.monitoring.counter_directory import SHARED_MEMORY
from tests.conftest import FLOWER, ROOT, Key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.described import Described

TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
READY = "curl http://"
PATIENCE = 30.0
"""Seconds until a server that has not started, or not stopped, is a failure."""


@dataclass
class Server:
    """A running Gunicorn and how to reach it."""

    process: subprocess.Popen[bytes]
    log: Path
    key: str
    port: int
    settings: Mapping[str, str]
    described: Described | None = None
    """What its answers are held against."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        return {"X-API-Key": self.key, "Content-Type": "application/json"}

    @property
    def said(self) -> str:
        return self.log.read_text()

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """One request on a connection of its own, with the key."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, self.headers | dict(headers or {}))
            response = connection.getresponse()
            status, sent, answer = response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()
        if self.described:
            self.described.check(method, path.partition("?")[0], status, sent, answer)
        return status, sent, answer

    def predicts(self) -> bool:
        """Whether a good request gets its right answer."""
        status, _, body = self.ask("POST", "/v1/predict", json.dumps(FLOWER).encode())
        return status == 200 and json.loads(body)["prediction"] == "virginica"

    def workers(self) -> list[int]:
        """Process ids of the workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def stop(self) -> int:
        """Ask it to stop, and wait for its exit status.

        A worker that is still starting may lose the signal, and is killed after 30 seconds.
        """
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(2 * PATIENCE)


def environment(**settings: str) -> dict[str, str]:
    """An environment with these settings and no others."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("IRIS_")}
    return inherited | {"PORT": "0", "WEB_CONCURRENCY": "2"} | settings


def gunicorn_command(app: str) -> list[str]:
    """As the README has it. Not `python -m gunicorn`, which SIGUSR2 can't replace."""
    return [str(Path(sys.executable).with_name("gunicorn")), app]


def gunicorn(
    log: Path, settings: Mapping[str, str], app: str = "wsgi:app", cwd: Path = ROOT
) -> subprocess.Popen[bytes]:
    """Start Gunicorn as the README says, with its output in a file."""
    with log.open("wb") as output:
        return subprocess.Popen(
            gunicorn_command(app),
            cwd=cwd,
            env=environment(**settings),
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """Poll until something is true."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    return pytest.fail(f"waited {PATIENCE:.0f} s in vain for {what}")


@pytest.fixture(scope="session")
def start(
    trained: Path, key: Key, described: Described, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Server]]:
    """Start servers on the trained bundle; whatever is left running is killed at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def start(app: str = "wsgi:app", cwd: Path = ROOT, **settings: str) -> Server:
        log = tmp_path_factory.mktemp("server") / "log"
        settings = {"IRIS_MODEL_DIR": str(trained), "IRIS_API_KEYS": key.entry} | settings
        process = gunicorn(log, settings, app, cwd)
        started.append(process)
        wait_for(lambda: READY in log.read_text() or process.poll() is not None, "the server")
        assert process.poll() is None, log.read_text()
        port = int(log.read_text().split(READY)[1].split("/")[0].rpartition(":")[2])
        ours = described if app == "wsgi:app" else None
        server = Server(process, log, key.secret, port, settings, ours)
        workers = int(environment(**settings)["WEB_CONCURRENCY"])
        wait_for(lambda: len(server.workers()) == workers, "the workers")
        return server

    yield start
    for process in started:
        process.kill()
        process.wait()
        # Killed, it could not remove its counters, and no other server will use its port.
        for left in SHARED_MEMORY.glob(f"iris-api-{os.geteuid()}-*-any-{process.pid}"):
            shutil.rmtree(left)


@pytest.fixture(scope="session")
def server(start: Callable[..., Server]) -> Server:
    """One server for all tests that do it no harm."""
    return start()


def pss_mebibytes(server: Server) -> float:
    """Memory of a server's processes, what they share divided among them."""
    total = 0
    for pid in [server.process.pid, *server.workers()]:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += next(int(line.split()[1]) for line in rollup.splitlines() if "Pss:" in line)
    return total / 1024


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def nginx(
    needs: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., str]]:
    """Start a real nginx with deploy/nginx.conf, or parts replaced; gives its URL."""
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
        for there, instead in (ports | changes).items():
            assert there in site
            site = site.replace(there, instead)
        temporary = "\n".join(f"{name}_temp_path {directory}/{name};" for name in TEMPORARY)
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
    """Ask for a program of the machine: without it the test skips, and in CI it fails."""

    def needs(program: str) -> str:
        path = shutil.which(program)
        if path:
            return path
        reason = f"{program} is not installed"
        return pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)

    return needs


@pytest.fixture(scope="module")
def browser(needs: Callable[[str], str]) -> Iterator[Browser]:
    """Debian's Chromium: Playwright's own can't be fetched everywhere.

    For a module, not the session: while Playwright runs, no other test has an event loop.
    """
    path = needs("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open pages that may ask their own server and no other host, and whose scripts do not fail."""
    contexts: list[BrowserContext] = []
    failed: list[str] = []

    def visit(server: Server, path: str, **options: Any) -> Page:
        context = browser.new_context(base_url=server.url, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: failed.append(str(error)))
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((server.url, "blob:"))
                else failed.append(request.url)
            ),
        )
        page.on(
            "console",
            lambda message: (
                failed.append(message.text) if "Content Security Policy" in message.text else None
            ),
        )
        page.goto(path)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert failed == []
