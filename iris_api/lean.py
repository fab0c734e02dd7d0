"""Flask without what an API has no use for: sessions, coroutine views, and hosts in its routes.

Each method overrides one that Flask or Werkzeug documents for it, and leaves out work that here
has one possible outcome. `benchmarks/README.md` says what each is worth.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from flask import (
    Flask,
    Response,
    appcontext_tearing_down,
    request_finished,
    request_started,
    request_tearing_down,
)
from flask.globals import request_ctx
from flask.sessions import NullSession, SessionInterface
from werkzeug.routing import MapAdapter

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from flask import Request


class NoSessions(SessionInterface):
    """One empty session for all requests; writing to it is an error, as in Flask's own."""

    nothing = NullSession()

    def open_session(self, app: Flask, request: Request) -> NullSession:  # noqa: ARG002
        """The session that holds nothing."""
        return self.nothing


class FixedPaths(MapAdapter):
    """Finds a route that was found before, and takes no part of the path, without a search."""

    found: dict[tuple[str, str], Any]

    def match(self, *args: Any, **options: Any) -> Any:
        """The rule for the request, and what it takes from the path."""
        if args or options != {"return_rule": True}:
            return super().match(*args, **options)
        asked = (self.default_method, self.path_info)
        known = self.found.get(asked)
        if known is None:
            known = super().match(return_rule=True)
            if not known[0].arguments:
                self.found[asked] = known
        return known


class LeanFlask(Flask):
    """A Flask of plain functions on fixed paths."""

    session_interface = NoSessions()

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._found: dict[tuple[str, str], Any] = {}

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """The function as it is: none here is a coroutine."""
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """An adapter for the request's path: no route depends on a host, so none is parsed."""
        if request is None:
            return None
        environ = request.environ
        adapter = FixedPaths(
            self.url_map,
            server_name="",
            script_name="/",
            subdomain="",
            url_scheme=environ["wsgi.url_scheme"],
            path_info=request.path,
            default_method=environ["REQUEST_METHOD"],
        )
        adapter.found = self._found
        return adapter

    def full_dispatch_request(self) -> Response:
        """Answer a request, and signal nothing where nobody listens."""
        if request_started.receivers or request_finished.receivers:
            return super().full_dispatch_request()
        try:
            answer = self.preprocess_request() or self.dispatch_request()
        except Exception as error:  # noqa: BLE001  # It may have a handler, as in Flask's own.
            answer = self.handle_user_exception(error)
        if not isinstance(answer, BytesResponse):
            answer = self.make_response(answer)
        return self.process_response(answer)

    def preprocess_request(self) -> Any:
        """Call what the app does before a request, where no blueprint adds to that."""
        if len(self.before_request_funcs) > 1 or self.url_value_preprocessors:
            return super().preprocess_request()
        for before in self.before_request_funcs[None]:
            if (answer := before()) is not None:
                return answer
        return None

    def process_response(self, response: Response) -> Response:
        """Call what the app does after a request, where its blueprint does not add to that."""
        context: Any = request_ctx._get_current_object()  # type: ignore[attr-defined]
        if (
            context._after_request_functions
            or context.request.blueprint in self.after_request_funcs
        ):
            return super().process_response(response)
        for after in reversed(self.after_request_funcs[None]):
            response = after(response)
        return response

    def do_teardown_request(self, *exc: Any) -> None:
        """Only where there is something to do."""
        if self.teardown_request_funcs or request_tearing_down.receivers:
            super().do_teardown_request(*exc)

    def do_teardown_appcontext(self, *exc: Any) -> None:
        """The same."""
        if self.teardown_appcontext_funcs or appcontext_tearing_down.receivers:
            super().do_teardown_appcontext(*exc)


class BytesResponse(Response):
    """A whole body of bytes, with all its headers there from the start."""

    response: list[bytes]

    def __init__(self, body: bytes, status: int, content_type: str) -> None:
        super().__init__([body], status, content_type=content_type)
        self.headers.add("Content-Length", str(len(body)))

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        """Answer with what is there: no location is to be completed, and nothing to be closed."""
        start_response(self.status, self.headers.to_wsgi_list())
        bare = environ["REQUEST_METHOD"] == "HEAD" or self.status_code == HTTPStatus.NOT_MODIFIED
        return [] if bare else self.response
