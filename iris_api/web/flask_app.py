"""Flask without what an API has no use for: sessions, coroutine views, and hosts in its routes.

Each method overrides one of Flask's or Werkzeug's, and leaves out work that here has one possible
outcome; where somebody else has a part in it, theirs is called. What a context keeps of how it was
entered is private to Flask 3.1: another version of it has to pass `tests/test_lean.py`.
`benchmarks/README.md` says what the steps were worth.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from flask import (
    Flask,
    Response,
    appcontext_popped,
    appcontext_pushed,
    appcontext_tearing_down,
    request_finished,
    request_started,
    request_tearing_down,
)
from flask.ctx import AppContext, RequestContext, _sentinel
from flask.globals import _cv_app, _cv_request
from flask.sessions import NullSession, SessionInterface
from werkzeug.routing import MapAdapter

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from flask import Request

NOT_MODIFIED = HTTPStatus.NOT_MODIFIED.value


class NoSessions(SessionInterface):
    """One empty session for all requests; writing to it is an error, as in Flask's own."""

    nothing = NullSession()

    def open_session(self, app: Flask, request: Request) -> NullSession:  # noqa: ARG002
        """The session that holds nothing."""
        return self.nothing


class FixedPaths(MapAdapter):
    """Of one method and path: it searches once, and is kept if its route takes no part of that."""

    asked: tuple[str, str, str]
    kept: dict[tuple[str, str, str], FixedPaths]
    _found: Any = None

    def match(self, *args: Any, **options: Any) -> Any:
        """The rule for the request, and what it takes from the path."""
        if args or options != {"return_rule": True}:
            return super().match(*args, **options)
        if self._found is not None:
            return self._found
        found = super().match(return_rule=True)
        if not found[0].arguments:
            self._found = found
            self.kept[self.asked] = self
        return found


class StatelessContext(RequestContext):
    """A request's context and its app's, entered and left as one where nobody else has a part."""

    app: StatelessFlask

    def push(self) -> None:
        """Enter both: there is no session to open."""
        if _cv_app.get(None) is not None or appcontext_pushed.receivers:
            super().push()
            return
        around = AppContext(self.app)
        around._cv_tokens.append(_cv_app.set(around))
        self._cv_tokens.append((_cv_request.set(self), around))
        self._session = NoSessions.nothing
        self.match_request()

    def pop(self, exc: Any = _sentinel) -> None:
        """Leave them, as Flask does where more is to be done than that."""
        entered_once = len(self._cv_tokens) == 1 and _cv_request.get(None) is self
        if not entered_once or self.app.has_teardown() or "files" in vars(self.request):
            super().pop(exc)
            return
        request, around = self._cv_tokens.pop()
        _cv_request.reset(request)
        self.request.environ["werkzeug.request"] = None  # Else each refers to the other.
        if around is not None:
            _cv_app.reset(around._cv_tokens.pop())


class StatelessFlask(Flask):
    """A Flask of plain functions on fixed paths."""

    session_interface = NoSessions()

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._adapters: dict[tuple[str, str, str], FixedPaths] = {}

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """The function as it is: none here is a coroutine."""
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """An adapter for the request's path: no route depends on a host, so none is parsed."""
        if request is None:
            return None
        asked = request.scheme, request.method, request.path
        known = self._adapters.get(asked)
        if known is not None:
            return known
        scheme, method, path = asked
        adapter = FixedPaths(
            self.url_map,
            server_name="",
            script_name="/",
            subdomain="",
            url_scheme=scheme,
            path_info=path,
            default_method=method,
        )
        adapter.asked, adapter.kept = asked, self._adapters
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

    def dispatch_request(self) -> Any:
        """Call the view of a request that matched one."""
        request = _cv_request.get().request
        rule = request.url_rule
        if rule is None or request.method == "OPTIONS":
            return super().dispatch_request()
        return self.view_functions[rule.endpoint](**request.view_args or {})

    def process_response(self, response: Response) -> Response:
        """Call what the app does after a request, where its blueprint does not add to that."""
        context = _cv_request.get()
        if (
            context._after_request_functions
            or context.request.blueprint in self.after_request_funcs
        ):
            return super().process_response(response)
        for after in reversed(self.after_request_funcs[None]):
            response = after(response)
        return response

    def request_context(self, environ: WSGIEnvironment) -> RequestContext:
        """A context for the request."""
        return StatelessContext(self, environ)

    def has_teardown(self) -> bool:
        """Whether there is something to do when a request is over."""
        return bool(
            self.teardown_request_funcs
            or self.teardown_appcontext_funcs
            or request_tearing_down.receivers
            or appcontext_tearing_down.receivers
            or appcontext_popped.receivers
        )


class BytesResponse(Response):
    """A whole body of bytes, with all its headers there from the start."""

    response: list[bytes]

    def __init__(self, body: bytes, status: int, content_type: str) -> None:
        super().__init__([body], status, content_type=content_type)
        self.headers.add("Content-Length", str(len(body)))

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        """Answer with what is there: no location is to be completed, and nothing to be closed."""
        start_response(self.status, self.headers.to_wsgi_list())
        bare = environ["REQUEST_METHOD"] == "HEAD" or self.status_code == NOT_MODIFIED
        return [] if bare else self.response
