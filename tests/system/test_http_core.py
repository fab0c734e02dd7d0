"""HTTP as clients use it, on the service's own worker and on Gunicorn's threaded one."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests.api_document import PROBLEM
from tests.constants import FLOWER

from .raw_http import exchange, head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .conftest import Server

pytestmark = pytest.mark.system

BODY = json.dumps(FLOWER).encode()
WORKER_CLASSES = {"own": "", "gthread": "-k gthread"}


@pytest.fixture(scope="module", params=WORKER_CLASSES)
def http_server(request: pytest.FixtureRequest, start: Callable[..., Server]) -> Server:
    """A server with each of the worker classes that can serve the application."""
    options = WORKER_CLASSES[request.param]
    return start(GUNICORN_CMD_ARGS=options) if options else request.getfixturevalue("server")


def test_one_row_and_a_batch_are_predicted(http_server: Server) -> None:
    """A batch gets for each row, in order, what that row gets alone."""
    rows = [FLOWER, dict.fromkeys(FLOWER, 0.5)]
    singles = [json.loads(http_server.ask("POST", "/v1/predict", encode(row))[2]) for row in rows]
    assert singles[0]["prediction"] == "virginica"
    batch = json.loads(http_server.ask("POST", "/v1/predict", encode(rows))[2])
    assert batch["predictions"] == [
        {name: single[name] for name in batch["predictions"][0]} for single in singles
    ]


def encode(body: object) -> bytes:
    return json.dumps(body).encode()


def test_health_and_metrics_are_served(http_server: Server) -> None:
    """Probes answer without a key; metrics count the requests of all workers."""
    for path in ("/health", "/health/ready", "/health/live"):
        assert http_server.ask("GET", path, headers={"X-API-Key": ""})[0] == 200
    series = 'iris_requests_total{route="/v1/predict",status="200"}'
    before = http_server.metrics().get(series, 0)
    assert all(http_server.predicts() for _ in range(20))
    assert http_server.metrics()[series] - before == 20


def test_requests_works_with_and_without_a_session(http_server: Server) -> None:
    """Both ways to send the key, with and without keep-alive."""
    bearer = {"Authorization": f"Bearer {http_server.key}"}
    assert requests.post(f"{http_server.url}/predict", json=FLOWER, headers=bearer, timeout=9).ok
    with requests.Session() as session:
        session.headers.update(http_server.headers)
        for _ in range(5):
            response = session.post(f"{http_server.url}/v1/predict", data=BODY, timeout=9)
            assert response.json()["prediction"] == "virginica"


def test_one_connection_serves_many_requests(http_server: Server) -> None:
    """Keep-alive works, also after an error."""
    connection = http.client.HTTPConnection("127.0.0.1", http_server.port, timeout=10)
    connection.connect()
    first = connection.sock
    for body, status in ((BODY, 200), (b"[]", 422), (b"", 400), (b"{", 400), (BODY, 200)):
        connection.request("POST", "/v1/predict", body, http_server.headers)
        response = connection.getresponse()
        response.read()
        assert response.status == status
        assert connection.sock is first, "the connection was closed"
    connection.close()


def test_http_1_0_and_connection_close_are_answered(http_server: Server) -> None:
    """Older clients know nothing else."""
    length = f"Content-Length: {len(BODY)}"
    for request_line, line in (
        ("POST /predict HTTP/1.0", length),
        ("POST /predict HTTP/1.1", f"{length}\r\nConnection: close"),
    ):
        response = exchange(http_server, head(http_server, line, request_line=request_line) + BODY)
        assert response.split()[1] == b"200"
        assert b"virginica" in response


def test_expect_100_continue_is_honoured(http_server: Server) -> None:
    """The client gets 100 Continue before it sends its body."""
    lines = (f"Content-Length: {len(BODY)}", "Expect: 100-continue", "Connection: close")
    with socket.create_connection(("127.0.0.1", http_server.port), timeout=10) as connection:
        connection.sendall(head(http_server, *lines))
        assert connection.recv(100).startswith(b"HTTP/1.1 100 Continue")
        connection.sendall(BODY)
        response = b""
        while piece := connection.recv(65536):
            response += piece
    assert b"virginica" in response


def test_a_chunked_body_is_read(http_server: Server) -> None:
    """In chunks of one byte."""
    pieces: Iterator[bytes] = (BODY[i : i + 1] for i in range(len(BODY)))
    response = requests.post(
        f"{http_server.url}/predict", data=pieces, headers=http_server.headers, timeout=9
    )
    assert response.json()["prediction"] == "virginica"


def test_curl_works(http_server: Server, needs: Callable[[str], str]) -> None:
    """Plain, chunked, with Expect: 100-continue, and as HTTP/1.0."""
    batch = json.dumps([FLOWER] * 9000)
    key, url = f"X-API-Key: {http_server.key}", f"{http_server.url}/predict"
    plain = [needs("curl"), "-sS", "-H", key, "-H", "Content-Type: application/json", "-d@-", url]
    for extra in ([], ["-H", "Transfer-Encoding: chunked"], ["-H", "Expect: 100-continue"], ["-0"]):
        done = subprocess.run(
            [*plain, *extra], input=batch, capture_output=True, text=True, check=True
        )
        assert json.loads(done.stdout)["count"] == 9000


REFUSED: dict[str, tuple[bytes, dict[str, str], int]] = {
    "empty body": (b"", {}, 400),
    "empty array": (b"[]", {}, 422),
    "empty object": (b"{}", {}, 422),
    "null": (b"null", {}, 422),
    "string": (b'"setosa"', {}, 422),
    "10,001 rows": (json.dumps([FLOWER] * 10_001).encode(), {}, 413),
    "1e400": (BODY.replace(b"2.3", b"1e400"), {}, 422),
    "NaN": (BODY.replace(b"2.3", b"NaN"), {}, 422),
    "true": (BODY.replace(b"2.3", b"true"), {}, 422),
    "number in quotes": (BODY.replace(b"2.3", b'"5.1"'), {}, 422),
    "unknown field": (json.dumps(FLOWER | {"colour": 1}).encode(), {}, 422),
    "deep nesting": (b"[" * 1_000_000, {}, 400),
    "invalid UTF-8": (b'{"\xff\xfe": 1}', {}, 400),
    "form": (b"sepal_length=1", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
    "wrong key": (BODY, {"X-API-Key": "wrong"}, 401),
}


@pytest.mark.parametrize(("body", "headers", "status"), REFUSED.values(), ids=REFUSED.keys())
def test_a_bad_request_is_a_documented_problem(
    http_server: Server, body: bytes, headers: dict[str, str], status: int
) -> None:
    """A plain client reads it, and the server still predicts after each."""
    result, fields, content = http_server.ask("POST", "/v1/predict", body, headers)
    assert result == status
    assert fields["Content-Type"] == PROBLEM
    assert json.loads(content)["status"] == status
    assert json.loads(content)["request_id"] == fields["X-Request-ID"]
    assert http_server.predicts()


CHUNKED = ("Transfer-Encoding: chunked",)


UNREADABLE: dict[str, tuple[Any, int]] = {
    "bad chunk size": (lambda s: head(s, *CHUNKED) + b"zz\r\n", 400),
    "bad chunk end": (lambda s: head(s, *CHUNKED) + b"1\r\n{xx\r\n0\r\n\r\n", 400),
    "bad trailer": (lambda s: head(s, *CHUNKED) + b"1\r\n{\r\n0\r\nbad\r\n\r\n", 400),
    "no request line": (lambda _: b"nonsense\r\n\r\n", 400),
    "bad method": (lambda s: head(s, request_line="P(ST /predict HTTP/1.1"), 400),
    "bad version": (lambda s: head(s, request_line="POST /predict HTTP/9.9"), 400),
    "bad header": (lambda s: head(s, "no colon here"), 400),
    "two lengths": (lambda s: head(s, "Content-Length: 1", "Content-Length: 2"), 400),
    "length and chunks": (lambda s: head(s, "Content-Length: 1", *CHUNKED), 400),
    "negative length": (lambda s: head(s, "Content-Length: -1"), 400),
    "long line": (lambda s: head(s, request_line=f"POST /{'a' * 9000} HTTP/1.1"), 414),
    "long header": (lambda s: head(s, f"X: {'a' * 9000}"), 431),
    "many headers": (lambda s: head(s, *[f"X-{i}: a" for i in range(200)]), 431),
    "unknown coding": (lambda s: head(s, "Transfer-Encoding: brotli"), 501),
}


@pytest.mark.parametrize(("request_of", "status"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_an_unreadable_request_is_refused(
    http_server: Server, request_of: Callable[[Server], bytes], status: int
) -> None:
    """It never reaches the application: the worker answers with a problem document."""
    response = exchange(http_server, request_of(http_server))
    head_of_response, _, body = response.partition(b"\r\n\r\n")
    assert head_of_response.startswith(f"HTTP/1.1 {status} ".encode())
    assert PROBLEM.encode() in head_of_response
    assert b"X-Request-ID" in head_of_response
    assert json.loads(body)["status"] == status
    assert http_server.predicts()


def test_many_clients_at_once_each_get_their_own_answer(http_server: Server) -> None:
    """Sixteen threads with different rows."""

    def predict(number: int) -> bool:
        row = dict.fromkeys(FLOWER, number % 11 + 0.0)
        status, _, body = http_server.ask("POST", "/predict", json.dumps(row).encode())
        return status == 200 and json.loads(body)["input"] == row

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(predict, range(400)))
