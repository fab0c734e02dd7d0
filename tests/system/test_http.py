from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import requests

from iris_api.server.worker import EventLoopWorker
from tests.constants import FLOWER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sklearn.ensemble import RandomForestClassifier

    from .conftest import Server

pytestmark = pytest.mark.system

GOOD = json.dumps(FLOWER).encode()
PROBLEM = "application/problem+json"
BIG = 100 * 1024 * 1024


def raw(server: Server, *parts: bytes, pause: float = 0.0) -> bytes:
    """Send bytes as they are, and read until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(pause)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
        return received


def head(server: Server, *lines: str, request: str = "POST /v1/predict HTTP/1.1") -> bytes:
    key = f"X-API-Key: {server.key}"
    every = [request, "Host: iris", key, "Content-Type: application/json", *lines, "", ""]
    return "\r\n".join(every).encode()


def test_no_label_differs_on_20000_rows(server: Server, forest: RandomForestClassifier) -> None:
    """The shipped model over HTTP against scikit-learn fitted here by the same recipe."""
    rows = np.random.default_rng(1).uniform(0, 10, (20_000, 4))
    names = np.array(["setosa", "versicolor", "virginica"])
    predicted: list[str] = []
    with requests.Session() as session:
        for part in np.array_split(rows, 4):
            body = [dict(zip(FLOWER, row, strict=True)) for row in part.tolist()]
            answer = session.post(f"{server.url}/predict", json=body, headers=server.headers)
            predicted += [given["prediction"] for given in answer.json()["predictions"]]
    assert predicted == names[forest.predict(rows)].tolist()


def test_requests_works_with_and_without_a_session(server: Server) -> None:
    """Both ways of sending the key, kept alive or not."""
    bearer = {"Authorization": f"Bearer {server.key}"}
    assert requests.post(f"{server.url}/predict", json=FLOWER, headers=bearer, timeout=9).ok
    with requests.Session() as session:
        session.headers.update(server.headers)
        for _ in range(5):
            answer = session.post(f"{server.url}/v1/predict", data=GOOD, timeout=9)
            assert answer.json()["prediction"] == "virginica"


def test_one_connection_serves_many_requests(server: Server) -> None:
    """Keep-alive, with errors among the requests."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.connect()
    first = connection.sock
    for body, status in ((GOOD, 200), (b"[]", 422), (b"", 400), (b"{", 400), (GOOD, 200)):
        connection.request("POST", "/v1/predict", body, server.headers)
        response = connection.getresponse()
        response.read()
        assert response.status == status
        assert connection.sock is first, "the connection was closed"
    connection.close()


def test_http_1_0_and_connection_close_are_answered(server: Server) -> None:
    """Older clients speak nothing else."""
    length = f"Content-Length: {len(GOOD)}"
    for request, line in (
        ("POST /predict HTTP/1.0", length),
        ("POST /predict HTTP/1.1", f"{length}\r\nConnection: close"),
    ):
        answer = raw(server, head(server, line, request=request) + GOOD)
        assert answer.split()[1] == b"200"
        assert b"virginica" in answer


def test_expect_100_continue_is_honoured(server: Server) -> None:
    """The client waits for leave before it sends its body."""
    lines = (f"Content-Length: {len(GOOD)}", "Expect: 100-continue", "Connection: close")
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(head(server, *lines))
        assert connection.recv(100).startswith(b"HTTP/1.1 100 Continue")
        connection.sendall(GOOD)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    assert b"virginica" in answer


def test_a_chunked_body_is_read(server: Server) -> None:
    """Also in the smallest chunks."""
    pieces: Iterator[bytes] = (GOOD[i : i + 1] for i in range(len(GOOD)))
    answer = requests.post(f"{server.url}/predict", data=pieces, headers=server.headers, timeout=9)
    assert answer.json()["prediction"] == "virginica"


