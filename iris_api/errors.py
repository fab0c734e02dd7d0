"""Every error as application/problem+json (RFC 9457): the tree's, Werkzeug's, and the unforeseen.

A 500 says nothing of the inside; the log has it, under the same request id.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import orjson
from flask import current_app
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import HTTPException

from .exceptions import IrisError
from .exchange import current
from .lean import BytesResponse

if TYPE_CHECKING:
    from flask import Flask, Response

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:iris-api:problem:"


def init_app(app: Flask) -> None:
    """Render whatever a view or Flask itself raises."""
    app.register_error_handler(IrisError, _render_ours)
    app.register_error_handler(HTTPException, _render_http)
    app.register_error_handler(ParseException, _render_parse)
    app.register_error_handler(Exception, _render_unforeseen)


def problem(
    status: int, detail: str | None, slug: str | None = None, title: str | None = None, **more: Any
) -> Response:
    """A problem document. Without slug and title it is the plain one of its status."""
    phrase = HTTPStatus(status).phrase
    exchange = current()
    if status != HTTPStatus.INTERNAL_SERVER_ERROR:
        exchange.refused = slug or phrase.lower().replace(" ", "-")
    document = {
        "type": TYPE_PREFIX + slug if slug else "about:blank",
        "title": title or phrase,
        "status": status,
        "detail": detail,
        "request_id": exchange.id,
        **more,
    }
    body = orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
    return BytesResponse(body, status, MEDIA_TYPE)


def _render_ours(error: IrisError) -> Response:
    detail = str(error)
    if not error.public:
        current_app.logger.error({"event": str(error), "request_id": current().id})
        detail = "The service is not ready: its operator has to look at the log."
    response = problem(error.status, detail, error.slug, error.title, **error.extensions)
    response.headers.update(error.headers)
    return response


def _render_http(error: HTTPException) -> Response:
    response = problem(error.code or 500, error.description)
    kept = ("Allow", "Retry-After", "WWW-Authenticate", "Content-Range")
    response.headers.update((k, v) for k, v in error.get_headers() if k in kept)
    return response


def _render_parse(error: ParseException) -> Response:
    """A body whose framing broke while it was read, such as a bad chunk size."""
    return problem(400, f"The body can't be read: {type(error).__name__}.")


def _render_unforeseen(error: Exception) -> Response:
    current_app.logger.error(
        {"event": "unforeseen error", "request_id": current().id}, exc_info=error
    )
    return problem(500, "Something went wrong here, not with the request. The log has it.")
