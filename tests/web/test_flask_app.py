from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from flask import (
    appcontext_popped,
    appcontext_pushed,
    appcontext_tearing_down,
    g,
    has_app_context,
    has_request_context,
    request_finished,
    request_started,
    request_tearing_down,
    session,
    url_for,
)
from flask.globals import current_app

from iris_api.web.flask_app import StatelessFlask

if TYPE_CHECKING:
    from typing import Any

    from blinker import Signal
    from flask import Flask, Response
    from flask.testing import FlaskClient


def test_a_path_is_matched_whatever_the_host_is(client: FlaskClient) -> None:
    """No Host header, valid or not, changes the route of a request."""
    for host in ("localhost", "evil.example:99999", "a b", "", "[::1]"):
        assert client.get("/health", headers={"Host": host}).status_code == 200


def test_an_empty_path_is_the_index(client: FlaskClient) -> None:
    """`GET http://host HTTP/1.1` is not redirected: that answer would have an HTML body."""
    assert client.get("/", environ_overrides={"PATH_INFO": ""}).status_code == 200


def test_urls_are_built_as_paths(app: Flask) -> None:
    """A link of the index needs no host."""
    with app.test_request_context("/"):
        assert url_for("v1.predict") == "/v1/predict"


def test_writing_to_the_session_is_an_error(app: Flask) -> None:
    """There is only an empty session."""
    with app.test_request_context("/"), pytest.raises(RuntimeError, match="no secret key"):
        session["user"] = "me"


@pytest.mark.parametrize("path", ["/health", "/nowhere", "/v1/model"])
def test_a_head_answer_has_the_headers_of_get_and_no_body(client: FlaskClient, path: str) -> None:
    """Content-Length is the length that the body of a GET has."""
    get, head = client.get(path), client.head(path)
    assert head.data == b""
    assert head.content_length == get.content_length == len(get.data)
    assert head.content_type == get.content_type


@pytest.fixture
def small() -> StatelessFlask:
    """A small application: its views answer and fail, and each request stores a value in `g`."""
    app = StatelessFlask("small", static_folder=None)

    @app.before_request
    def store() -> None:
        assert current_app.name == "small"
        assert "stored" not in g
        g.stored = True

    @app.after_request
    def send(response: Response) -> Response:
        response.headers["Stored"] = str(g.stored)
        return response

    @app.get("/")
    def view() -> str:
        return "answered"

    @app.get("/parts/<part>")
    def parts(part: str) -> str:
        return part

    @app.get("/fails")
    def fail() -> str:
        raise RuntimeError

    return app


def test_a_request_leaves_no_context_behind(small: StatelessFlask) -> None:
    """Whatever its status, both contexts are popped, and with them the values in `g`."""
    client = small.test_client()
    for path, status in (("/", 200), ("/nowhere", 404), ("/fails", 500), ("/", 200)):
        answer = client.get(path)
        assert (answer.status_code, answer.headers["Stored"]) == (status, "True")
        assert not has_request_context()
        assert not has_app_context()


def test_a_request_keeps_the_application_context_around_it(small: StatelessFlask) -> None:
    """A test or a command may send a request within a context of its own."""
    with small.app_context():
        g.outer = True
        assert small.test_client().get("/").status_code == 200
        assert g.outer


def test_a_path_with_a_parameter_is_matched_each_time(small: StatelessFlask) -> None:
    """Each request gets the parameter of its own path."""
    client = small.test_client()
    assert [client.get(f"/parts/{part}").text for part in "aba"] == ["a", "b", "a"]


@pytest.mark.parametrize(
    "signal",
    [
        appcontext_pushed,
        request_started,
        request_finished,
        request_tearing_down,
        appcontext_tearing_down,
        appcontext_popped,
    ],
    ids=lambda signal: str(signal.name),
)
def test_a_connected_receiver_gets_each_signal(small: StatelessFlask, signal: Signal) -> None:
    """Flask's signals are sent as long as a receiver is connected."""
    senders: list[Any] = []

    def receive(sender: Any, **_: Any) -> None:
        senders.append(sender)

    client = small.test_client()
    with signal.connected_to(receive, small):
        assert client.get("/").text == "answered"
    assert senders == [small]
    client.get("/")
    assert len(senders) == 1


@pytest.mark.parametrize("register", ["teardown_request", "teardown_appcontext"])
def test_a_teardown_function_runs_once_per_request(small: StatelessFlask, register: str) -> None:
    """It gets the error, or None."""
    errors: list[str] = []
    getattr(small, register)(lambda error: errors.append(type(error).__name__))
    for path in ("/", "/fails"):
        small.test_client().get(path)
    assert errors == ["NoneType", "RuntimeError"]


def is_remembered(app: StatelessFlask, path: str, method: str = "GET") -> bool:
    """Whether two requests for this path share one adapter."""
    with app.test_request_context(path, method=method) as context:
        adapters = [app.create_url_adapter(context.request) for _ in range(2)]
    return adapters[0] is adapters[1]


def test_only_fixed_paths_of_the_application_are_remembered(small: StatelessFlask) -> None:
    """A client that tries many paths and methods can't fill the memory."""
    client = small.test_client()
    client.get("/")
    for path, method, status in (
        ("/nowhere", "GET", 404),
        ("/", "PROPFIND", 405),
        ("/parts/1", "GET", 200),
    ):
        assert client.open(path, method=method).status_code == status
        assert not is_remembered(small, path, method)
    assert is_remembered(small, "/")


def test_options_are_answered_by_flask(client: FlaskClient) -> None:
    """The answer lists the methods of a path."""
    assert set(client.options("/health").headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
