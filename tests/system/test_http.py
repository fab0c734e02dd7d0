"""How the service's own worker treats large, slow, silent and broken clients."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import pytest
import requests

from tests.api_document import PROBLEM
from tests.constants import FLOWER

from .conftest import peak_mebibytes
from .quick import QuickWorker
from .raw_http import head

if TYPE_CHECKING:
    from collections.abc import Callable

    from sklearn.ensemble import RandomForestClassifier

    from .conftest import Server

pytestmark = pytest.mark.system

BODY = json.dumps(FLOWER).encode()
BIG = 100 * 1024 * 1024


def test_no_label_differs_on_20000_rows(server: Server, forest: RandomForestClassifier) -> None:
    """The shipped model over HTTP predicts as the same estimator, fitted here by scikit-learn."""
    rows = np.random.default_rng(1).uniform(0, 10, (20_000, 4))
    names = np.array(["setosa", "versicolor", "virginica"])
    predicted: list[str] = []
    with requests.Session() as session:
        for part in np.array_split(rows, 4):
            body = [dict(zip(FLOWER, row, strict=True)) for row in part.tolist()]
            response = session.post(f"{server.url}/predict", json=body, headers=server.headers)
            predicted += [result["prediction"] for result in response.json()["predictions"]]
    assert predicted == names[forest.predict(rows)].tolist()


PHP = """
$context = stream_context_create(['http' => [
    'method' => 'POST', 'content' => getenv('BODY'), 'ignore_errors' => true,
    'header' => "Content-Type: application/json\\r\\nX-API-Key: " . getenv('KEY')]]);
echo json_decode(file_get_contents(getenv('URL'), false, $context))->prediction;
"""


def test_plain_php_works(server: Server, needs: Callable[[str], str]) -> None:
    """PHP without its curl extension; `examples/` has the other clients."""
    environment = {"URL": f"{server.url}/predict", "KEY": server.key, "BODY": BODY.decode()}
    done = subprocess.run(
        [needs("php"), "-r", PHP], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "virginica"


@pytest.mark.parametrize(("headers", "status"), [({}, 413), ({"X-API-Key": "wrong"}, 401)])
def test_100_megabytes_are_refused_and_the_client_reads_why(
    server: Server, headers: dict[str, str], status: int
) -> None:
    """The connection stays open until the client has sent all; Gunicorn's worker would reset it."""
    result, fields, content = server.ask("POST", "/v1/predict", b" " * BIG, headers)
    assert result == json.loads(content)["status"] == status
    assert fields["Content-Type"] == PROBLEM
    assert server.predicts()


def test_100_megabytes_in_chunks_are_refused(server: Server) -> None:
    """The size is not known in advance; memory holds no more than the limit."""
    before = peak_mebibytes(server)
    for _ in range(4):
        pieces = (b" " * 1024 * 1024 for _ in range(100))
        url = f"{server.url}/predict"
        response = requests.post(url, data=pieces, headers=server.headers, timeout=30)
        assert response.status_code == 413
    assert peak_mebibytes(server) - before < 40
    assert server.predicts()


def test_a_batch_full_of_errors_does_not_fill_the_memory(server: Server) -> None:
    """Of 280,000 errors in 2 MB the problem lists a part, and memory holds no more."""
    row = "{" + ",".join(f'"{chr(97 + i)}":1' for i in range(24)) + "}"
    body = ("[" + ",".join([row] * 10_000) + "]").encode()
    before = peak_mebibytes(server)
    status, _, response = server.ask("POST", "/predict", body)
    assert status == 422
    assert json.loads(response)["total"] == 280_000
    assert peak_mebibytes(server) - before < 150


@pytest.mark.parametrize("length", [1000, 100_000])
def test_clients_that_never_send_their_bodies_delay_nobody(
    quick_server: Server, length: int
) -> None:
    """A small body is awaited without a thread; a large one is refused by its head."""
    began = time.monotonic()
    stalled = []
    for _ in range(16):
        connection = socket.create_connection(("127.0.0.1", quick_server.port), timeout=15)
        declared = f"Content-Length: {length}\r\n\r\n".encode()
        connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: x\r\n" + declared)
        stalled.append(connection)
    assert quick_server.predicts()
    assert time.monotonic() - began < (1 if length == 1000 else 8)
    for connection in stalled:
        assert connection.recv(100)[:12] == (b"HTTP/1.1 408" if length == 1000 else b"HTTP/1.1 404")
        connection.close()
    assert time.monotonic() - began < QuickWorker.read_timeout + 4


