"""Request smuggling: no body is taken for a request, and no request is answered out of order."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from .attacks import (
    ATTACKER_ROW,
    CHUNKS,
    LAST_CHUNK,
    LENGTHS,
    NEXT_ROW,
    OBFUSCATED,
    SMUGGLED,
    SMUGGLED_ID,
    WELL_FRAMED,
    chunk,
    chunked,
    chunks_then_length,
    length_then_chunks,
    request,
)
from .client import REFUSED, Neighbour, parse_responses

if TYPE_CHECKING:
    from collections.abc import Callable

    from .client import Route

pytestmark = pytest.mark.system


@pytest.mark.parametrize("shape", [length_then_chunks, chunks_then_length])
@pytest.mark.parametrize("line", OBFUSCATED.values(), ids=OBFUSCATED.keys())
def test_a_request_with_two_framings_is_refused(
    route: Route, line: str, shape: Callable[[str], bytes]
) -> None:
    """CL.TE, TE.CL and TE.TE get one refusal and a close; the inner request is not answered."""
    responses = route.attack(shape(line))
    assert [response.status in REFUSED for response in responses] == [True]


@pytest.mark.parametrize("line", LENGTHS.values(), ids=LENGTHS.keys())
def test_a_content_length_that_is_no_plain_number_is_refused(route: Route, line: str) -> None:
    """However another parser would read it, nothing behind it is taken for a request."""
    responses = route.attack(request(SMUGGLED, line, framed=False))
    assert [response.status in REFUSED for response in responses] == [True]


def test_a_line_that_does_not_end_with_crlf_is_refused(route: Route) -> None:
    """Gunicorn refuses a bare LF; nginx accepts it and sends CRLF on to Gunicorn."""
    for lines in ("X: y\nX: z", f"X: y\nX-Request-ID: {'a' * 5}"):
        responses = route.attack(request(ATTACKER_ROW, lines))
        assert [response.status for response in responses] == (
            [400] if route.direct else [200, 200]
        )
    responses = route.attack(request(ATTACKER_ROW).replace(b"\r\n", b"\n"))
    assert [response.status for response in responses] == ([400] if route.direct else [200, 200])


@pytest.mark.parametrize("body", CHUNKS.values(), ids=CHUNKS.keys())
def test_bad_chunks_are_refused(route: Route, body: bytes) -> None:
    """Nginx accepts a few of them: then it passes on one plain body, and the answer is right."""
    responses = route.attack(chunked(body))
    if route.direct:
        assert [response.status in REFUSED for response in responses] == [True]


@pytest.mark.parametrize(("sent", "status"), WELL_FRAMED.values(), ids=WELL_FRAMED.keys())
def test_a_body_is_never_taken_for_a_request(route: Route, sent: bytes, status: int) -> None:
    """A well-framed body ends where its head says, and the next request is answered."""
    responses = route.attack(sent)
    assert [response.status for response in responses] == [status, 200]
    assert responses[-1].row == NEXT_ROW


@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_a_pipeline_is_answered_in_order(route: Route, step: int) -> None:
    """Good and bad requests, with and without bodies, in pieces of any size."""
    rows = [ATTACKER_ROW | {"petal_width": i / 100} for i in range(10)]
    sent, statuses = b"", []
    for number, row in enumerate(rows):
        sent += request(row, f"X-Request-ID: p{number}")
        sent += request(b"", request_line="HEAD /health HTTP/1.1", framed=False)
        sent += request(b"{", "X-Request-ID: bad")
        sent += chunked(chunk(json.dumps(row).encode()) + LAST_CHUNK)
        sent += request(b"", request_line="GET /nowhere HTTP/1.1", framed=False)
        statuses += [200, 200, 400, 200, 404]
    sent += request(NEXT_ROW, "Connection: close")
    stream = route.exchange(*(sent[i : i + step] for i in range(0, len(sent), step)))
    responses = list(parse_responses(stream, heads=range(1, 50, 5)))
    assert [response.status for response in responses] == [*statuses, 200]
    assert [response.row for response in responses[0:50:5]] == rows
    assert [response.row for response in responses[3:50:5]] == rows
    assert [response.headers["x-request-id"] for response in responses[0:50:5]] == [
        f"p{i}" for i in range(10)
    ]


def test_neighbours_get_their_own_answers_during_attacks(route: Route) -> None:
    """Every attack of this file in random order on four connections, beside four neighbours."""
    attacks = [
        shape(line)
        for line in OBFUSCATED.values()
        for shape in (length_then_chunks, chunks_then_length)
    ]
    attacks += [request(SMUGGLED, line, framed=False) for line in LENGTHS.values()]
    attacks += [chunked(body) for name, body in CHUNKS.items() if "endless" not in name]
    attacks += [sent for sent, _ in WELL_FRAMED.values()]
    random.Random(1).shuffle(attacks)

    def attack(sent: bytes) -> None:
        with route.connect() as connection, suppress(OSError):
            connection.sendall(sent)
            connection.settimeout(0.01)
            connection.recv(65536)

    def send_requests(_: int) -> None:
        with Neighbour(route.port) as neighbour:
            for _ in range(50):
                neighbour.predict()

    with ThreadPoolExecutor(4) as attackers, ThreadPoolExecutor(4) as neighbours:
        attacking = attackers.map(attack, attacks)
        list(neighbours.map(send_requests, range(8)))
        list(attacking)
    assert SMUGGLED_ID not in route.server.log_text
