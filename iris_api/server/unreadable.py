"""Responses to requests that never reach the application: unreadable, incomplete or failed."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from gunicorn.http.errors import (
    ExpectationFailed,
    InvalidResponseHeader,
    InvalidResponseHeaderName,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
)

from iris_api.web import problems, request

if TYPE_CHECKING:
    import socket

    from flask import Flask

    from iris_api.web.service import Service

STATUSES = {
    ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
    LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    InvalidResponseHeader: HTTPStatus.INTERNAL_SERVER_ERROR,
    InvalidResponseHeaderName: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""Statuses of Gunicorn's errors that have no `code`, as Gunicorn's own workers send them."""
FAILED = "Something went wrong here, not with the request. The log has it."

logger = logging.getLogger(__name__)


def register_error_handler(app: Flask) -> None:
    """Have the app answer a body whose framing is broken, such as a bad chunk size.

    Call it before the first request.
    """
    app.register_error_handler(ParseException, problems.render_unreadable_body)


def answer_errors_of(worker: Any, service: Service) -> None:
    """Have a worker of any class answer requests that it can't parse with problem documents.

    Its own `handle_error` sends HTML, and quotes the request in the log.
    """

    def handle_error(_request: Any, client: socket.socket, _address: Any, error: Exception) -> None:
        answer_error(service, client, error)

    worker.handle_error = handle_error


def answer_error(service: Service, client: socket.socket, error: Exception) -> None:
    """Answer a request that Gunicorn could not parse, or whose handling failed."""
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    if isinstance(error, ParseException):
        code = getattr(error, "code", HTTPStatus.BAD_REQUEST)
        status = HTTPStatus(STATUSES.get(type(error), code))
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        request_id = request.new_id()
        fields = {"event": "unhandled_error", "request_id": request_id}
        logger.error(fields, exc_info=error)
        _send_problem(client, status, FAILED, request_id)
    else:
        # Its text quotes the request, which may hold a key: it is for the client, not for the log.
        answer_unreadable(service, client, status, str(error), reason=type(error).__name__)


def answer_unreadable(
    service: Service, client: socket.socket, status: HTTPStatus, detail: str, *, reason: str
) -> None:
    """Refuse a request that can't be read, count it and log it.

    Args:
        service: Whose metrics count it.
        client: The client's socket.
        status: HTTP status of the response.
        detail: Why, for the client.
        reason: Why, for the log: nothing that the client sent.
    """
    request_id = request.new_id()
    service.metrics.count_unreadable(status)
    fields = {"event": "unreadable_request", "request_id": request_id, "status": status.value}
    with suppress(OSError):
        address = client.getpeername()
        peer = address[0] if isinstance(address, tuple) else None
        logger.info(fields | {"client": peer, "reason": reason})
    _send_problem(client, status, detail, request_id)


def _send_problem(client: socket.socket, status: HTTPStatus, detail: str, request_id: str) -> None:
    """Send a problem document to a client that may have gone, or that reads nothing."""
    document = problems.problem(status.value, detail, request_id)
    body = json.dumps(document, separators=(",", ":")).encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        "Connection: close\r\n"
        f"Content-Type: {problems.MEDIA_TYPE}\r\n"
        f"Content-Length: {len(body)}\r\n"
        f"{request.HEADER}: {request_id}\r\n\r\n"
    )
    with suppress(OSError):
        client.sendall(head.encode() + body)
