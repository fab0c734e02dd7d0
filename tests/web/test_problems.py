from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import pytest
from flask import Flask, abort
from gunicorn.http.errors import InvalidChunkSize
from werkzeug.exceptions import default_exceptions

from iris_api.settings import Settings
from iris_api.web import problems, recording, request
from iris_api.web.service import Service

if TYPE_CHECKING:
    from flask.testing import FlaskClient

MEMBERS = {"type", "title", "status", "detail", "request_id"}


@pytest.fixture
def failing() -> FlaskClient:
    """A client of an application whose views raise errors."""
    app = Flask("iris_api")
    app.extensions["iris_api"] = Service(Settings())
    request.init_app(app)
    recording.init_app(app)
    problems.init_app(app)
    app.register_error_handler(InvalidChunkSize, problems.render_unreadable_body)

    @app.get("/status/<int:status>")
    def status(status: int) -> str:
        abort(status)

    @app.get("/unforeseen")
    def unforeseen() -> str:
        raise KeyError("the secret inside")

    @app.get("/chunk")
    def chunk() -> str:
        raise InvalidChunkSize(b"zz")

    return app.test_client()


@pytest.mark.parametrize("status", sorted(default_exceptions))
def test_every_error_of_werkzeug_is_a_problem(failing: FlaskClient, status: int) -> None:
    """Its status is the one that was raised, and its body is JSON."""
    answer = failing.get(f"/status/{status}")
    assert (answer.status_code, answer.mimetype) == (status, "application/problem+json")
    assert answer.json
    assert answer.json.keys() == MEMBERS
    assert answer.json["status"] == status
    assert answer.json["request_id"] == answer.headers["X-Request-ID"]


def test_the_answer_to_an_unforeseen_error_has_no_details(
    failing: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    """The client gets a request id, and the log has the traceback under that id."""
    with caplog.at_level(logging.ERROR):
        answer = failing.get("/unforeseen", headers={"X-Request-ID": "abc-123"})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.json
    assert answer.json["request_id"] == "abc-123"
    (record,) = [record for record in caplog.records if record.exc_info]
    assert "abc-123" in record.getMessage()


def test_a_body_with_broken_framing_is_the_clients_error(failing: FlaskClient) -> None:
    """Gunicorn notices a bad chunk only while the body is read."""
    answer = failing.get("/chunk")
    assert answer.status_code == 400
    assert "InvalidChunkSize" in json.loads(answer.data)["detail"]


def test_a_405_says_which_methods_are_allowed(client: FlaskClient) -> None:
    """They are in the detail and in the header Allow."""
    answer = client.get("/v1/predict")
    assert answer.status_code == 405
    assert answer.json
    assert answer.json["detail"] == "GET is not allowed for this path: send POST."
    assert set(answer.headers["Allow"].split(", ")) == {"OPTIONS", "POST"}


@pytest.mark.parametrize(
    "path", ["//v1//predict", "/v1/predict/", "/\0", "/\xff", "/" + "a" * 5000]
)
def test_an_unusual_path_is_not_found_and_never_redirected(client: FlaskClient, path: str) -> None:
    """Older clients would follow a redirect of a POST with a GET."""
    answer = client.post("/", json={}, environ_overrides={"PATH_INFO": path})
    assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")
