"""A request's body: taken whole and in bounds, and read to its end where it was refused.

A client that writes its whole body before it reads would otherwise meet a reset connection, and
never see why it was refused. It has its answer first; what it still sends is thrown away.
"""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial
from typing import IO, TYPE_CHECKING, Any

from gunicorn.http.errors import ParseException
from werkzeug.exceptions import ClientDisconnected

from .exceptions import BodyTooLargeError, InvalidJSONError, MediaTypeError
from .exchange import current

if TYPE_CHECKING:
    from flask import Response

JSON = "application/json"
MOST_BYTES = 128 * 1024 * 1024
MOST_SECONDS = 5.0
IDLE_SECONDS = 1.0
"""A client that sends nothing for so long is not in the middle of sending."""


def json_body(largest: int) -> bytes:
    """The request's body, after its size and its media type were found right.

    Args:
        largest: Most bytes that it may have.

    Raises:
        MediaTypeError: if the body is declared as anything but plain JSON.
        BodyTooLargeError: if it is larger than the service reads.
        InvalidJSONError: if the client stopped before it had sent all.
    """
    request = current().request
    if request.environ.get("CONTENT_TYPE") != JSON and request.mimetype != JSON:
        raise MediaTypeError(f"Send the body as 'Content-Type: {JSON}'.")
    if "HTTP_CONTENT_ENCODING" in request.environ:
        raise MediaTypeError("Send the body as it is, without a Content-Encoding.")
    declared = request.content_length
    if declared is not None and declared <= largest:
        return _read(request.environ["wsgi.input"], declared)
    if declared is None:
        # Werkzeug cuts a chunked body at its limit without a word; one byte more tells.
        request.max_content_length = largest + 1
        body = request.get_data(cache=False)
        if len(body) <= largest:
            return body
    raise BodyTooLargeError(f"A body may have {largest:,} bytes at most: split the batch.")


def _read(stream: IO[bytes], length: int) -> bytes:
    """A body of a declared length, at once.

    Raises:
        InvalidJSONError: if the client stopped before it had sent all.
    """
    try:
        body = stream.read(length)
    except OSError as error:
        raise ClientDisconnected from error
    if len(body) < length:
        raise InvalidJSONError(f"The body ended after {len(body)} of {length} bytes.")
    return body


def drain_after(response: Response) -> Response:
    """Let a refusal be followed by a drain. Only under Gunicorn: elsewhere it may never end."""
    environ = current().request.environ
    if "gunicorn.socket" in environ:
        response.call_on_close(partial(drain, environ))
    return response


def drain(environ: dict[str, Any]) -> None:
    """Read on, within limits of bytes, time and idleness."""
    connection, body = environ["gunicorn.socket"], environ["wsgi.input"]
    deadline, left = time.monotonic() + MOST_SECONDS, MOST_BYTES
    timeout = connection.gettimeout()
    connection.settimeout(IDLE_SECONDS)
    with suppress(OSError, ParseException):
        while left > 0 and time.monotonic() < deadline and (chunk := body.read(65536)):
            left -= len(chunk)
    connection.settimeout(timeout)
