from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import requests

from iris_api.exchange import STAMP
from tests.conftest import FLOWER

from .conftest import PATIENCE, ROOT, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .conftest import Server

pytestmark = pytest.mark.system

PATHS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def nginx(
    needs: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[int], str]]:
    """Start a real nginx with deploy/nginx.conf in front of a port; gives its URL."""
    program = needs("nginx")
    started: list[subprocess.Popen[bytes]] = []

    def nginx(backend: int) -> str:
        directory: Path = tmp_path_factory.mktemp("nginx")
        directory.chmod(0o755)
        port = free_port()
        site = (ROOT / "deploy" / "nginx.conf").read_text()
        site = re.sub(r"listen 80;", f"listen 127.0.0.1:{port};", site)
        site = re.sub(r"server 127.0.0.1:8000;", f"server 127.0.0.1:{backend};", site)
        temporary = "\n".join(f"{name}_temp_path {directory}/{name};" for name in PATHS)
        (directory / "nginx.conf").write_text(
            f"user root; daemon off; pid {directory}/pid; error_log {directory}/error.log;\n"
            f"events {{}}\nhttp {{ access_log off; {temporary}\n{site} }}"
        )
        started.append(subprocess.Popen([program, "-c", f"{directory}/nginx.conf"]))
        wait_for(lambda: listens(port), "nginx")
        return f"http://127.0.0.1:{port}"

    yield nginx
    for process in started:
        process.terminate()
        process.wait()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_the_service_answers_behind_nginx(nginx: Callable[[int], str], server: Server) -> None:
    """Keep-alive to nginx, singles and batches, and the caller's request id all the way."""
    url = nginx(server.port)
    with requests.Session() as session:
        session.headers.update(server.headers | {"X-Request-ID": "order-17"})
        for _ in range(50):
            answer = session.post(f"{url}/v1/predict", json=FLOWER, timeout=9)
            assert answer.json()["prediction"] == "virginica"
            assert answer.headers["X-Request-ID"] == "order-17"
        batch = session.post(f"{url}/v1/predict", json=[FLOWER] * 10_000, timeout=9)
        assert batch.json()["count"] == 10_000


def test_errors_of_the_service_pass_through(nginx: Callable[[int], str], server: Server) -> None:
    """Nginx does not put its own page over a problem of ours."""
    answer = requests.post(f"{nginx(server.port)}/v1/predict", json=[], timeout=9)
    assert answer.status_code == 401
    assert answer.json()["type"] == "urn:iris-api:problem:not-authenticated"


@pytest.mark.parametrize(
    ("path", "headers", "body", "status"),
    [
        ("/v1/predict", {}, b" " * (2 * 1024 * 1024 + 1), 413),
        ("/" + "a" * 20_000, {}, b"", 414),
        ("/", {"X": "a" * 20_000}, b"", 400),
    ],
)
def test_nginxs_own_refusals_are_problems_too(
    nginx: Callable[[int], str],
    server: Server,
    path: str,
    headers: dict[str, str],
    body: bytes,
    status: int,
) -> None:
    """A client parses one shape of error, whoever refuses."""
    answer = requests.post(nginx(server.port) + path, data=body, headers=headers, timeout=9)
    check_problem(answer, status)


def test_a_service_that_is_down_is_a_502_problem(nginx: Callable[[int], str]) -> None:
    """The shape stays while the service is away."""
    check_problem(requests.get(f"{nginx(free_port())}/health", timeout=9), 502)


def check_problem(answer: requests.Response, status: int) -> None:
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    document = json.loads(answer.text)
    assert document["status"] == status
    assert document["request_id"] == answer.headers["X-Request-ID"]
    assert document.keys() == {"type", "title", "status", "detail", "request_id"}


def test_the_service_learns_who_asked_and_since_when(nginx: Callable[[int], str]) -> None:
    """What nginx sends is what the service reads; a client's own words do not get through."""
    with socket.create_server(("127.0.0.1", 0)) as backend:
        url = nginx(backend.getsockname()[1])
        sent = {"X-Request-Start": "t=1.000", "X-Forwarded-For": "203.0.113.9"}
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(requests.get, url, headers=sent, timeout=10)
            connection, _ = backend.accept()
            with connection:
                head = connection.recv(65536).decode().lower()
                connection.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
            assert answer.result().status_code == 204
    headers = dict(line.split(": ", 1) for line in head.strip().split("\r\n")[1:])
    started = STAMP.fullmatch(headers["x-request-start"])
    assert started
    assert abs(time.time() - float(started[1])) < PATIENCE
    assert headers["x-forwarded-for"] == "127.0.0.1"


def test_metrics_are_not_for_the_outside(nginx: Callable[[int], str], server: Server) -> None:
    """Not even with a key."""
    answer = requests.get(nginx(server.port) + "/metrics", headers=server.headers, timeout=10)
    assert (answer.status_code, answer.json()["title"]) == (403, "Forbidden")
