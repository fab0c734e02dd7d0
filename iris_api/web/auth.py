"""The guard in front of every view: age first, then the API key, by Flask-HTTPAuth.

Every route requires a key unless its view is marked `@public`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, TypeVar

from flask_httpauth import HTTPTokenAuth

from iris_api.errors import NotAuthenticatedError, OverloadedError, WrongKeyError

from .request import current

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask

    from .service import Service

HEADER = "X-API-Key"
RAISES = (NotAuthenticatedError, WrongKeyError, OverloadedError)
"""Errors of the guard."""

View = TypeVar("View", bound="Callable[..., object]")


def init_app(app: Flask) -> None:
    """Check each request for a guarded view before the view runs."""
    service: Service = app.extensions["iris_api"]
    max_queue_seconds = service.settings.max_queue_ms / 1000

    def caller_of(key: str) -> str | None:
        exchange = current()
        exchange.caller = service.keys.name_of(key)
        exchange.wrong_key = exchange.caller is None
        return exchange.caller

    require_header = _requirement(HTTPTokenAuth(header=HEADER), caller_of)
    require_bearer = _requirement(HTTPTokenAuth(scheme="Bearer"), caller_of)

    @app.before_request
    def guard() -> None:
        exchange = current()
        environ, endpoint = exchange.request.environ, exchange.request.endpoint
        if endpoint is None or is_public(app, endpoint):
            return  # A path without a route is 404 for everyone.
        if exchange.queue_seconds > max_queue_seconds:
            raise OverloadedError
        if "HTTP_X_API_KEY" in environ:
            require_header()
        elif environ.get("HTTP_AUTHORIZATION", "")[:7].lower() == "bearer ":
            require_bearer()
        else:  # Werkzeug decodes other schemes, and fails where it can't.
            raise NotAuthenticatedError


def public(view: View) -> View:
    """Open a view to callers without a key."""
    view.public = True  # type: ignore[attr-defined]
    return view


def is_public(app: Flask, endpoint: str) -> bool:
    """Whether a route is open to callers without a key."""
    return getattr(app.view_functions[endpoint], "public", False)


def _requirement(
    scheme: HTTPTokenAuth, caller_of: Callable[[str], str | None]
) -> Callable[[], None]:
    """A function that raises unless the request has a valid key of this scheme."""
    scheme.verify_token(caller_of)
    scheme.error_handler(_refuse)
    required: Callable[[], None] = scheme.login_required(lambda: None)
    return required


def _refuse(_status: int) -> NoReturn:
    raise WrongKeyError if current().wrong_key else NotAuthenticatedError