def test_curl_works(server: Server, needs: Callable[[str], str]) -> None:
    """Plain, chunked, and with a body that makes it ask first."""
    batch = json.dumps([FLOWER] * 9000)
    key, url = f"X-API-Key: {server.key}", f"{server.url}/predict"
    plain = [needs("curl"), "-sS", "-H", key, "-H", "Content-Type: application/json", "-d@-", url]
    for extra in ([], ["-H", "Transfer-Encoding: chunked"], ["-H", "Expect: 100-continue"], ["-0"]):
        done = subprocess.run(
            [*plain, *extra], input=batch, capture_output=True, text=True, check=True
        )
        assert json.loads(done.stdout)["count"] == 9000


PHP = """
$context = stream_context_create(['http' => [
    'method' => 'POST', 'content' => getenv('BODY'), 'ignore_errors' => true,
    'header' => "Content-Type: application/json\\r\\nX-API-Key: " . getenv('KEY')]]);
echo json_decode(file_get_contents(getenv('URL'), false, $context))->prediction;
"""


def test_plain_php_works(server: Server, needs: Callable[[str], str]) -> None:
    """Streams, for a backend without the curl extension; `examples/` has the other languages."""
    environment = {"URL": f"{server.url}/predict", "KEY": server.key, "BODY": GOOD.decode()}
    done = subprocess.run(
        [needs("php"), "-r", PHP], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "virginica"


REFUSED: dict[str, tuple[bytes, dict[str, str], int]] = {
    "empty body": (b"", {}, 400),
    "empty array": (b"[]", {}, 422),
    "empty object": (b"{}", {}, 422),
    "null": (b"null", {}, 422),
    "string": (b'"setosa"', {}, 422),
    "10,001 rows": (json.dumps([FLOWER] * 10_001).encode(), {}, 413),
    "100 MB": (b" " * BIG, {}, 413),
    "100 MB and a wrong key": (b" " * BIG, {"X-API-Key": "wrong"}, 401),
    "1e400": (GOOD.replace(b"2.3", b"1e400"), {}, 422),
    "NaN": (GOOD.replace(b"2.3", b"NaN"), {}, 422),
    "true": (GOOD.replace(b"2.3", b"true"), {}, 422),
    "number in quotes": (GOOD.replace(b"2.3", b'"5.1"'), {}, 422),
    "unknown field": (json.dumps(FLOWER | {"colour": 1}).encode(), {}, 422),
    "deep nesting": (b"[" * 1_000_000, {}, 400),
    "invalid UTF-8": (b'{"\xff\xfe": 1}', {}, 400),
    "form": (b"sepal_length=1", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
    "wrong key": (GOOD, {"X-API-Key": "wrong"}, 401),
}


@pytest.mark.parametrize(("body", "headers", "status"), REFUSED.values(), ids=REFUSED.keys())
def test_a_bad_request_is_a_documented_problem(
    server: Server, body: bytes, headers: dict[str, str], status: int
) -> None:
    """Read by the plainest client there is; and the server answers after each of them."""
    got, sent, answer = server.ask("POST", "/v1/predict", body, headers)
    assert got == status
    assert sent["Content-Type"] == PROBLEM
    assert json.loads(answer)["status"] == status
    assert json.loads(answer)["request_id"] == sent["X-Request-ID"]
    assert server.predicts()


def test_100_megabytes_in_chunks_are_refused(server: Server) -> None:
    """Without a length to refuse beforehand; no more than the limit is kept in memory."""
    before = peak_mebibytes(server)
    for _ in range(4):
        pieces = (b" " * 1024 * 1024 for _ in range(100))
        url = f"{server.url}/predict"
        answer = requests.post(url, data=pieces, headers=server.headers, timeout=30)
        assert answer.status_code == 413
    assert peak_mebibytes(server) - before < 40
    assert server.predicts()


def peak_mebibytes(server: Server) -> int:
    """Largest resident size that any worker ever had."""
    peaks = [
        re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        for pid in server.workers()
    ]
    return max(int(peak[1]) for peak in peaks if peak) // 1024


def test_a_hopeless_batch_does_not_fill_the_memory(server: Server) -> None:
    """280,000 errors in 2 MB: told in part, and not made all at once."""
    row = "{" + ",".join(f'"{chr(97 + i)}":1' for i in range(24)) + "}"
    body = ("[" + ",".join([row] * 10_000) + "]").encode()
    before = peak_mebibytes(server)
    status, _, answer = server.ask("POST", "/predict", body)
    assert status == 422
    assert json.loads(answer)["total"] == 280_000
    assert peak_mebibytes(server) - before < 150


@pytest.mark.parametrize("length", [1000, 100_000])
def test_a_client_that_never_sends_its_body_holds_nobody_up(server: Server, length: int) -> None:
    """A small one is waited for without a thread; a large one is refused first, by its head."""
    began = time.monotonic()
    stalled = []
    for _ in range(16):
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=15)
        declared = f"Content-Length: {length}\r\n\r\n".encode()
        connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: x\r\n" + declared)
        stalled.append(connection)
    assert server.predicts()
    assert time.monotonic() - began < (1 if length == 1000 else 8)
    for connection in stalled:
        assert connection.recv(100)[:12] == (b"HTTP/1.1 408" if length == 1000 else b"HTTP/1.1 404")
        connection.close()
    assert time.monotonic() - began < EventLoopWorker.read_timeout + 4


@pytest.mark.parametrize("sent", [b"G", b"GET / HTTP/1.1\r\nHost: x\r\n", b"\x16\x03\x01"])
def test_clients_that_stop_in_their_heads_hold_nobody_up(server: Server, sent: bytes) -> None:
    """Any number of them: no thread waits for a head, which may also come in pieces."""
    stalled = [socket.create_connection(("127.0.0.1", server.port), timeout=15) for _ in range(40)]
    for connection in stalled:
        connection.sendall(sent)
    began = time.monotonic()
    assert all(server.predicts() for _ in range(5))
    assert time.monotonic() - began < 1
    for connection in stalled:
        connection.close()


def test_a_head_without_end_is_refused_without_a_thread(server: Server) -> None:
    """Though it stalls where Gunicorn would read on; nor does a probe of that kind have one."""
    endless = b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 12_000
    stalled = [socket.create_connection(("127.0.0.1", server.port), timeout=15) for _ in range(12)]
    for connection in stalled:
        connection.sendall(endless)
    assert server.predicts()
    assert server.ask("GET", "/health")[0] == 200
    for connection in stalled:
        assert connection.recv(100).startswith(b"HTTP/1.1 431")
        connection.close()


def test_clients_that_never_read_are_let_go(server: Server) -> None:
    """Their answers fill what the kernel holds for them; no worker dies of it."""
    before = server.workers()
    pipeline = b"GET /v1/nowhere HTTP/1.1\r\nHost: x\r\n\r\n" * 100
    deaf = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(12)]
    began = time.monotonic()
    for connection in deaf:
        connection.setblocking(False)
    while time.monotonic() - began < 3 * EventLoopWorker.read_timeout:
        for connection in deaf:
            with suppress(OSError):
                connection.send(pipeline)
        time.sleep(0.02)
    for connection in deaf:
        connection.close()
    assert all(server.predicts() for _ in range(8))
    assert server.workers() == before


