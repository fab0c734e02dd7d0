"""Flask without what an API has no use for: sessions, coroutine views, and hosts in its routes.

Each method overrides one that Flask or Werkzeug documents for it, and leaves out work that here
has one possible outcome. `benchmarks/README.md` says what each is worth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Flask, Response
from flask.sessions import NullSession, SessionInterface
from werkzeug.routing import MapAdapter

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Request
    from werkzeug.datastructures import Headers


class NoSessions(SessionInterface):
    """One empty session for all requests; writing to it is an error, as in Flask's own."""

    nothing = NullSession()

    def open_session(self, app: Flask, request: Request) -> NullSession:  # noqa: ARG002
        """The session that holds nothing."""
        return self.nothing


class LeanFlask(Flask):
    """A Flask of plain functions on fixed paths."""

    session_interface = NoSessions()

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """The function as it is: none here is a coroutine."""
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """An adapter for the request's path: no route depends on a host, so none is parsed."""
        if request is None:
            return None
        environ = request.environ
        return MapAdapter(
            self.url_map,
            server_name="",
            script_name="/",
            subdomain="",
            url_scheme=environ["wsgi.url_scheme"],
            path_info=request.path,
            default_method=environ["REQUEST_METHOD"],
        )


class BytesResponse(Response):
    """A whole body of bytes, with all its headers there from the start."""

    def __init__(self, body: bytes, status: int, content_type: str) -> None:
        headers = [("Content-Type", content_type), ("Content-Length", str(len(body)))]
        super().__init__(body, status, headers)

    def get_wsgi_headers(self, environ: dict[str, Any]) -> Headers:  # noqa: ARG002
        """The headers as they are: there is no location to complete and no length to count."""
        return self.headers
