"""Every error as application/problem+json (RFC 9457): ours, Werkzeug's, and unforeseen ones.

A 500 says nothing about the inside. The log has the traceback, under the same request id.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, cast

import orjson
from flask import current_app
from typing_extensions import TypedDict
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from iris_api.errors import FieldProblem, IrisError

from .flask_app import BytesResponse
from .request import current

if TYPE_CHECKING:
    from flask import Flask, Response

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:iris-api:problem:"
NOT_READY = "The service is not ready: its log says why."
NOT_FOUND = "There is nothing at this path: GET / lists the routes."
WRONG_METHOD = "{} is not allowed for this path: send {}."
INTERNAL = "The service failed, and the request is not to blame. The log has the reason."
KEPT_HEADERS = ("Allow", "Retry-After", "WWW-Authenticate", "Content-Range")
"""Headers of a Werkzeug error that its problem keeps."""


class Problem(TypedDict):
    """Why a request has no other answer (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str | None
    request_id: str


class ContractProblem(Problem):
    """What breaks the input contract: the first errors, and how many there are."""

    errors: list[FieldProblem]
    total: int


def init_app(app: Flask) -> None:
    """Render every error that a view or Flask itself raises."""
    app.register_error_handler(IrisError, _render_iris_error)
    app.register_error_handler(HTTPException, _render_http_error)
    app.register_error_handler(Exception, _render_unforeseen_error)


def problem_of(error: IrisError, request_id: str) -> Problem:
    """The problem document of an error of ours."""
    detail = str(error) if error.public else NOT_READY
    document = problem(error.status, detail, request_id, error.slug, error.title)
    return cast("Problem", {**document, **error.extensions})


def problem(
    status: int,
    detail: str | None,
    request_id: str,
    slug: str | None = None,
    title: str | None = None,
) -> Problem:
    """A problem document. Without slug and title it only repeats the meaning of its status."""
    return {
        "type": TYPE_PREFIX + slug if slug else "about:blank",
        "title": title or HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "request_id": request_id,
    }


def render_unreadable_body(error: Exception) -> Response:
    """The answer to a body whose framing broke while it was read, such as a bad chunk size.

    The server registers this for the exception that its parser raises.
    """
    detail = f"The body can't be read: {type(error).__name__}."
    return _respond(problem(400, detail, current().id))


def _respond(document: Problem, slug: str | None = None) -> Response:
    status = document["status"]
    if status != HTTPStatus.INTERNAL_SERVER_ERROR:
        phrase = HTTPStatus(status).phrase
        current().refusal = slug or phrase.lower().replace(" ", "-")
    body = orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
    return BytesResponse(body, status, MEDIA_TYPE)


def _render_iris_error(error: IrisError) -> Response:
    request_id = current().id
    if not error.public:
        fields = {"event": "operator_error", "reason": str(error), "request_id": request_id}
        current_app.logger.error(fields)
    response = _respond(problem_of(error, request_id), error.slug)
    response.headers.update(error.headers)
    return response


def _render_http_error(error: HTTPException) -> Response:
    response = _respond(problem(error.code or 500, _detail(error), current().id))
    response.headers.update((k, v) for k, v in error.get_headers() if k in KEPT_HEADERS)
    return response


def _detail(error: HTTPException) -> str | None:
    if isinstance(error, NotFound):
        return NOT_FOUND
    if isinstance(error, MethodNotAllowed):
        allowed = set(error.valid_methods or ()) - {"HEAD", "OPTIONS"}
        return WRONG_METHOD.format(current().request.method, " or ".join(sorted(allowed)))
    return error.description


def _render_unforeseen_error(error: Exception) -> Response:
    fields = {"event": "unhandled_error", "request_id": current().id}
    current_app.logger.error(fields, exc_info=error)
    return _respond(problem(500, INTERNAL, current().id))
