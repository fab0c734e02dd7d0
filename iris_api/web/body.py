"""A request's body: taken whole, and in bounds."""

from __future__ import annotations

from typing import IO

from werkzeug.exceptions import ClientDisconnected
from werkzeug.sansio.utils import get_content_length

from iris_api.errors import BodyTooLargeError, InvalidJSONError, MediaTypeError
from iris_api.web.request import current

JSON = "application/json"
SEND_JSON = f"Send the body as 'Content-Type: {JSON}'."
TOO_LARGE = "A body may have {:,} bytes at most: split the batch."


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
    environ = request.environ
    if environ.get("CONTENT_TYPE") != JSON and request.mimetype != JSON:
        raise MediaTypeError(SEND_JSON)
    if "HTTP_CONTENT_ENCODING" in environ:
        raise MediaTypeError("Send the body as it is, without a Content-Encoding.")
    declared = get_content_length(
        environ.get("CONTENT_LENGTH"), environ.get("HTTP_TRANSFER_ENCODING")
    )
    if declared is not None and declared <= largest:
        return _read(environ["wsgi.input"], declared)
    if declared is None:
        # Werkzeug cuts a chunked body at its limit without a word; one byte more tells.
        request.max_content_length = largest + 1
        body = request.get_data(cache=False)
        if len(body) <= largest:
            return body
    raise BodyTooLargeError(TOO_LARGE.format(largest))


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
