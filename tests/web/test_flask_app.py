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


def test_a_path_is_matched_whatever_the_host_says(client: FlaskClient) -> None:
    """No host header, sane or not, changes where a request goes."""
    for host in ("localhost", "evil.example:99999", "a b", "", "[::1]"):
        assert client.get("/health", headers={"Host": host}).status_code == 200


def test_an_empty_path_is_the_index(client: FlaskClient) -> None:
    """As in `GET http://host HTTP/1.1`: no redirect, which would have an HTML body."""
    assert client.get("/", environ_overrides={"PATH_INFO": ""}).status_code == 200


def test_urls_are_built_as_paths(app: Flask) -> None:
    """What the index links to."""
    with app.test_request_context("/"):
        assert url_for("v1.predict") == "/v1/predict"


def test_there_is_no_session_to_write_to(app: Flask) -> None:
    """A view that tries is told."""
    with app.test_request_context("/"), pytest.raises(RuntimeError, match="no secret key"):
        session["user"] = "me"


@pytest.mark.parametrize("path", ["/health", "/nowhere", "/v1/model"])
def test_a_head_has_the_headers_of_its_get(client: FlaskClient, path: str) -> None:
    """And no body."""
    got, head = client.get(path), client.head(path)
    assert head.data == b""
    assert head.content_length == got.content_length == len(got.data)
    assert head.content_type == got.content_type


@pytest.fixture
def lean() -> StatelessFlask:
    """An app of its own, with views that answer and fail, and that keep something."""
    app = StatelessFlask("lean", static_folder=None)

    @app.before_request
    def keep() -> None:
        assert current_app.name == "lean"
        assert "kept" not in g
        g.kept = True

    @app.after_request
    def kept(response: Response) -> Response:
        response.headers["Kept"] = str(g.kept)
        return response

    @app.get("/")
    def view() -> str:
        return "answered"

    @app.get("/parts/<part>")
    def parted(part: str) -> str:
        return part

    @app.get("/fails")
    def fail() -> str:
        raise RuntimeError

    return app


def test_a_request_leaves_nothing_behind(lean: StatelessFlask) -> None:
    """Neither of its two contexts, nor what a view kept in one, whatever became of it."""
    client = lean.test_client()
    for path, status in (("/", 200), ("/nowhere", 404), ("/fails", 500), ("/", 200)):
        answer = client.get(path)
        assert (answer.status_code, answer.headers["Kept"]) == (status, "True")
        assert not has_request_context()
        assert not has_app_context()


def test_a_request_within_the_context_of_a_command_leaves_that(lean: StatelessFlask) -> None:
    """As a test has it, or a command that asks the app something."""
    with lean.app_context():
        g.mine = True
        assert lean.test_client().get("/").status_code == 200
        assert g.mine


def test_a_path_with_a_part_is_matched_each_time(lean: StatelessFlask) -> None:
    """What it takes from the path is that request's."""
    client = lean.test_client()
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
def test_who_listens_is_told(lean: StatelessFlask, signal: Signal) -> None:
    """Flask's signals come as they do in any Flask, where somebody has asked for them."""
    told: list[Any] = []

    def hear(sender: Any, **_: Any) -> None:
        told.append(sender)

    client = lean.test_client()
    with signal.connected_to(hear, lean):
        assert client.get("/").text == "answered"
    assert told == [lean]
    client.get("/")
    assert len(told) == 1


@pytest.mark.parametrize("of", ["teardown_request", "teardown_appcontext"])
def test_what_is_to_be_done_after_a_request_is_done(lean: StatelessFlask, of: str) -> None:
    """Once, and with the error if there was one."""
    done: list[str] = []
    getattr(lean, of)(lambda error: done.append(type(error).__name__))
    for path in ("/", "/fails"):
        lean.test_client().get(path)
    assert done == ["NoneType", "RuntimeError"]


def test_only_paths_that_are_there_are_remembered(lean: StatelessFlask) -> None:
    """A client that tries all paths and methods takes no memory."""
    client = lean.test_client()
    client.get("/")
    for number in range(50):
        assert client.get(f"/nowhere/{number}").status_code == 404
        assert client.open("/", method=f"M{number}").status_code == 405
        assert client.get(f"/parts/{number}").status_code == 200
    assert list(lean._adapters) == [("http", "GET", "/")]


def test_options_are_answered_by_flask(client: FlaskClient) -> None:
    """With the methods that a path has."""
    assert set(client.options("/health").headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
