from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import pytest
from gunicorn.http import errors

from iris_api.server.unreadable import answer_error
from iris_api.settings import Settings
from iris_api.web.service import Service

if TYPE_CHECKING:
    from collections.abc import Iterator

    Ends = tuple[socket.socket, socket.socket]

SECRET = "iris_secret"


@pytest.fixture
def service() -> Service:
    """A service of which only the metrics are used."""
    return Service(Settings())


@pytest.fixture
def ends() -> Iterator[Ends]:
    """The server's end of a connection, and the client's."""
    server, client = socket.socketpair()
    with server, client:
        yield server, client


def answer(service: Service, ends: Ends, error: Exception) -> tuple[bytes, dict[str, Any]]:
    """Head and problem document of the response."""
    server, client = ends
    answer_error(service, server, error)
    head, _, body = client.recv(65536).partition(b"\r\n\r\n")
    return head, json.loads(body)


def counted(service: Service, name: str) -> float:
    metrics = service.metrics.collect()
    return sum(s.value for metric in metrics for s in metric.samples if s.name == name)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidRequestLine(SECRET), 400),
        (errors.InvalidHeader(SECRET), 400),
        (errors.ForbiddenProxyRequest("192.0.2.1"), 403),
        (errors.LimitRequestLine(9000, 8190), 414),
        (errors.ExpectationFailed(SECRET), 417),
        (errors.LimitRequestHeaders("limit request headers fields"), 431),
        (errors.UnsupportedTransferCoding(SECRET), 501),
    ],
)
def test_an_unreadable_request_gets_the_status_of_its_error(
    service: Service, ends: Ends, caplog: pytest.LogCaptureFixture, error: Exception, status: int
) -> None:
    """The problem document quotes it to its client; the log does not. It is counted as refused."""
    caplog.set_level("INFO")
    head, problem = answer(service, ends, error)
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"Content-Type: application/problem+json" in head
    assert b"Connection: close" in head
    assert problem["request_id"].encode() in head
    assert (problem["status"], problem["detail"]) == (status, str(error))
    (record,) = caplog.records
    fields: Any = record.msg
    assert (fields["event"], fields["status"]) == ("unreadable_request", status)
    assert fields["reason"] == type(error).__name__
    assert fields["request_id"] == problem["request_id"]
    assert SECRET not in caplog.text
    assert counted(service, "iris_refused_requests_total") == 1
    assert counted(service, "iris_requests_total") == 1


@pytest.mark.parametrize("error", [ZeroDivisionError(SECRET), errors.InvalidResponseHeader("x")])
def test_another_failure_is_a_500(
    service: Service, ends: Ends, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """The log has the error under the id of the response, which says nothing about it."""
    head, problem = answer(service, ends, error)
    assert head.startswith(b"HTTP/1.1 500 ")
    assert SECRET not in str(problem)
    (record,) = caplog.records
    assert record.msg == {"event": "unhandled_error", "request_id": problem["request_id"]}
    assert record.exc_info
    assert record.exc_info[1] is error


def test_a_client_that_left_is_counted_too(service: Service, ends: Ends) -> None:
    """Its closed socket is no error."""
    server, client = ends
    client.close()
    answer_error(service, server, errors.InvalidHeader("x"))
    server.close()
    answer_error(service, server, errors.InvalidHeader("x"))
    assert counted(service, "iris_refused_requests_total") == 2
