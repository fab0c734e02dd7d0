"""A Flask application without sessions, coroutine views, or hosts in its routes.

Every override is of a method that Flask or Werkzeug documents, and skips work that has only one
possible result here. Where an extension, a signal or a blueprint takes part in a step, Flask's own
method runs. `benchmarks/README.md` has what each override saves.
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
from flask.sessions import NullSession, SessionInterface
from werkzeug.routing import MapAdapter

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from flask import Request

    Target = tuple[str, str, str]
    """Scheme, method and path of a request."""

NOT_MODIFIED = HTTPStatus.NOT_MODIFIED.value


class NoSessions(SessionInterface):
    """One empty session for all requests. Writing to it is an error, as in Flask's own."""

    empty = NullSession()

    def open_session(self, app: Flask, request: Request) -> NullSession:  # noqa: ARG002
        """Return the empty session."""
        return self.empty


class FixedPathAdapter(MapAdapter):
    """Matches one method and path. A match without path parameters is kept for later requests."""

    target: Target
    cache: dict[Target, FixedPathAdapter]
    _match: Any = None

    def match(self, *args: Any, **options: Any) -> Any:
        """Return the rule that matches, and the parameters that it takes from the path."""
        if args or options != {"return_rule": True}:
            return super().match(*args, **options)
        if self._match is not None:
            return self._match
        match = super().match(return_rule=True)
        if not match[0].arguments:
            self._match = match
            self.cache[self.target] = self
        return match


class StatelessFlask(Flask):
    """A Flask application of plain functions on paths that do not depend on the host."""

    session_interface = NoSessions()

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._adapters: dict[Target, FixedPathAdapter] = {}

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function unchanged: no view is a coroutine."""
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Return the adapter for a request's path, without parsing its host."""
        if request is None:
            return None
        target = request.scheme, request.method, request.path
        known = self._adapters.get(target)
        if known is not None:
            return known
        scheme, method, path = target
        adapter = FixedPathAdapter(
            self.url_map,
            server_name="",
            script_name="/",
            subdomain="",
            url_scheme=scheme,
            path_info=path,
            default_method=method,
        )
        adapter.target, adapter.cache = target, self._adapters
        return adapter

    def full_dispatch_request(self) -> Response:
        """Answer a request, without sending signals that have no receiver."""
        if request_started.receivers or request_finished.receivers:
            return super().full_dispatch_request()
        try:
            answer = self.preprocess_request() or self.dispatch_request()
        except Exception as error:  # noqa: BLE001  # A handler may be registered, as in Flask's own.
            answer = self.handle_user_exception(error)
        if not isinstance(answer, BytesResponse):
            answer = self.make_response(answer)
        return self.process_response(answer)

    def preprocess_request(self) -> Any:
        """Call the application's functions before a request, where no blueprint has its own."""
        if len(self.before_request_funcs) > 1 or self.url_value_preprocessors:
            return super().preprocess_request()
        for function in self.before_request_funcs[None]:
            if (answer := function()) is not None:
                return answer
        return None

    def do_teardown_request(self, *args: Any) -> None:
        """Tear down a request, where a function or a signal's receiver waits for it."""
        if self.teardown_request_funcs or request_tearing_down.receivers:
            super().do_teardown_request(*args)

    def do_teardown_appcontext(self, *args: Any) -> None:
        """Tear down an application context, where a function or a receiver waits for it."""
        if self.teardown_appcontext_funcs or appcontext_tearing_down.receivers:
            super().do_teardown_appcontext(*args)


class BytesResponse(Response):
    """A response whose body is bytes and whose headers are complete from the start."""

    response: list[bytes]

    def __init__(self, body: bytes, status: int, content_type: str) -> None:
        super().__init__([body], status, content_type=content_type)
        self.headers.add("Content-Length", str(len(body)))

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        """Send the response as it is: there is no Location to complete and nothing to close."""
        start_response(self.status, self.headers.to_wsgi_list())
        bare = environ["REQUEST_METHOD"] == "HEAD" or self.status_code == NOT_MODIFIED
        return [] if bare else self.response