def test_a_request_may_come_in_pieces(server: Server) -> None:
    """And another one on the same connection, in other pieces."""
    whole = head(server, f"Content-Length: {len(GOOD)}") + GOOD
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        for step in (7, len(whole) - 5, len(whole) // 2):
            for start in range(0, len(whole), step):
                connection.sendall(whole[start : start + step])
                time.sleep(0.002)
            answer = b""
            while not answer.endswith(b"}\n"):
                answer += connection.recv(65536)
            assert b"virginica" in answer


def test_a_body_that_ends_too_early_is_not_taken_for_whole(server: Server) -> None:
    """Though what came is complete JSON."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(head(server, f"Content-Length: {len(GOOD) + 5}") + GOOD)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(65536).startswith(b"HTTP/1.1 400")


def test_a_header_can_not_mount_the_service_elsewhere(server: Server) -> None:
    """Gunicorn takes SCRIPT_NAME from a trusted neighbour unless told otherwise."""
    assert server.ask("GET", "/health", headers={"SCRIPT_NAME": "/foo"})[0] in {200, 400}


CHUNKED = ("Transfer-Encoding: chunked",)
UNREADABLE: dict[str, tuple[Any, int]] = {
    "bad chunk size": (lambda s: head(s, *CHUNKED) + b"zz\r\n", 400),
    "bad chunk end": (lambda s: head(s, *CHUNKED) + b"1\r\n{xx\r\n0\r\n\r\n", 400),
    "bad trailer": (lambda s: head(s, *CHUNKED) + b"1\r\n{\r\n0\r\nbad\r\n\r\n", 400),
    "no request line": (lambda _: b"nonsense\r\n\r\n", 400),
    "bad method": (lambda s: head(s, request="P(ST /predict HTTP/1.1"), 400),
    "bad version": (lambda s: head(s, request="POST /predict HTTP/9.9"), 400),
    "bad header": (lambda s: head(s, "no colon here"), 400),
    "two lengths": (lambda s: head(s, "Content-Length: 1", "Content-Length: 2"), 400),
    "length and chunks": (lambda s: head(s, "Content-Length: 1", *CHUNKED), 400),
    "negative length": (lambda s: head(s, "Content-Length: -1"), 400),
    "long line": (lambda s: head(s, request=f"POST /{'a' * 9000} HTTP/1.1"), 414),
    "long header": (lambda s: head(s, f"X: {'a' * 9000}"), 431),
    "many headers": (lambda s: head(s, *[f"X-{i}: a" for i in range(200)]), 431),
    "unknown coding": (lambda s: head(s, "Transfer-Encoding: brotli"), 501),
}


@pytest.mark.parametrize(("request_of", "status"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_gunicorn_refuses_has_the_shape_of_all_our_errors(
    server: Server, request_of: Callable[[Server], bytes], status: int
) -> None:
    """A request that never reaches the application is a problem document all the same."""
    answer = raw(server, request_of(server))
    first, _, body = answer.partition(b"\r\n\r\n")
    assert first.startswith(f"HTTP/1.1 {status} ".encode())
    assert PROBLEM.encode() in first
    assert b"X-Request-ID" in first
    assert json.loads(body)["status"] == status
    assert server.predicts()


@pytest.mark.parametrize(
    "sent",
    [b"", b"POST", b"POST /predict HTTP/1.1\r\nHost: x\r\n"],
    ids=["nothing", "a word", "half a head"],
)
def test_a_client_that_goes_away_harms_nobody(server: Server, sent: bytes) -> None:
    """In each phase, several at once."""
    for body in (sent, head(server, "Content-Length: 5000") + b"{"):
        connections = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
        for connection in connections:
            connection.sendall(body)
            connection.close()
    assert all(server.predicts() for _ in range(10))
    assert "Traceback" not in server.log_text


def test_silent_clients_hold_nobody_up(start: Callable[..., Server]) -> None:
    """A hundred that connect and say nothing; they are let go in time, and do not delay a stop."""
    server = start()
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(100)]
    began = time.monotonic()
    assert all(server.predicts() for _ in range(20))
    assert time.monotonic() - began < 3
    assert server.stop() == 0
    assert time.monotonic() - began < 15
    for connection in silent:
        connection.close()


def test_a_client_that_speaks_late_is_heard(server: Server) -> None:
    """Its connection waited, and no longer than a kept-alive one."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        time.sleep(1)
        connection.sendall(head(server, f"Content-Length: {len(GOOD)}", "Connection: close") + GOOD)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        assert connection.recv(1) == b""


def test_many_clients_at_once_each_get_their_own_answer(server: Server) -> None:
    """Sixteen threads, each with rows of its own."""

    def ask(number: int) -> bool:
        row = dict.fromkeys(FLOWER, number % 11 + 0.0)
        answer = server.ask("POST", "/predict", json.dumps(row).encode())
        return answer[0] == 200 and json.loads(answer[2])["input"] == row

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(400)))
