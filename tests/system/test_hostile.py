"""Hostile input on raw sockets, straight to Gunicorn and through nginx.

Each attack comes with a good request behind it on the same connection, and with neighbours on
others. `docs/security.md` says what this is for.
"""

from __future__ import annotations

import http.client
import itertools
import json
import logging
import random
import re
import socket
import string
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pytest

from iris_api import create_app
from iris_api.server.worker import EventLoopWorker
from iris_api.settings import Settings
from iris_api.web.keys import KeyRing, digest_of, new_key

from .conftest import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from .conftest import Server

pytestmark = pytest.mark.system

logger = logging.getLogger(__name__)

Row = dict[str, float]

KEY = new_key()
NAMES = ("sepal_length", "sepal_width", "petal_length", "petal_width")
OUTER: Row = dict(zip(NAMES, (5.1, 3.5, 1.4, 0.2), strict=True))
INNER: Row = dict(zip(NAMES, (6.0, 2.9, 4.5, 1.5), strict=True))
NEXT: Row = dict(zip(NAMES, (6.7, 3.0, 5.2, 2.3), strict=True))
LABELS = {5.1: "setosa", 6.0: "versicolor", 6.7: "virginica"}
"""Of the rows above, by their first number."""
MARK = "smuggled"
"""Request id of the inner request: it is in the log if that was ever answered."""
REFUSED = {*range(400, 500), 501, 505}
"""RFC 9110 asks for the last two: a transfer coding, or a version, that is not known."""
QUIET = 2.0
"""Seconds without an answer after which a client says that it will send no more."""
HANG = 8.0
"""Seconds until an answer that has not come is a hang."""


def post(
    body: Row | bytes, *lines: str, request: str = "POST /v1/predict HTTP/1.1", framed: bool = True
) -> bytes:
    """A request with the key; unless it is framed by its own lines, by a Content-Length."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    if framed:
        lines = (f"Content-Length: {len(content)}", *lines)
    usual = ("Host: iris", f"X-API-Key: {KEY}", "Content-Type: application/json")
    return "\r\n".join([request, *usual, *lines, "", ""]).encode("latin-1") + content


FORGED = ("X-Forwarded-For: 198.51.100.66", "X-Request-Start: t=1.000")
SMUGGLED = post(INNER, f"X-Request-ID: {MARK}", *FORGED)
GOOD = json.dumps(OUTER).encode()


@dataclass(frozen=True)
class Answer:
    """One response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def row(self) -> Any:
        """The row that was predicted, after its class was found right."""
        document = json.loads(self.body)
        assert document["prediction"] == LABELS.get(document["input"]["sepal_length"], "virginica")
        return document["input"]


@dataclass
class Way:
    """How the service is reached."""

    server: Server
    port: int

    @property
    def straight(self) -> bool:
        return self.port == self.server.port

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=HANG)

    def talk(self, *parts: bytes) -> bytes:
        """All that comes back until the other side closes, which it must do in time."""
        deadline = time.monotonic() + HANG
        received, told = b"", False
        with self.connect() as connection, suppress(ConnectionError):
            with suppress(ConnectionError):
                for part in parts:
                    connection.sendall(part)
            connection.settimeout(QUIET)
            while time.monotonic() < deadline:
                try:
                    piece = connection.recv(65536)
                except TimeoutError:
                    if not told:
                        connection.shutdown(socket.SHUT_WR)
                    told = True
                    continue
                if not piece:
                    return received
                received += piece
            pytest.fail(f"a hang after {parts[0][:200]!r}: {received[:500]!r}")
        return received

    def attack(self, *parts: bytes) -> list[Answer]:
        """Send something with a good request behind it; all that is answered is answered right."""
        before = len(self.server.log_text)
        with Neighbour(self.port) as neighbour:
            neighbour.asks()
            got = list(answers(self.talk(*parts, post(NEXT, "Connection: close"))))
            neighbour.asks()
        self.neighbour_asks()
        good = [answer.row for answer in got if answer.status == 200]
        assert good in ([], [OUTER], [NEXT], [OUTER, NEXT]), got
        assert all(answer.status in REFUSED | {200} for answer in got), got
        assert MARK not in self.server.log_text[before:]
        return got

    def neighbour_asks(self) -> float:
        """Someone else gets the right answer on a new connection; and after how many seconds."""
        with Neighbour(self.port) as neighbour:
            return neighbour.asks()


class Neighbour:
    """Another client, with rows of its own, on a connection of its own."""

    numbers = itertools.count()

    def __init__(self, port: int, patience: float = HANG) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def asks(self) -> float:
        """Gets the answer to its own row; and after how many seconds."""
        number = next(self.numbers)
        row = NEXT | {"sepal_length": 6.8 + number % 1000 / 10_000, "sepal_width": 3.0}
        headers = {
            "X-API-Key": KEY,
            "Content-Type": "application/json",
            "X-Request-ID": f"n{number}",
        }
        began = time.perf_counter()
        self._connection.request("POST", "/v1/predict", json.dumps(row), headers)
        response = self._connection.getresponse()
        body = response.read()
        seconds = time.perf_counter() - began
        assert Answer(response.status, {}, body).row == row
        assert response.headers["X-Request-ID"] == f"n{number}"
        return seconds


