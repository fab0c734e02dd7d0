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

from iris_api.web.request import REQUEST_START
from tests.constants import FLOWER, ROOT

from .conftest import PATIENCE, free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Server

pytestmark = pytest.mark.system


def test_the_service_answers_behind_nginx(nginx: Callable[[int], str], server: Server) -> None:
    """Rows and batches with keep-alive; the request id of the caller comes back."""
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
    """Nginx does not replace a problem document of the service."""
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
def test_nginx_refuses_with_problem_documents_too(
    nginx: Callable[[int], str],
    server: Server,
    path: str,
    headers: dict[str, str],
    body: bytes,
    status: int,
) -> None:
    """A client parses one kind of error, from the service and from nginx."""
    answer = requests.post(nginx(server.port) + path, data=body, headers=headers, timeout=9)
    check_problem(answer, status)


@pytest.mark.parametrize("path", ["/v1/predict", "/health"])
def test_a_service_that_is_down_is_a_503_problem(nginx: Callable[[int], str], path: str) -> None:
    """With Retry-After."""
    answer = requests.get(nginx(free_port()) + path, timeout=9)
    check_problem(answer, 503)
    assert answer.headers["Retry-After"] == "1"


def test_a_caller_above_its_rate_is_refused(nginx: Callable[..., str], server: Server) -> None:
    """By key and by address; other callers are answered, and so is this one a moment later."""
    url = nginx(server.port, **{"rate=2000r/s": "rate=5r/s", "burst=2000": "burst=5"})
    answers = [requests.get(f"{url}/health", timeout=9) for _ in range(20)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert 5 <= len(refused) <= 15
    check_problem(refused[0], 429)
    assert refused[0].headers["Retry-After"] == "1"
    time.sleep(0.4)
    assert requests.get(f"{url}/health", timeout=9).status_code == 200
    url = nginx(
        server.port,
        **{"iris_key:10m rate=2000r/s": "iris_key:10m rate=1r/m", "key burst=2000": "key burst=1"},
    )
    of = [requests.get(f"{url}/v1/model", headers={"X-API-Key": k}, timeout=9) for k in "aaabbb"]
    assert [answer.status_code for answer in of] == [401, 401, 429] * 2


def test_with_a_certificate_nginx_serves_tls_only(
    nginx: Callable[..., str], server: Server, tmp_path: Path
) -> None:
    """By deploy/nginx-tls.conf; a key that comes without TLS is refused."""
    certificate, key = tmp_path / "iris-api.pem", tmp_path / "iris-api.key"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    files = [
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-out",
        str(certificate),
        "-keyout",
        str(key),
    ]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    port = free_port()
    tls = (ROOT / "deploy" / "nginx-tls.conf").read_text()
    tls = tls.replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl")
    tls = re.sub(r"/etc/ssl/\w+/", f"{tmp_path}/", tls)
    url = nginx(server.port, **{"include /etc/nginx/iris-api-tls*.conf;": tls})
    with requests.Session() as session:
        session.headers.update(server.headers)
        session.verify, session.trust_env = str(certificate), False
        answer = session.post(f"https://127.0.0.1:{port}/v1/predict", json=FLOWER, timeout=9)
        assert answer.json()["prediction"] == "virginica"
        assert "max-age" in answer.headers["Strict-Transport-Security"]
        check_problem(session.post(f"{url}/v1/predict", json=FLOWER, timeout=9), 403)


def check_problem(answer: requests.Response, status: int) -> None:
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    document = json.loads(answer.text)
    assert document["status"] == status
    assert document["request_id"] == answer.headers["X-Request-ID"]
    assert document.keys() == {"type", "title", "status", "detail", "request_id"}


def test_nginx_sends_the_address_and_the_start_of_a_request(nginx: Callable[[int], str]) -> None:
    """It replaces what the client claims."""
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
    started = REQUEST_START.fullmatch(headers["x-request-start"])
    assert started
    assert abs(time.time() - float(started[1])) < PATIENCE
    assert headers["x-forwarded-for"] == "127.0.0.1"


def test_metrics_can_not_be_reached_from_outside(
    nginx: Callable[[int], str], server: Server
) -> None:
    """Not even with a key."""
    answer = requests.get(nginx(server.port) + "/metrics", headers=server.headers, timeout=10)
    assert (answer.status_code, answer.json()["title"]) == (403, "Forbidden")
