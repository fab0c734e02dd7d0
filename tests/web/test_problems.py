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
    """An app whose one route raises what its path says."""
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
    """No HTML, and the status is the one that was raised."""
    answer = failing.get(f"/status/{status}")
    assert (answer.status_code, answer.mimetype) == (status, "application/problem+json")
    assert answer.json
    assert answer.json.keys() == MEMBERS
    assert answer.json["status"] == status
    assert answer.json["request_id"] == answer.headers["X-Request-ID"]


def test_an_unforeseen_error_says_nothing_of_the_inside(
    failing: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    """The client gets a request id; the log has the traceback under it."""
    with caplog.at_level(logging.ERROR):
        answer = failing.get("/unforeseen", headers={"X-Request-ID": "abc-123"})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.json
    assert answer.json["request_id"] == "abc-123"
    (record,) = [found for found in caplog.records if found.exc_info]
    assert "abc-123" in record.getMessage()
    assert record.exc_info


def test_a_body_whose_framing_breaks_is_the_clients_error(failing: FlaskClient) -> None:
    """Gunicorn finds a bad chunk only while the body is read."""
    answer = failing.get("/chunk")
    assert answer.status_code == 400
    assert "InvalidChunkSize" in json.loads(answer.data)["detail"]


def test_a_405_says_what_is_allowed(client: FlaskClient) -> None:
    """In words, and in the header that HTTP asks for."""
    answer = client.get("/v1/predict")
    assert answer.status_code == 405
    assert answer.json
    assert answer.json["detail"] == "GET is not allowed for this path: send POST."
    assert set(answer.headers["Allow"].split(", ")) == {"OPTIONS", "POST"}


@pytest.mark.parametrize(
    "path", ["//v1//predict", "/v1/predict/", "/\0", "/\xff", "/" + "a" * 5000]
)
def test_odd_paths_are_not_found_and_never_redirected(client: FlaskClient, path: str) -> None:
    """A redirect would turn a POST into a GET in older clients."""
    answer = client.post("/", json={}, environ_overrides={"PATH_INFO": path})
    assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")