def answers(stream: bytes, heads: Iterable[int] = ()) -> Iterator[Answer]:
    """The responses in what was received, each of them whole; `heads` have no body."""
    bodiless, number = set(heads), 0
    while stream:
        head, end, stream = stream.partition(b"\r\n\r\n")
        assert end, head
        first, *lines = head.decode("latin-1").split("\r\n")
        assert first.startswith("HTTP/1."), first
        headers = {n.lower(): v for n, _, v in (line.partition(": ") for line in lines)}
        length = 0 if number in bodiless else int(headers.get("content-length", 0))
        assert len(stream) >= length
        status = int(first.split()[1])
        if status >= 200:
            yield Answer(status, headers, stream[:length])
            number += 1
        stream = stream[length:]


@pytest.fixture(scope="module")
def target(start: Callable[..., Server]) -> Server:
    """A server that is attacked."""
    return replace(start(IRIS_API_KEYS=f"hostile:{digest_of(KEY)}"), key=KEY)


@pytest.fixture(scope="module", params=["straight", "nginx"])
def way(request: pytest.FixtureRequest, target: Server) -> Way:
    """The ways to it."""
    if request.param == "straight":
        return Way(target, target.port)
    url: str = request.getfixturevalue("nginx")(target.port)
    return Way(target, int(url.rpartition(":")[2]))


@pytest.fixture(autouse=True)
def _nothing_broke(target: Server) -> Iterator[None]:
    """No attack is our fault, and none costs a worker."""
    workers, before = target.workers(), len(target.log_text)
    yield
    said = target.log_text[before:]
    assert not re.search(r'Traceback|"level":"error"|"status":500|Error handling', said), said
    assert target.workers() == workers


def cl_te(*lines: str) -> bytes:
    """Hidden from who believes the length, and a request to who believes the chunks."""
    return post(b"0\r\n\r\n" + SMUGGLED, *lines)


def te_cl(*lines: str) -> bytes:
    """Hidden from who believes the chunks, and a request to who believes the length."""
    size = f"{len(SMUGGLED):x}\r\n".encode()
    body = size + SMUGGLED + b"\r\n0\r\n\r\n"
    return post(body, f"Content-Length: {len(size)}", *lines, framed=False)


TE = "Transfer-Encoding"
OBFUSCATED = {
    "plain": f"{TE}: chunked",
    "in capitals": "TRANSFER-ENCODING: CHUNKED",
    "without a space": f"{TE}:chunked",
    "a tab": f"{TE}:\tchunked",
    "twice": f"{TE}: chunked\r\n{TE}: chunked",
    "twice in one": f"{TE}: chunked, chunked",
    "twice, one wrong": f"{TE}: chunked\r\n{TE}: cow",
    "identity": f"{TE}: identity",
    "chunked, identity": f"{TE}: chunked, identity",
    "identity, chunked": f"{TE}: identity, chunked",
    "gzip, chunked": f"{TE}: gzip, chunked",
    "nothing": f"{TE}:",
    "nothing, chunked": f"{TE}: , chunked",
    "almost": f"{TE}: xchunked",
    "with a parameter": f"{TE}: chunked;q=1",
    "in quotes": f'{TE}: "chunked"',
    "a vertical tab": f"{TE}:\x0bchunked",
    "a NUL": f"{TE}: chunked\x00",
    "a NUL in the name": f"{TE}\x00: chunked",
    "a space behind the name": f"{TE} : chunked",
    "a space before the name": f" {TE}: chunked",
    "folded": f"{TE}:\r\n chunked",
    "folded behind another": f"X: y\r\n {TE}: chunked",
    "behind a bare LF": f"X: y\n{TE}: chunked",
    "behind a bare CR": f"X: y\r{TE}: chunked",
    "two CRs": f"{TE}: chunked\r",
}


@pytest.mark.parametrize("shape", [cl_te, te_cl])
@pytest.mark.parametrize("line", OBFUSCATED.values(), ids=OBFUSCATED.keys())
def test_two_lengths_are_refused_whole(way: Way, line: str, shape: Callable[[str], bytes]) -> None:
    """CL.TE, TE.CL and TE.TE: one refusal, then a close; what is inside is nobody's request."""
    got = way.attack(shape(line))
    assert [answer.status in REFUSED for answer in got] == [True]


