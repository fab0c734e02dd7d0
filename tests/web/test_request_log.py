from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from iris_api import create_app
from iris_api.settings import Settings
from iris_api.web import recording
from tests.conftest import FLOWER, Key

if TYPE_CHECKING:
    from pathlib import Path

    from flask.testing import FlaskClient

    from iris_api.web.recording import RequestLogRecord


@pytest.mark.parametrize("given", ["abc-123", "a" * 128, "trace/1:2+3=4@host_5.6"])
def test_a_sane_request_id_comes_back(client: FlaskClient, given: str) -> None:
    """The caller's own id follows its request through."""
    answer = client.get("/health", headers={"X-Request-ID": given})
    assert answer.headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", ["", "a" * 129, "a b", "<script>", 'quote"', "é", "a,b"])
def test_another_request_id_is_replaced(client: FlaskClient, given: str) -> None:
    """What could harm a header or a log line is not repeated."""
    answer = client.get("/health", headers={"X-Request-ID": given})
    assert len(answer.headers["X-Request-ID"]) == 32
    assert answer.headers["X-Request-ID"] != given


@pytest.mark.parametrize("path", ["/", "/health", "/nowhere", "/predict", "/v1/model"])
def test_every_answer_has_an_id_of_its_own(client: FlaskClient, path: str) -> None:
    """Errors too, and no two alike."""
    ids = {client.get(path).headers["X-Request-ID"] for _ in range(5)}
    assert len(ids) == 5


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Any:
    """The request lines that were written since the last look."""

    def said() -> list[dict[str, Any]]:
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return said


def test_a_prediction_has_its_line(client: FlaskClient, said: Any) -> None:
    """Who asked what for how long and what was answered; neither the inputs nor the key."""
    traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    sent = {"X-Request-ID": "abc", "traceparent": traceparent, "X-Forwarded-For": "203.0.113.9"}
    answer = client.post("/v1/predict", json=FLOWER, headers=sent)
    (line,) = said()
    assert answer.json
    assert line.pop("time").endswith("+00:00")
    assert 0 < line.pop("duration_ms") < 10_000
    assert len(line.pop("inputs_digest")) == 16
    assert line.pop("queue_ms") >= 0
    assert line.pop("process")
    assert line == {
        "level": "info",
        "event": "request",
        "request_id": "abc",
        "traceparent": traceparent,
        "method": "POST",
        "route": "/v1/predict",
        "status": 200,
        "key": "shop",
        "client": "203.0.113.9",
        "rows": 1,
        "model_version": answer.json["model_version"],
        "label": "virginica",
        "confidence": answer.json["confidence"],
    }


def test_equal_inputs_have_equal_digests(client: FlaskClient, said: Any) -> None:
    """In any order of the fields; other inputs have others."""
    turned = dict(reversed(FLOWER.items()))
    for body in (FLOWER, turned, FLOWER | {"sepal_width": 3.1}):
        client.post("/v1/predict", json=body)
    first, second, third = (line["inputs_digest"] for line in said())
    assert first == second != third


def test_a_digest_says_nothing_to_who_guesses_the_input(trained: Path, said: Any) -> None:
    """Each run has its own: four short numbers could else be searched for."""
    for _ in range(2):
        app = create_app(Settings(model_dir=trained))
        key = app.extensions["iris_api"].keys.own_key
        app.test_client().post("/v1/predict", json=FLOWER, headers={"X-API-Key": key})
    first, second = said()
    assert first["inputs_digest"] != second["inputs_digest"]


def test_a_batch_has_the_rows_of_each_class(client: FlaskClient, said: Any) -> None:
    """And its mean confidence."""
    client.post("/v1/predict", json=[FLOWER, FLOWER, dict.fromkeys(FLOWER, 1.0)])
    (line,) = said()
    assert sum(line["labels"].values()) == line["rows"] == 3
    assert line["labels"]["virginica"] >= 2
    assert 0.3 < line["confidence"] <= 1


def test_what_waits_to_be_written_holds_no_batch(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of lines may wait; of a batch there is only what its line says."""
    held: list[RequestLogRecord] = []
    monkeypatch.setattr(recording.logger, "handle", held.append)
    client.post("/v1/predict", json=[FLOWER] * 1_000)
    client.post("/v1/predict", json=FLOWER)
    batch, single = held
    assert vars(batch)["msg"]["rows"] == 1_000
    assert vars(batch)["_arguments"] is None
    assert "msg" not in vars(single), "a line is made when it is written"
    assert single.msg["rows"] == 1


def test_a_refusal_says_why(client: FlaskClient, said: Any) -> None:
    """In the word that the metrics count it under; a path that matched nothing is not repeated."""
    client.post("/v1/predict", json={})
    client.get("/secret-path")
    contract, nowhere = said()
    assert (contract["status"], contract["refused"]) == (422, "contract")
    assert (nowhere["route"], nowhere["refused"], nowhere["status"]) == (None, "not-found", 404)
    assert "secret-path" not in json.dumps(nowhere)


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready", "/metrics"])
def test_probes_and_scrapes_are_not_logged(client: FlaskClient, said: Any, path: str) -> None:
    """They come every few seconds and say nothing new."""
    assert client.get(path).status_code == 200
    assert said() == []


@pytest.mark.parametrize("path", ["/metrics", "/static/nothing"])
def test_a_refused_scrape_is_logged(stranger: FlaskClient, said: Any, path: str) -> None:
    """Whoever tries keys there is seen."""
    stranger.get(path, headers={"X-API-Key": "guess"})
    (line,) = said()
    assert (line["level"], line["refused"]) == (
        ("info", "wrong-key") if path == "/metrics" else ("info", "not-found")
    )


def test_a_request_that_was_shed_is_a_warning(client: FlaskClient, said: Any) -> None:
    """Not an error of ours; and the time that it waited is told."""
    client.post("/v1/predict", json=FLOWER, headers={"X-Request-Start": "t=1.000"})
    (line,) = said()
    assert (line["level"], line["refused"]) == ("warning", "overloaded")
    assert line["queue_ms"] > 1e9


def test_the_debug_level_has_probes_too(trained: Path, key: Key, said: Any) -> None:
    """For whoever doubts that they come."""
    app = create_app(Settings(model_dir=trained, api_keys=key.entry, log_level="debug"))
    app.test_client().get("/health")
    (line,) = said()
    create_app(Settings(model_dir=trained, api_keys=key.entry))
    assert (line["level"], line["route"]) == ("debug", "/health")


HOSTILE = [
    '"',
    "\\",
    "a\tb",
    "\x7f",
    "\xff\xfe",
    "{}",
    "%s%n",
    "é\u202e",
    pytest.param("x" * 1_000_000, id="long"),
]


@pytest.mark.parametrize("text", HOSTILE)
def test_whatever_a_client_sends_a_line_is_one_small_object(
    client: FlaskClient, said: Any, text: str
) -> None:
    """In headers that are logged, in those that are not, and in the body."""
    names = ("HTTP_X_REQUEST_ID", "HTTP_TRACEPARENT", "HTTP_X_FORWARDED_FOR", "HTTP_USER_AGENT")
    hostile = dict.fromkeys(names, text.encode().decode("latin-1"))
    client.post("/v1/predict", json=[FLOWER, {text: text}], environ_overrides=hostile)
    (line,) = said()
    assert len(json.dumps(line)) < 1000
    assert text == "{}" or json.dumps(text)[1:-1] not in json.dumps(line)
    assert line["client"] == "127.0.0.1"