@pytest.mark.parametrize("sent", [b"G", b"GET / HTTP/1.1\r\nHost: x\r\n", b"\x16\x03\x01"])
def test_clients_that_stop_in_their_heads_delay_nobody(server: Server, sent: bytes) -> None:
    """No thread waits for a head, which may come in pieces."""
    stalled = [socket.create_connection(("127.0.0.1", server.port), timeout=15) for _ in range(40)]
    for connection in stalled:
        connection.sendall(sent)
    began = time.monotonic()
    assert all(server.predicts() for _ in range(5))
    assert time.monotonic() - began < 1
    for connection in stalled:
        connection.close()


def test_a_head_without_end_is_refused_without_a_thread(server: Server) -> None:
    """It is refused though it never ends; that holds for a probe too."""
    endless = b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 12_000
    stalled = [socket.create_connection(("127.0.0.1", server.port), timeout=15) for _ in range(12)]
    for connection in stalled:
        connection.sendall(endless)
    assert server.predicts()
    assert server.ask("GET", "/health")[0] == 200
    for connection in stalled:
        assert connection.recv(100).startswith(b"HTTP/1.1 431")
        connection.close()


def test_clients_that_never_read_are_disconnected(quick_server: Server) -> None:
    """Their responses fill the kernel's buffers; no worker dies of it."""
    before = quick_server.workers()
    pipeline = b"GET /v1/nowhere HTTP/1.1\r\nHost: x\r\n\r\n" * 100
    clients = [socket.create_connection(("127.0.0.1", quick_server.port)) for _ in range(12)]
    began = time.monotonic()
    for connection in clients:
        connection.setblocking(False)
    while time.monotonic() - began < 3 * QuickWorker.write_timeout:
        for connection in clients:
            with suppress(OSError):
                connection.send(pipeline)
        time.sleep(0.02)
    for connection in clients:
        connection.close()
    assert all(quick_server.predicts() for _ in range(8))
    assert quick_server.workers() == before


def test_a_request_may_come_in_pieces(server: Server) -> None:
    """Several requests on one connection, in pieces of different sizes."""
    request = head(server, f"Content-Length: {len(BODY)}") + BODY
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        for step in (7, len(request) - 5, len(request) // 2):
            for start in range(0, len(request), step):
                connection.sendall(request[start : start + step])
                time.sleep(0.002)
            response = b""
            while not response.endswith(b"}\n"):
                response += connection.recv(65536)
            assert b"virginica" in response


def test_a_body_that_ends_too_early_is_refused(server: Server) -> None:
    """Though the part that arrived is complete JSON."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(head(server, f"Content-Length: {len(BODY) + 5}") + BODY)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(65536).startswith(b"HTTP/1.1 400")


def test_a_header_can_not_change_the_root_path(server: Server) -> None:
    """Gunicorn would take SCRIPT_NAME from a trusted client by default."""
    assert server.ask("GET", "/health", headers={"SCRIPT_NAME": "/foo"})[0] in {200, 400}


@pytest.mark.parametrize(
    "sent",
    [b"", b"POST", b"POST /predict HTTP/1.1\r\nHost: x\r\n"],
    ids=["nothing", "a word", "half a head"],
)
def test_clients_that_disconnect_harm_nobody(server: Server, sent: bytes) -> None:
    """Twenty at a time, in each phase of a request."""
    for body in (sent, head(server, "Content-Length: 5000") + b"{"):
        connections = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
        for connection in connections:
            connection.sendall(body)
            connection.close()
    assert all(server.predicts() for _ in range(10))
    assert "Traceback" not in server.log_text


def test_silent_clients_delay_nobody(start: Callable[..., Server]) -> None:
    """A hundred clients that send nothing delay neither predictions nor a stop."""
    server = start(IRIS_DRAIN_SECONDS="0")
    clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(100)]
    began = time.monotonic()
    assert all(server.predicts() for _ in range(20))
    assert time.monotonic() - began < 3
    assert server.stop() == 0
    assert time.monotonic() - began < 15
    for connection in clients:
        connection.close()


def test_a_late_request_is_answered_and_an_idle_connection_is_closed(
    quick_server: Server,
) -> None:
    """A new connection may wait for its first request as long as a kept-alive one."""
    lines = (f"Content-Length: {len(BODY)}", "Connection: close")
    request = head(quick_server, *lines) + BODY
    with socket.create_connection(("127.0.0.1", quick_server.port), timeout=10) as connection:
        time.sleep(0.4)
        connection.sendall(request)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    with socket.create_connection(("127.0.0.1", quick_server.port), timeout=10) as connection:
        assert connection.recv(1) == b""