SIZE = len(SMUGGLED)
LENGTHS = {
    "twice": f"Content-Length: {SIZE}\r\nContent-Length: {SIZE}",
    "two": f"Content-Length: 0\r\nContent-Length: {SIZE}",
    "two, the other way round": f"Content-Length: {SIZE}\r\nContent-Length: 0",
    "a list": f"Content-Length: {SIZE}, {SIZE}",
    "a list of two": f"Content-Length: 0,{SIZE}",
    "plus": f"Content-Length: +{SIZE}",
    "minus": f"Content-Length: -{SIZE}",
    "underscore": f"Content-Length: {str(SIZE)[0]}_{str(SIZE)[1:]}",
    "a space inside": f"Content-Length: 0 {SIZE}",
    "hexadecimal": f"Content-Length: {SIZE:#x}",
    "a fraction": f"Content-Length: {SIZE}.0",
    "an exponent": "Content-Length: 1e3",
    "nothing": "Content-Length:",
    "superscript": "Content-Length: 0\xb2",
    "a vertical tab": f"Content-Length: \x0b{SIZE}",
    "a NUL": f"Content-Length: {SIZE}\x00",
    "huge": "Content-Length: 18446744073709551616",
    "5,000 digits": f"Content-Length: {'9' * 5000}",
    "a space behind the name": f"Content-Length : {SIZE}",
    "folded": f"Content-Length:\r\n {SIZE}",
    "behind a bare CR": f"X: y\rContent-Length: {SIZE}",
}


@pytest.mark.parametrize("line", LENGTHS.values(), ids=LENGTHS.keys())
def test_a_length_that_is_no_plain_number_is_refused(way: Way, line: str) -> None:
    """Whichever way someone else would read it, nothing behind it is taken for a request."""
    got = way.attack(post(SMUGGLED, line, framed=False))
    assert [answer.status in REFUSED for answer in got] == [True]


def test_a_line_ends_with_both_or_is_refused_as_a_whole(way: Way) -> None:
    """Gunicorn takes no bare LF; nginx does, and says so to Gunicorn by CRLF."""
    for lines in ("X: y\nX: z", f"X: y\nX-Request-ID: {'a' * 5}"):
        got = way.attack(post(OUTER, lines))
        assert [answer.status for answer in got] == ([400] if way.straight else [200, 200])
    got = way.attack(post(OUTER).replace(b"\r\n", b"\n"))
    assert [answer.status for answer in got] == ([400] if way.straight else [200, 200])


def chunked(body: bytes, *lines: str, request: str = "POST /v1/predict HTTP/1.1") -> bytes:
    """A request with a body that is framed by itself."""
    return post(body, f"{TE}: chunked", *lines, request=request, framed=False)


def chunk(content: bytes, size: str | None = None, end: bytes = b"\r\n") -> bytes:
    """A piece of a body."""
    return (size or f"{len(content):x}").encode("latin-1") + b"\r\n" + content + end


LAST = b"0\r\n\r\n"
N = f"{len(GOOD):x}"
CHUNKS = {
    "no number": chunk(GOOD, "zz"),
    "no size": b"\r\n" + GOOD + b"\r\n" + LAST + SMUGGLED,
    "plus": chunk(GOOD, f"+{N}") + LAST + SMUGGLED,
    "minus": chunk(GOOD, "-1") + LAST + SMUGGLED,
    "0x": chunk(GOOD, f"0x{N}") + LAST + SMUGGLED,
    "underscore": chunk(GOOD, f"{N[0]}_{N[1:]}") + LAST + SMUGGLED,
    "a space before": chunk(GOOD, f" {N}") + LAST + SMUGGLED,
    "a letter behind": chunk(GOOD, f"{N}g") + LAST + SMUGGLED,
    "wraps at 64 bits": chunk(GOOD, f"1{int(N, 16):016x}") + LAST + SMUGGLED,
    "almost 64 bits": chunk(GOOD, "f" * 16) + LAST + SMUGGLED,
    "17 digits": chunk(GOOD, "f" * 17) + LAST + SMUGGLED,
    "1,000 digits": chunk(GOOD, "f" * 1000) + LAST + SMUGGLED,
    "too short": chunk(GOOD, "5") + LAST + SMUGGLED,
    "too long": chunk(GOOD, f"{len(GOOD) + 4:x}") + LAST + SMUGGLED,
    "no end": chunk(GOOD, end=b"") + LAST + SMUGGLED,
    "another end": chunk(GOOD, end=b"XX") + LAST + SMUGGLED,
    "LF at the end": chunk(GOOD, end=b"\n") + LAST,
    "bare CR in an extension": chunk(GOOD, f"{N};a\rb") + LAST + SMUGGLED,
    "bare LF in an extension": chunk(b"", f"2;a\nxx\r\n{len(SMUGGLED):x}") + SMUGGLED + LAST,
    "a NUL in an extension": chunk(GOOD, f"{N};a=\x00") + LAST,
    "an endless extension": chunk(GOOD, f"{N};" + "a" * 100_000) + LAST,
    "an endless size": chunk(GOOD, "0" * 100_000 + N) + LAST,
    "a length in the trailer": chunk(GOOD) + b"0\r\nContent-Length: 5\r\n\r\n",
    "a trailer that is none": chunk(GOOD) + b"0\r\nnonsense\r\n\r\n",
    "a folded trailer": chunk(GOOD) + b"0\r\nX: y\r\n z\r\n\r\n",
    "LF in the trailer": chunk(GOOD) + b"0\r\nX: y\n\r\n\r\n",
    "an endless trailer": chunk(GOOD) + b"0\r\nX: " + b"a" * 2_000_000,
    "ten thousand trailers": chunk(GOOD) + b"0\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
    "it stops": chunk(GOOD)[:-9],
}


