"""Heads of requests: broken lines, other protocols, odd targets and forged headers."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from iris_api.web.keys import digest_of
from tests.system.conftest import peak_mebibytes, wait_for

from .attacks import (
    ATTACKER_ROW,
    BODY,
    FORGED,
    KEY,
    LAST_CHUNK,
    NEXT_ROW,
    SMUGGLED,
    TRANSFER_ENCODING,
    chunk,
    chunked,
    length_then_chunks,
    request,
)
from .client import REFUSED, Neighbour, Route, parse_responses

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.system.conftest import Server

pytestmark = pytest.mark.system

PROTOCOLS = {
    "chunks": chunked(
        chunk(BODY) + LAST_CHUNK + SMUGGLED, request_line="POST /v1/predict HTTP/1.0"
    ),
    "chunks and a length": length_then_chunks(f"{TRANSFER_ENCODING}: chunked").replace(
        b"HTTP/1.1", b"HTTP/1.0", 1
    ),
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0",
    "HTTP/9.9": request(ATTACKER_ROW, request_line="POST /v1/predict HTTP/9.9"),
    "no version": b"GET /nowhere\r\n",
    "a version in small letters": request(ATTACKER_ROW, request_line="POST /v1/predict http/1.1"),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
    "PROXY": b"PROXY TCP4 198.51.100.66 127.0.0.1 1 80\r\n" + request(ATTACKER_ROW),
}


@pytest.mark.parametrize("sent", PROTOCOLS.values(), ids=PROTOCOLS.keys())
def test_other_protocols_are_refused(route: Route, sent: bytes) -> None:
    """They get one refusal, and nothing behind it is read."""
    stream = route.exchange(sent + request(NEXT_ROW, "Connection: close"))
    if stream.startswith(b"HTTP/"):  # An answer to HTTP/0.9 is a body alone.
        assert [response.status in REFUSED for response in parse_responses(stream)] == [True]
    assert b"prediction" not in stream
    route.neighbour_gets_answer()


HEADS = {
    "a long header": request(ATTACKER_ROW, "X: " + "a" * 9_000),
    "a longer header": request(ATTACKER_ROW, "X: " + "a" * 100_000),
    "a long name": request(ATTACKER_ROW, "X" * 40_000 + ": a"),
    "many headers": request(ATTACKER_ROW, *(f"X-{i}: a" for i in range(5_000))),
    "many long headers": request(ATTACKER_ROW, *(f"X-{i}: {'a' * 8_000}" for i in range(99))),
    "a long path": request(ATTACKER_ROW, request_line=f"POST /{'a' * 40_000} HTTP/1.1"),
    "a long query": request(ATTACKER_ROW, request_line=f"POST /v1/predict?{'a' * 40_000} HTTP/1.1"),
    "a long method": request(ATTACKER_ROW, request_line=f"{'A' * 40_000} / HTTP/1.1"),
    "a long version": request(
        ATTACKER_ROW, request_line=f"POST /v1/predict HTTP/1.1{'1' * 40_000}"
    ),
    "an endless request line": b"GET /" + b"a" * 8_000_000,
    "an endless header": b"GET / HTTP/1.1\r\nX: " + b"a" * 8_000_000,
    "endless headers": b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 1_500_000,
    "endless empty lines": b"\r\n" * 4_000_000,
    "endless NULs": b"\0" * 8_000_000,
}


@pytest.mark.parametrize("sent", HEADS.values(), ids=HEADS.keys())
def test_large_heads_are_refused(route: Route, sent: bytes) -> None:
    """A head above the bounds is refused or cut off, and memory stays flat."""
    before = peak_mebibytes(route.server)
    responses = route.attack(sent)
    lenient = not route.direct and b"X: " + b"a" * 9_000 + b"\r\n" in sent
    assert len(responses) <= 1 or lenient
    assert peak_mebibytes(route.server) - before < 20


LINES = {
    "no colon": "nonsense",
    "no name": ": a",
    "a space in the name": "X Y: a",
    "a bracket in the name": "X(Y): a",
    "a soft hyphen in the name": "Transfer\xad-Encoding: chunked",
    "a NUL in the value": "X: a\x00b",
    "a NUL in the name": "X\x00Y: a",
    "a NUL in the id": "X-Request-ID: a\x00b",
    "DEL": "X: \x7f",
    "escape": "X-Request-ID: \x1b[2J",
    "two hosts": "Host: evil.example",
    "folded": "X: a\r\n b",
    "bare CR": "X: a\rb",
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES.keys())
def test_a_broken_header_is_refused(route: Route, line: str) -> None:
    """Nginx drops some of these headers; none reaches the application."""
    responses = route.attack(request(ATTACKER_ROW, line))
    if route.direct:
        assert [response.status in REFUSED for response in responses] == [True]


@pytest.mark.parametrize(
    "line",
    [
        "X-Request-ID: \xff\xfe",
        "X-Request-ID: a b",
        "X-Request-ID: " + "a" * 129,
        "X-Request-Start: t=\xb2.000",
        "X-Forwarded-For: \xff, , 1.2.3, ::1%x",
        "X-Forwarded-For: " + "127.0.0.1," * 400,
        "X-Forwarded-Proto: \xff",
        "Accept: \xff\x80",
        "Cookie: \xff=\xff; session=x",
        "Range: bytes=9-0",
        "If-Modified-Since: Fri, 31 Dec 99999 23:59:59 GMT",
        "If-None-Match: \xff",
        "Traceparent: \xff",
        "Origin: \xff",
        "SCRIPT_NAME: /v1",
        "Content-MD5: \xff",
        "Expect: 100-continue",
    ],
)
def test_an_odd_header_value_changes_nothing(route: Route, line: str) -> None:
    """The answer is right, and its request id is printable."""
    responses = route.attack(request(ATTACKER_ROW, line))
    assert [response.row for response in responses] == [ATTACKER_ROW, NEXT_ROW]
    assert re.fullmatch(r"[!-~]{1,128}", responses[0].headers["x-request-id"])


TARGETS = [
    "http://evil.example/v1/predict",
    "http://user:secret@evil.example:99999/v1/predict",
    "HTTP://[::1]/v1/predict",
    "https://evil.example/v1/predict?a=http://b/",
    "http://evil.example",
    "http://evil.example?/v1/predict",
    "http://[::1/v1/predict",
    "http://[v1.x]/v1/predict",
    "http:///v1/predict",
    "file:///v1/predict",
    "//evil.example/v1/predict",
    "evil.example:80",
    "://",
    "*",
    "?",
    "#",
    "/v1/predict#fragment",
    "/v1/predict?\xff",
    "/v1/predict\x00",
    "/v1/predict%00",
    "/%00",
    "/static/%00",
    "/static/drift.js%00.html",
    "/static/..%2f..%2fwsgi.py",
    "/static/%2e%2e/%2e%2e/wsgi.py",
    "/static/....//app.py",
    "/static//etc/passwd",
    "/static/" + "a/" * 2000,
    "/static/" + "%f0%9f%8c%b8" * 100,
    "/\xff\xfe",
    "/\u00e9",
    "/caf\xc3\xa9",
    "/%ff%fe",
    "/%c0%af",
    "/%ed%a0%80",
    "/%",
    "/%zz",
    "/%e2%80%ae",
    "/%0d%0aX-Injected:%20yes",
    "/a\rb",
    "/a\tb",
    "/a\x7fb",
    "/" + "../" * 50 + "etc/passwd",
    "\\v1\\predict",
    "predict",
]


@pytest.mark.parametrize("request_target", TARGETS)
@pytest.mark.parametrize("method", ["POST", "GET", "OPTIONS", "CONNECT"])
def test_odd_targets_are_answered_or_refused(
    route: Route, method: str, request_target: str
) -> None:
    """Absolute forms, NULs and non-ASCII bytes get the right row or a 4xx, and never a file."""
    line = f"{method} {request_target} HTTP/1.1"
    for response in parse_responses(
        route.exchange(request(ATTACKER_ROW, "Connection: close", request_line=line))
    ):
        assert response.status in REFUSED | {200}, response
        assert "x-injected" not in response.headers
        if response.status == 200 and method == "POST":
            assert response.row == ATTACKER_ROW
        assert b"import" not in response.body
        assert b"root:" not in response.body
    route.neighbour_gets_answer()


@pytest.mark.parametrize(
    "path",
    [
        "/metrics",
        "//metrics",
        "/./metrics",
        "/x/../metrics",
        "/%6detrics",
        "/%2fmetrics",
        "/metrics?x",
        "/metrics#x",
        "/metrics/",
        "/metrics%2f",
        "/metrics%3f",
        "/metrics%23",
        "/metrics;x",
        "/metrics%20",
        "/metrics/.",
        "/health/../metrics",
        "/health/..%2fmetrics",
        "/METRICS",
        "http://x/metrics",
        "http://x//metrics",
        "http://metrics",
        "/x%2f..%2fmetrics",
        "/\\metrics",
    ],
)
def test_no_path_reaches_the_metrics_through_nginx(route: Route, path: str) -> None:
    """However nginx and the application read a path. Directly, the metrics need a key."""
    sent = request(b"", "Connection: close", request_line=f"GET {path} HTTP/1.1")
    if route.direct:
        sent = sent.replace(KEY.encode(), b"wrong")
    assert b"iris_requests" not in route.exchange(sent)


@pytest.fixture(scope="module")
def without_proxy(start: Callable[..., Server]) -> Server:
    """A server that does not trust clients on this machine."""
    entry = f"hostile:{digest_of(KEY)}"
    return start(IRIS_API_KEYS=entry, IRIS_TRUSTED_PROXIES="203.0.113.1", WEB_CONCURRENCY="1")


@pytest.mark.parametrize(
    "forged",
    [
        FORGED,
        ("X-Forwarded-For: 198.51.100.66", "X-Forwarded-For: 127.0.0.1", FORGED[1], FORGED[1]),
        ("X_Forwarded_For: 198.51.100.66", "X_Request_Start: t=1.000"),
        ("Forwarded: for=198.51.100.66", "X-Real-IP: 198.51.100.66", "X-Client-IP: 198.51.100.66"),
    ],
)
def test_forged_address_and_age_are_ignored(
    route: Route, without_proxy: Server, forged: tuple[str, ...]
) -> None:
    """Also in the second request of a pipeline."""
    server = without_proxy if route.direct else route.server
    to_server = Route(server, server.port) if route.direct else route
    number = next(Neighbour.numbers)
    ids = [f"X-Request-ID: trust-{number}-{i}" for i in range(2)]
    sent = request(ATTACKER_ROW, ids[0], *forged) + request(
        NEXT_ROW, ids[1], *forged, "Connection: close"
    )
    assert [response.row for response in parse_responses(to_server.exchange(sent))] == [
        ATTACKER_ROW,
        NEXT_ROW,
    ]
    lines = wait_for(
        lambda: [line for line in server.log_text.splitlines() if f'"trust-{number}-' in line][1:],
        "line in the log",
    )
    assert json.loads(lines[0])["client"] == "127.0.0.1"
    assert json.loads(lines[0])["queue_ms"] < 1000
    assert "198.51.100.66" not in server.log_text
