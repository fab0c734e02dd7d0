"""Every error as application/problem+json (RFC 9457): the tree's, Werkzeug's, and the unforeseen.

A 500 says nothing of the inside; the log has it, under the same request id.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, cast

import orjson
from flask import current_app
from typing_extensions import TypedDict
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from iris_api.errors import FieldProblem, IrisError
from iris_api.web.flask_app import BytesResponse
from iris_api.web.request import current

if TYPE_CHECKING:
    from flask import Flask, Response

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:iris-api:problem:"
NOT_READY = "The service is not ready: its operator has to look at the log."
NOWHERE = "There is nothing at this path: GET / lists the routes."
NOT_SO = "{} can't be sent to this path: send {}."
UNFORESEEN = "Something went wrong here, not with the request. The log has it."


class Problem(TypedDict):
    """Why a request was not answered as asked (RFC 9457)."""

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
    """Render whatever a view or Flask itself raises."""
    app.register_error_handler(IrisError, _render_ours)
    app.register_error_handler(HTTPException, _render_http)
    app.register_error_handler(Exception, _render_unforeseen)


def problem_of(error: IrisError, request_id: str) -> Problem:
    """The problem document of an error of ours."""
    detail = str(error) if error.public else NOT_READY
    made = problem(error.status, detail, request_id, error.slug, error.title)
    return cast("Problem", {**made, **error.extensions})


def problem(
    status: int,
    detail: str | None,
    request_id: str,
    slug: str | None = None,
    title: str | None = None,
) -> Problem:
    """A problem document; without slug and title it is the plain one of its status."""
    return {
        "type": TYPE_PREFIX + slug if slug else "about:blank",
        "title": title or HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "request_id": request_id,
    }


def _answer(problem: Problem, slug: str | None = None) -> Response:
    status = problem["status"]
    if status != HTTPStatus.INTERNAL_SERVER_ERROR:
        phrase = HTTPStatus(status).phrase
        current().refused = slug or phrase.lower().replace(" ", "-")
    body = orjson.dumps(problem, option=orjson.OPT_APPEND_NEWLINE)
    return BytesResponse(body, status, MEDIA_TYPE)


def _render_ours(error: IrisError) -> Response:
    if not error.public:
        current_app.logger.error({"event": str(error), "request_id": current().id})
    response = _answer(problem_of(error, current().id), error.slug)
    response.headers.update(error.headers)
    return response


def _render_http(error: HTTPException) -> Response:
    response = _answer(problem(error.code or 500, _told(error), current().id))
    kept = ("Allow", "Retry-After", "WWW-Authenticate", "Content-Range")
    response.headers.update((k, v) for k, v in error.get_headers() if k in kept)
    return response


def _told(error: HTTPException) -> str | None:
    if isinstance(error, NotFound):
        return NOWHERE
    if isinstance(error, MethodNotAllowed):
        others = set(error.valid_methods or ()) - {"HEAD", "OPTIONS"}
        return NOT_SO.format(current().request.method, " or ".join(sorted(others)))
    return error.description


def render_unreadable_body(error: Exception) -> Response:
    """Answer a request whose body has broken framing, such as a bad chunk size."""
    detail = f"The body can't be read: {type(error).__name__}."
    return _answer(problem(400, detail, current().id))


def _render_unforeseen(error: Exception) -> Response:
    current_app.logger.error(
        {"event": "unhandled_error", "request_id": current().id}, exc_info=error
    )
    return _answer(problem(500, UNFORESEEN, current().id))
