"""API keys on Flask-HTTPAuth. Every route asks for one, but those that say `@public`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, TypeVar

from flask_httpauth import HTTPTokenAuth
from werkzeug.datastructures import Authorization

from iris_api.errors import NotAuthenticatedError, WrongKeyError
from iris_api.web.request import current

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask

    from iris_api.web.service import Service

HEADER = "X-API-Key"
HOW = f"Send a valid API key as '{HEADER}: KEY' or as 'Authorization: Bearer KEY'."

NOBODYS = f"This API key is nobody's: it may have been revoked. {HOW}"

View = TypeVar("View", bound="Callable[..., object]")


class HeaderAuth(HTTPTokenAuth):  # type: ignore[misc]
    """The whole of X-API-Key as a token, which there is: who asks has looked."""

    def get_auth(self) -> Authorization:
        """The key, without Werkzeug's way through all headers."""
        return Authorization("Bearer", token=current().request.environ["HTTP_X_API_KEY"])

    def ensure_sync(self, f: Callable[..., object]) -> Callable[..., object]:
        """The function as it is, as in `lean`."""
        return f


def init_app(app: Flask) -> None:
    """Stand in front of every view of the app, with one guard for each way to send a key."""
    service: Service = app.extensions["iris_api"]

    def name_of_caller(key: str) -> str | None:
        name = service.keys.name_of(key)
        exchange = current()
        exchange.caller, exchange.wrong_key = name, bool(key) and name is None
        return name

    by_header, by_bearer = HeaderAuth(), HTTPTokenAuth(scheme="Bearer")
    for scheme in (by_header, by_bearer):
        scheme.verify_token(name_of_caller)

    @app.before_request
    def require_key() -> None:
        request = current().request
        endpoint = request.endpoint
        if endpoint is None or is_public(app, endpoint):
            return  # What is not there is 404 for anyone.
        if "HTTP_X_API_KEY" in request.environ:
            scheme = by_header
        elif request.environ.get("HTTP_AUTHORIZATION", "")[:7].lower() == "bearer ":
            scheme = by_bearer
        else:  # Werkzeug would decode other schemes, and raise where it can't.
            raise NotAuthenticatedError(HOW)
        # Not by its decorator, which is made for views: it asks for passwords, roles and methods.
        if scheme.authenticate(scheme.get_auth(), None) is None:
            _refuse()


def public(view: View) -> View:
    """Open a view to callers without a key."""
    view.public = True  # type: ignore[attr-defined]
    return view


def is_public(app: Flask, endpoint: str) -> bool:
    """Whether a route is open to callers without a key."""
    return getattr(app.view_functions[endpoint], "public", False)


def _refuse() -> NoReturn:
    if current().wrong_key:
        raise WrongKeyError(NOBODYS)
    raise NotAuthenticatedError(HOW)