@pytest.mark.parametrize("body", CHUNKS.values(), ids=CHUNKS.keys())
def test_bad_chunks_are_refused(way: Way, body: bytes) -> None:
    """Nginx is more lenient in a few; then it hands on one plain body, and the answer is right."""
    got = way.attack(chunked(body))
    if way.straight:
        assert [answer.status in REFUSED for answer in got] == [True]


LEGAL: dict[str, tuple[bytes, int]] = {
    "two chunks": (chunked(chunk(GOOD[:9]) + chunk(GOOD[9:]) + LAST), 200),
    "a chunk for each byte": (chunked(b"".join(chunk(bytes([c])) for c in GOOD) + LAST), 200),
    "extensions": (chunked(chunk(GOOD, f'{N};a;b=c;d="e;\\"f"') + LAST), 200),
    "capitals": (chunked(chunk(GOOD, N.upper()) + LAST), 200),
    "leading zeros": (chunked(chunk(GOOD, f"0000{N}") + LAST), 200),
    "a trailer with a key and an id": (
        chunked(chunk(GOOD) + f"0\r\nX-API-Key: x\r\nX-Request-ID: {MARK}\r\n\r\n".encode()),
        200,
    ),
    "a space behind the length": (
        post(GOOD, f"Content-Length: {len(GOOD)} ", framed=False),
        200,
    ),
    "headers with underscores": (
        cl_te("Transfer_Encoding: chunked", "Content_Length: 5", "X_API_Key: x"),
        400,
    ),
    "an upgrade": (post(OUTER, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c"), 200),
    "hop by hop": (post(OUTER, "Connection: X-API-Key, Content-Length, X-Forwarded-For"), 200),
    "no JSON": (post(SMUGGLED), 400),
    "no JSON, in chunks": (chunked(chunk(SMUGGLED) + LAST), 400),
    "a wrong key": (post(SMUGGLED).replace(KEY.encode(), b"x" * len(KEY), 1), 401),
    "a wrong key, in chunks": (
        chunked(chunk(SMUGGLED) + LAST).replace(KEY.encode(), b"x" * len(KEY), 1),
        401,
    ),
    "a wrong path": (post(SMUGGLED, request="POST /nowhere HTTP/1.1"), 404),
    "a wrong path, in chunks": (
        chunked(chunk(SMUGGLED) + LAST, request="POST /nowhere HTTP/1.1"),
        404,
    ),
    "a wrong method": (post(SMUGGLED, request="DELETE /v1/predict HTTP/1.1"), 405),
    "GET with a body": (post(SMUGGLED, request="GET /v1/predict HTTP/1.1"), 405),
    "GET with chunks": (chunked(chunk(SMUGGLED) + LAST, request="GET /nowhere HTTP/1.1"), 404),
    "a coded body": (post(SMUGGLED, "Content-Encoding: gzip"), 415),
}


@pytest.mark.parametrize(("sent", "status"), LEGAL.values(), ids=LEGAL.keys())
def test_what_is_in_a_body_is_no_request(way: Way, sent: bytes, status: int) -> None:
    """Read or refused unread, a well-framed body ends where it says: the next request is heard."""
    got = way.attack(sent)
    assert [answer.status for answer in got] == [status, 200]
    assert got[-1].row == NEXT


OLD = {
    "chunks": chunked(chunk(GOOD) + LAST + SMUGGLED, request="POST /v1/predict HTTP/1.0"),
    "chunks and a length": cl_te(f"{TE}: chunked").replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0",
    "HTTP/9.9": post(OUTER, request="POST /v1/predict HTTP/9.9"),
    "no version": b"GET /nowhere\r\n",
    "a version in small letters": post(OUTER, request="POST /v1/predict http/1.1"),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
    "PROXY": b"PROXY TCP4 198.51.100.66 127.0.0.1 1 80\r\n" + post(OUTER),
}


@pytest.mark.parametrize("sent", OLD.values(), ids=OLD.keys())
def test_other_protocols_are_refused(way: Way, sent: bytes) -> None:
    """One refusal, and nothing behind it is read."""
    stream = way.talk(sent + post(NEXT, "Connection: close"))
    if stream.startswith(b"HTTP/"):  # An answer to HTTP/0.9 is a body alone.
        assert [answer.status in REFUSED for answer in answers(stream)] == [True]
    assert b"prediction" not in stream
    way.neighbour_asks()


HEADS = {
    "a long header": post(OUTER, "X: " + "a" * 9_000),
    "a longer header": post(OUTER, "X: " + "a" * 100_000),
    "a long name": post(OUTER, "X" * 40_000 + ": a"),
    "many headers": post(OUTER, *(f"X-{i}: a" for i in range(5_000))),
    "many long headers": post(OUTER, *(f"X-{i}: {'a' * 8_000}" for i in range(99))),
    "a long path": post(OUTER, request=f"POST /{'a' * 40_000} HTTP/1.1"),
    "a long query": post(OUTER, request=f"POST /v1/predict?{'a' * 40_000} HTTP/1.1"),
    "a long method": post(OUTER, request=f"{'A' * 40_000} / HTTP/1.1"),
    "a long version": post(OUTER, request=f"POST /v1/predict HTTP/1.1{'1' * 40_000}"),
    "an endless request line": b"GET /" + b"a" * 8_000_000,
    "an endless header": b"GET / HTTP/1.1\r\nX: " + b"a" * 8_000_000,
    "endless headers": b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 1_500_000,
    "endless empty lines": b"\r\n" * 4_000_000,
    "endless NULs": b"\0" * 8_000_000,
}


@pytest.mark.parametrize("sent", HEADS.values(), ids=HEADS.keys())
def test_a_head_has_its_bounds(way: Way, sent: bytes) -> None:
    """What is larger is refused or cut off, and not collected until it ends."""
    before = peak_mebibytes(way.server)
    got = way.attack(sent)
    lenient = not way.straight and b"X: " + b"a" * 9_000 + b"\r\n" in sent
    assert len(got) <= 1 or lenient
    assert peak_mebibytes(way.server) - before < 20


def peak_mebibytes(server: Server) -> int:
    """Largest resident size that any worker ever had."""
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in server.workers()]
    return max(int(text.split("VmHWM:")[1].split()[0]) for text in texts) // 1024


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
def test_a_broken_header_is_refused(way: Way, line: str) -> None:
    """Nginx drops some that it can't read; none reaches the application."""
    got = way.attack(post(OUTER, line))
    if way.straight:
        assert [answer.status in REFUSED for answer in got] == [True]


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
def test_an_odd_value_is_just_a_value(way: Way, line: str) -> None:
    """The request is answered rightly, and the id in the answer is a sane one."""
    got = way.attack(post(OUTER, line))
    assert [answer.row for answer in got] == [OUTER, NEXT]
    assert re.fullmatch(r"[!-~]{1,128}", got[0].headers["x-request-id"])


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


@pytest.mark.parametrize("target_form", TARGETS)
@pytest.mark.parametrize("method", ["POST", "GET", "OPTIONS", "CONNECT"])
def test_odd_targets_are_answered_or_refused(way: Way, method: str, target_form: str) -> None:
    """Absolute forms, NULs and bytes beyond ASCII: the right row, or a 4xx, and no file."""
    request = f"{method} {target_form} HTTP/1.1"
    for answer in answers(way.talk(post(OUTER, "Connection: close", request=request))):
        assert answer.status in REFUSED | {200}, answer
        assert "x-injected" not in answer.headers
        if answer.status == 200 and method == "POST":
            assert answer.row == OUTER
        assert b"import" not in answer.body
        assert b"root:" not in answer.body
    way.neighbour_asks()


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
def test_nothing_leads_around_nginx_to_the_metrics(way: Way, path: str) -> None:
    """Whatever nginx and the application each make of a path. Straight, it takes a key."""
    sent = post(b"", "Connection: close", request=f"GET {path} HTTP/1.1")
    if way.straight:
        sent = sent.replace(KEY.encode(), b"wrong")
    assert b"iris_requests" not in way.talk(sent)


@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_a_pipeline_is_answered_in_its_order(way: Way, step: int) -> None:
    """Good and bad, with and without bodies, and however it is cut: each answer is its own."""
    rows = [OUTER | {"petal_width": i / 100} for i in range(10)]
    sent, statuses = b"", []
    for number, row in enumerate(rows):
        sent += post(row, f"X-Request-ID: p{number}")
        sent += post(b"", request="HEAD /health HTTP/1.1", framed=False)
        sent += post(b"{", "X-Request-ID: bad")
        sent += chunked(chunk(json.dumps(row).encode()) + LAST)
        sent += post(b"", request="GET /nowhere HTTP/1.1", framed=False)
        statuses += [200, 200, 400, 200, 404]
    sent += post(NEXT, "Connection: close")
    stream = way.talk(*(sent[i : i + step] for i in range(0, len(sent), step)))
    got = list(answers(stream, heads=range(1, 50, 5)))
    assert [answer.status for answer in got] == [*statuses, 200]
    assert [answer.row for answer in got[0:50:5]] == rows
    assert [answer.row for answer in got[3:50:5]] == rows
    assert [answer.headers["x-request-id"] for answer in got[0:50:5]] == [
        f"p{i}" for i in range(10)
    ]


PHASES = {
    "nothing": b"",
    "a word": b"POST",
    "half a head": post(OUTER)[:60],
    "a head": post(OUTER)[: -len(GOOD)],
    "half a body": post(OUTER)[:-9],
    "half a chunk": chunked(chunk(GOOD))[:-9],
    "no last chunk": chunked(chunk(GOOD)),
    "half a large body": post(b" " * 1_000_000)[:500_000],
    "told to go on": post(OUTER, "Expect: 100-continue")[: -len(GOOD)],
    "a request": post(OUTER),
    "a large answer": post(json.dumps([OUTER] * 10_000).encode()),
    "a request and a half": post(OUTER) + post(NEXT)[:60],
    "a hundred requests": post(OUTER) * 100,
}


@pytest.mark.parametrize("how", ["close", "reset", "half"])
@pytest.mark.parametrize("sent", PHASES.values(), ids=PHASES.keys())
def test_a_client_may_leave_in_any_phase(
    way: Way, sent: bytes, how: Literal["close", "reset", "half"]
) -> None:
    """With a FIN, with a RST, or half: several at once, and the neighbours notice nothing."""
    gone = [way.connect() for _ in range(6)]
    for connection in gone:
        with suppress(ConnectionError):
            connection.sendall(sent)
        if how == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if how == "half":
            with suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
        else:
            connection.close()
    for _ in range(3):
        way.neighbour_asks()
    for connection in gone:
        if how == "half":
            closes_in_time(connection, HANG)


def closes_in_time(connection: socket.socket, seconds: float) -> list[Answer]:
    """What the other side says before it closes."""
    connection.settimeout(seconds)
    received = b""
    with connection, suppress(ConnectionError):
        while piece := connection.recv(1_000_000):
            received += piece
    found = list(answers(received))
    assert all(answer.status in REFUSED | {200} for answer in found)
    return found


def test_whoever_stops_in_a_phase_is_let_go(target: Server, nginx: Callable[..., str]) -> None:
    """Open and silent for good: closed by both ways in time, and nobody waits meanwhile."""
    ways = [Way(target, port) for port in (target.port, int(nginx(target.port).rpartition(":")[2]))]
    stopped, began = [], time.monotonic()
    for way in ways:
        for name in ("a word", "half a head", "half a body", "half a chunk", "half a large body"):
            stopped.append(way.connect())
            stopped[-1].sendall(PHASES[name])
    while time.monotonic() - began < EventLoopWorker.read_timeout / 2:
        for way in ways:
            assert way.neighbour_asks() < 3
        time.sleep(0.1)
    for connection in stopped:
        left = began + EventLoopWorker.read_timeout + 4 - time.monotonic()
        assert all(answer.status in REFUSED for answer in closes_in_time(connection, left))


@pytest.mark.parametrize("rest", [b"G", b"\r\n"])
def test_a_request_that_begins_behind_another_holds_nobody_up(target: Server, rest: bytes) -> None:
    """A few bytes behind a good request are waited for without a thread, as all others are."""
    way = Way(target, target.port)
    begun = [way.connect() for _ in range(24)]
    for connection in begun:
        connection.sendall(post(OUTER) + rest)
    time.sleep(0.3)
    try:
        for _ in range(6):
            with Neighbour(way.port, patience=2) as neighbour:
                neighbour.asks()
    finally:
        for connection in begun:
            connection.close()
        wait_for(lambda: way.neighbour_asks() < 1, "the threads")


def test_a_body_that_trickles_behind_a_probe_keeps_no_probe_waiting(target: Server) -> None:
    """Nobody wants it: it is not waited for, however steadily it comes."""
    way, done = Way(target, target.port), threading.Event()
    dripping = [way.connect() for _ in range(8)]
    for connection in dripping:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")

    def drip() -> None:
        while not done.wait(0.003):
            for connection in dripping:
                with suppress(OSError):
                    connection.send(b"x")

    with ThreadPoolExecutor(1) as pool:
        pool.submit(drip)
        time.sleep(0.3)
        try:
            for _ in range(6):
                with way.connect() as probe:
                    probe.settimeout(2)
                    probe.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                    assert probe.recv(100).startswith(b"HTTP/1.1 200")
        finally:
            done.set()
            for connection in dripping:
                connection.close()


def test_neighbours_get_their_own_answers_while_all_this_goes_on(way: Way) -> None:
    """Every attack of this file in random order on four connections, and four others at work."""
    attacks = [shape(line) for line in OBFUSCATED.values() for shape in (cl_te, te_cl)]
    attacks += [post(SMUGGLED, line, framed=False) for line in LENGTHS.values()]
    attacks += [chunked(body) for name, body in CHUNKS.items() if "endless" not in name]
    attacks += [sent for sent, _ in LEGAL.values()]
    random.Random(1).shuffle(attacks)

    def attack(sent: bytes) -> None:
        with way.connect() as connection, suppress(OSError):
            connection.sendall(sent)
            connection.settimeout(0.01)
            connection.recv(65536)

    def ask(_: int) -> None:
        with Neighbour(way.port) as neighbour:
            for _ in range(50):
                neighbour.asks()

    with ThreadPoolExecutor(4) as attackers, ThreadPoolExecutor(4) as neighbours:
        attacking = attackers.map(attack, attacks)
        list(neighbours.map(ask, range(8)))
        list(attacking)
    assert MARK not in way.server.log_text


@pytest.fixture(scope="module")
def trusts_nobody(start: Callable[..., Server]) -> Server:
    """A server for which a client on this machine is a stranger."""
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
def test_what_a_client_says_of_itself_is_not_believed(
    way: Way, trusts_nobody: Server, forged: tuple[str, ...]
) -> None:
    """Neither its address nor its age, also in the second request of a pipeline."""
    server = trusts_nobody if way.straight else way.server
    reached = Way(server, server.port) if way.straight else way
    number = next(Neighbour.numbers)
    ids = [f"X-Request-ID: trust-{number}-{i}" for i in range(2)]
    sent = post(OUTER, ids[0], *forged) + post(NEXT, ids[1], *forged, "Connection: close")
    assert [answer.row for answer in answers(reached.talk(sent))] == [OUTER, NEXT]
    lines = wait_for(
        lambda: [line for line in server.log_text.splitlines() if f'"trust-{number}-' in line][1:],
        "its line in the log",
    )
    assert json.loads(lines[0])["client"] == "127.0.0.1"
    assert json.loads(lines[0])["queue_ms"] < 1000
    assert "198.51.100.66" not in server.log_text


ALPHABET = string.ascii_letters + string.digits + "-_"
SHARED = 40
"""Characters that a near key has in common with the valid one, of its 48."""
ALARM = 5.0
"""Standard deviations: by chance in one run of 1.7 million, and no run is repeated."""
SURE = 0.99


def wrong(shared: int) -> str:
    """A wrong key that has this many characters in common with the valid one, and no more."""
    drawn = random.choices(ALPHABET, k=len(KEY))
    other = random.choice(ALPHABET.replace(KEY[shared], ""))
    return KEY[:shared] + "".join([other, *drawn[shared + 1 :]])


def differences(ask: Callable[[str], object], pairs: int, clock: Callable[[], int]) -> NDArray[Any]:
    """Nanoseconds that a near key took longer than a far one, asked right after one another.

    Which is made and asked first is drawn, so that without a leak each sign is a coin's, however
    noisy the machine is.
    """
    found = np.empty(pairs)
    for i in range(pairs):
        sign = random.choice((1, -1))
        first, second = (wrong(SHARED if sign * order > 0 else 0) for order in (1, -1))
        began = clock()
        ask(first)
        between = clock()
        ask(second)
        found[i] = sign * (2 * between - began - clock())
    return found


def score(found: NDArray[Any], tolerated: float) -> float:
    """Standard deviations of coins by which near keys take longer, or shorter, than is tolerated.

    Wilcoxon's signed-rank statistic. What is tolerated is less than a leak that could be used: a
    few ns may also come from where the two strings lie in memory.
    """
    nearer = np.sign(np.median(found)) * found - tolerated
    ranks = np.argsort(np.argsort(np.abs(nearer))) + 1.0
    return float((np.sign(nearer) * ranks).sum() / np.sqrt((ranks**2).sum()))


def would_find(leak: float, found: NDArray[Any], tolerated: float) -> bool:
    """Whether this leak, in ns, would be found under this very noise in 99 runs of 100.

    By trying: the noise drawn again, with signs by coins, and the leak put on top.
    """
    coins, noise = np.random.default_rng(1), found - np.median(found)
    scores = [
        score(coins.choice(noise, len(found)) * coins.choice([-1, 1], len(found)) + leak, tolerated)
        for _ in range(100)
    ]
    return float(np.mean(np.array(scores) > ALARM)) >= SURE


def measured(
    ask: Callable[[str], object],
    pairs: int,
    limit: float,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> float:
    """The score, after as many pairs as it takes to find a leak of the limit, in ns.

    A fifth of it is tolerated. When to stop depends on how much the differences spread and not on
    where they lie, so that it makes no false alarm more likely.
    """
    found = differences(ask, pairs, clock)
    while not (enough := would_find(limit, found, limit / 5)) and len(found) < 32 * pairs:
        found = np.append(found, differences(ask, len(found), clock))
    assert enough, "this machine is too noisy to tell"
    steps = limit * np.arange(0.25, 1.01, 0.05)
    least = next(leak for leak in steps if would_find(leak, found, limit / 5))
    median, result = float(np.median(found)), score(found, limit / 5)
    figures = (len(found), median, result, least)
    logger.info("%d pairs, median %.0f ns, score %.1f, would find %.0f ns", *figures)
    return result


class Leaky(KeyRing):
    """Compares a key with the valid one from its start, and stops at the first difference."""

    rounds = 1
    """How often, to make the leak larger."""

    def name_of(self, key: str) -> str | None:
        """Found by comparison."""
        for _ in range(self.rounds):
            for ours, theirs in zip(KEY, key, strict=False):
                if ours != theirs:
                    break
            else:
                return "hostile"
        return None


@pytest.mark.parametrize("kind", [KeyRing, Leaky])
def test_looking_up_a_key_takes_no_longer_for_a_shared_prefix(kind: type[KeyRing]) -> None:
    """A leak of 100 ns would be found in 99 runs of 100, and one as in a naive loop is found.

    That of `==` on two strings is about 10 ns and would not be. What rules it out is the digest:
    who does not know the valid one can't come any nearer to it.
    """
    ring = kind(f"hostile:{digest_of(KEY)}", None)
    assert (ring.name_of(KEY), ring.name_of(wrong(SHARED))) == ("hostile", None)
    assert (measured(ring.name_of, 4000, limit=100) > ALARM) == (kind is Leaky)


@pytest.mark.parametrize("kind", [KeyRing, Leaky])
def test_a_request_takes_no_longer_for_a_shared_prefix(trained: Path, kind: type[KeyRing]) -> None:
    """The whole of it in process: 20 microseconds of CPU would be found, and a loop's are."""
    app = create_app(Settings(model_dir=trained, api_keys=f"hostile:{digest_of(KEY)}"))
    ring = app.extensions["iris_api"].keys = kind(f"hostile:{digest_of(KEY)}", None)
    if isinstance(ring, Leaky):
        ring.rounds = 40
    client = app.test_client()

    def ask(key: str) -> None:
        assert client.get("/v1/model", headers={"X-API-Key": key}).status_code == 401

    assert (measured(ask, 800, limit=20_000, clock=time.thread_time_ns) > ALARM) == (kind is Leaky)


FLOOD = 10_000
ROUNDS = 5
PIPELINED = 25


def flood(way: Way, batches: list[bytes], status: int) -> None:
    """Requests on one connection that are all answered so."""
    with way.connect() as connection:
        for sent in batches:
            connection.sendall(sent)
            received = b""
            while received.count(b"HTTP/1.1 ") < PIPELINED or received[-2:] != b"}\n":
                received += connection.recv(65536)
            assert received.count(b"HTTP/1.1 %d " % status) == PIPELINED


def asked_meanwhile(way: Way, requests: int, status: int) -> list[float]:
    """Seconds that a good client waits for each answer while four connections are flooded.

    Those that get a 401 have a new wrong key in each request.
    """
    one = post(b"", request="GET /v1/model HTTP/1.1", framed=False)
    keys = (KEY if status == 200 else new_key() for _ in itertools.count())
    keyed = (one.replace(KEY.encode(), key.encode()) for key in keys)
    batches = [b"".join(itertools.islice(keyed, PIPELINED)) for _ in range(requests // PIPELINED)]
    seconds = []
    with Neighbour(way.port) as good, ThreadPoolExecutor(4) as pool:
        flooding = [pool.submit(flood, way, batches[i::4], status) for i in range(4)]
        while not all(done.done() for done in flooding):
            seconds.append(good.asks())
        for done in flooding:
            done.result()
    return seconds


def series(server: Server) -> dict[str, float]:
    """All metrics by name and labels."""
    status, _, text = server.ask("GET", "/metrics")
    assert status == 200
    pairs = (line.rpartition(" ") for line in text.decode().splitlines() if line[0] != "#")
    return {name: float(value) for name, _, value in pairs}


def test_ten_thousand_wrong_keys_slow_nobody(target: Server) -> None:
    """No more than as many good ones would; each is refused, and nothing of them stays."""
    way = Way(target, target.port)
    with Neighbour(way.port) as good:
        alone = [good.asks() for _ in range(300)]
    usual = asked_meanwhile(way, FLOOD // ROUNDS, 200)
    counted, resident, said = series(target), peak_mebibytes(target), len(target.log_text)
    flooded: list[float] = []
    for _ in range(ROUNDS):  # Of new connections, so that no worker happens to have them all.
        flooded += asked_meanwhile(way, FLOOD // ROUNDS, 401)
        usual += asked_meanwhile(way, FLOOD // ROUNDS, 200)
    now = series(target)
    with Neighbour(way.port) as good:
        after = [good.asks() for _ in range(300)]
    lines = target.log_text[said:].splitlines()
    medians = [float(np.median(part)) for part in (alone, usual, flooded, after)]
    logger.info("median ms %s, %d answers", [round(m * 1000, 2) for m in medians], len(flooded))
    assert medians[2] < 3 * medians[1] + 0.002
    assert medians[2] < 20 * medians[0] + 0.02
    assert medians[3] < 5 * medians[0] + 0.002
    failures = 'iris_authentication_failures_total{reason="wrong"}'
    assert now[failures] - counted[failures] == FLOOD
    assert len(now) - len(counted) < 40  # At most what a route and a status have.
    assert peak_mebibytes(target) - resident < 10
    refused = [line for line in map(json.loads, lines) if line.get("refused") == "wrong-key"]
    assert [line["key"] for line in refused] == [None] * FLOOD
    assert "iris_" not in target.log_text.replace("iris_api", "")


def test_nothing_is_left_of_all_this(target: Server) -> None:
    """Neither requests in flight, nor connections; each worker is the one that started."""
    wait_for(lambda: series(target)["iris_requests_in_flight"] == 1, "the last answer")
    wait_for(lambda: all(sockets(pid) <= 4 for pid in target.workers()), "the last connection")
    assert target.predicts()


def sockets(pid: int) -> int:
    """Open sockets of a process."""
    found = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            found += descriptor.readlink().name.startswith("socket:")
    return found
