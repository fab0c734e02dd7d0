from __future__ import annotations

import gc
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from iris_api import create_app
from iris_api.contract.tasks import Outcome
from iris_api.monitoring.prediction_counts import PredictionCounter
from iris_api.settings import Settings
from iris_api.web import recording
from tests.conftest import FLOWER, Key

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable
    from pathlib import Path

    from flask.testing import FlaskClient


@pytest.fixture
def read_lines(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[dict[str, Any]]]:
    """A function that returns the log lines that were written since it was last called."""

    def read_lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return read_lines


def test_a_prediction_is_logged(client: FlaskClient, read_lines: Any) -> None:
    """The line has the caller, the duration and the prediction, but neither input nor key."""
    traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    headers = {"X-Request-ID": "abc", "traceparent": traceparent, "X-Forwarded-For": "203.0.113.9"}
    answer = client.post("/v1/predict", json=FLOWER, headers=headers)
    (line,) = read_lines()
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


def test_equal_inputs_have_equal_digests(client: FlaskClient, read_lines: Any) -> None:
    """The order of the fields does not matter, and different inputs have different digests."""
    backwards = dict(reversed(FLOWER.items()))
    for body in (FLOWER, backwards, FLOWER | {"sepal_width": 3.1}):
        client.post("/v1/predict", json=body)
    first, second, third = (line["inputs_digest"] for line in read_lines())
    assert first == second != third


def test_a_digest_does_not_reveal_the_input(trained: Path, read_lines: Any) -> None:
    """Each run has a secret: otherwise all likely inputs could be tried."""
    for _ in range(2):
        app = create_app(Settings(model_dir=trained))
        key = app.extensions["iris_api"].keys.own_key
        app.test_client().post("/v1/predict", json=FLOWER, headers={"X-API-Key": key})
    first, second = read_lines()
    assert first["inputs_digest"] != second["inputs_digest"]


def test_the_line_of_a_batch_has_the_rows_of_each_class(
    client: FlaskClient, read_lines: Any
) -> None:
    """Its confidence is the mean over the rows."""
    client.post("/v1/predict", json=[FLOWER, FLOWER, dict.fromkeys(FLOWER, 1.0)])
    (line,) = read_lines()
    assert sum(line["labels"].values()) == line["rows"] == 3
    assert line["labels"]["virginica"] >= 2
    assert 0.3 < line["confidence"] <= 1


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> list[logging.LogRecord]:
    """Records of requests, held back before any handler writes them."""
    records: list[logging.LogRecord] = []
    monkeypatch.setattr(recording.logger, "handle", records.append)
    return records


def outcomes_in_memory(rows: int) -> int:
    """Outcomes with this number of rows that have not been released."""
    gc.collect()
    return sum(type(each) is Outcome and len(each) == rows for each in gc.get_objects())


def test_a_line_that_waits_does_not_keep_the_rows_of_a_batch(
    client: FlaskClient, held: list[logging.LogRecord]
) -> None:
    """Thousands of lines may wait; only the fields of a batch's line stay in memory."""
    client.post("/v1/predict", json=[FLOWER] * 1_001)
    client.post("/v1/predict", json=FLOWER)
    batch, single = held
    assert outcomes_in_memory(rows=1_001) == 0
    assert outcomes_in_memory(rows=1) == 1, "the fields of a single row are computed later"
    assert [batch.msg["rows"], single.msg["rows"]] == [1_001, 1]  # type: ignore[index]
    assert outcomes_in_memory(rows=1) == 0


def test_the_line_of_a_refusal_has_its_reason(client: FlaskClient, read_lines: Any) -> None:
    """It is the label of the metrics. A path without a route is not repeated."""
    client.post("/v1/predict", json={})
    client.get("/secret-path")
    invalid, unmatched = read_lines()
    assert (invalid["status"], invalid["refused"]) == (422, "contract")
    assert (unmatched["status"], unmatched["refused"]) == (404, "not-found")
    assert unmatched["route"] is None
    assert "secret-path" not in json.dumps(unmatched)


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready", "/metrics"])
def test_probes_and_scrapes_are_not_logged(client: FlaskClient, read_lines: Any, path: str) -> None:
    """They come every few seconds and are all alike."""
    assert client.get(path).status_code == 200
    assert read_lines() == []


@pytest.mark.parametrize(
    ("path", "reason"), [("/metrics", "wrong-key"), ("/static/nothing", "not-found")]
)
def test_a_refused_scrape_is_logged(
    stranger: FlaskClient, read_lines: Any, path: str, reason: str
) -> None:
    """A client that tries keys there shows up in the log."""
    stranger.get(path, headers={"X-API-Key": "guess"})
    (line,) = read_lines()
    assert (line["level"], line["refused"]) == ("info", reason)


def test_a_refusal_for_overload_is_a_warning(client: FlaskClient, read_lines: Any) -> None:
    """It is not an error of the service. The line has the time in the queue."""
    client.post("/v1/predict", json=FLOWER, headers={"X-Request-Start": "t=1.000"})
    (line,) = read_lines()
    assert (line["level"], line["refused"]) == ("warning", "overloaded")
    assert line["queue_ms"] > 1e9


def test_the_debug_level_logs_probes_too(trained: Path, key: Key, read_lines: Any) -> None:
    """An operator can check that they arrive."""
    app = create_app(Settings(model_dir=trained, api_keys=key.entry, log_level="debug"))
    app.test_client().get("/health")
    (line,) = read_lines()
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
def test_a_hostile_request_is_one_small_log_line(
    client: FlaskClient, read_lines: Any, text: str
) -> None:
    """The text is in headers that are logged, in others and in the body."""
    names = ("HTTP_X_REQUEST_ID", "HTTP_TRACEPARENT", "HTTP_X_FORWARDED_FOR", "HTTP_USER_AGENT")
    hostile = dict.fromkeys(names, text.encode().decode("latin-1"))
    client.post("/v1/predict", json=[FLOWER, {text: text}], environ_overrides=hostile)
    (line,) = read_lines()
    assert len(json.dumps(line)) < 1000
    assert text == "{}" or json.dumps(text)[1:-1] not in json.dumps(line)
    assert line["client"] == "127.0.0.1"


@pytest.fixture
def counting(trained: Path, key: Key) -> FlaskClient:
    """A client of a new application, whose counters are zero."""
    client = create_app(Settings(model_dir=trained, api_keys=key.entry)).test_client()
    client.environ_base["HTTP_X_API_KEY"] = key.secret
    return client


def scrape(client: FlaskClient) -> dict[tuple[str, ...], float]:
    """Values of `/metrics`, by name and label values."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_each_request_is_counted_by_route_and_status(counting: FlaskClient) -> None:
    """The route is the rule that matched, never the path of the request."""
    for path in ("/nowhere/1", "/nowhere/2", "/health"):
        counting.get(path)
    counting.post("/predict", json=FLOWER)
    counting.post("/predict", json={})
    counting.put("/predict")
    values = scrape(counting)
    requests = {k[1:]: v for k, v in values.items() if k[0] == "iris_requests_total" and v}
    assert requests == {
        ("unmatched", "404"): 2,
        ("/health", "200"): 1,
        ("/predict", "200"): 1,
        ("/predict", "422"): 1,
        ("unmatched", "405"): 1,
    }
    assert values["iris_request_duration_seconds_count", "/predict"] == 2
    assert values["iris_requests_in_flight",] == 1, "the scrape itself"


def test_predictions_are_counted_by_class_and_bin(counting: FlaskClient) -> None:
    """Single rows and rows of batches count alike; refused ones do not count."""
    counting.post("/v1/predict", json=FLOWER)
    counting.post("/v1/predict", json=[FLOWER] * 9)
    counting.post("/v1/predict", json=[FLOWER, {}])
    values = scrape(counting)
    classes = {k[1]: v for k, v in values.items() if k[0] == "iris_predictions_total"}
    assert sorted(classes.values()) == [0, 0, 10]
    assert sum(v for k, v in values.items() if k[0] == "iris_feature_rows_total") == 40
    assert values["iris_request_rows_sum",] == 10
    assert sum(v for k, v in values.items() if k[0] == "iris_prediction_confidence_count") == 10


def test_refusals_are_counted_by_reason(counting: FlaskClient) -> None:
    """Failed authentication is counted by whether a key was sent."""
    counting.post("/v1/predict", data=b"{", content_type="application/json")
    counting.post("/v1/predict", json=FLOWER, headers={"X-Request-Start": "t=1.000"})
    counting.get("/v1/model", headers={"X-API-Key": "wrong"})
    counting.environ_base.pop("HTTP_X_API_KEY")
    counting.get("/v1/model")
    counting.get("/nowhere")
    metrics = counting.application.extensions["iris_api"].metrics
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for metric in metrics.collect()
        for sample in metric.samples
    }
    for reason, count in {
        "invalid-json": 1,
        "overloaded": 1,
        "not-authenticated": 1,
        "wrong-key": 1,
        "not-found": 1,
    }.items():
        assert values["iris_refused_requests_total", reason] == count
    assert values["iris_authentication_failures_total", "wrong"] == 1
    assert values["iris_authentication_failures_total", "missing"] == 1
    assert values["iris_shed_requests_total",] == 1


def test_callers_are_counted_by_the_name_of_their_key(counting: FlaskClient) -> None:
    """A request without a valid key is not counted."""
    counting.post("/v1/predict", json=FLOWER)
    counting.post("/v1/predict", json={})
    counting.get("/v1/model", headers={"X-API-Key": "wrong"})
    values = scrape(counting)
    callers = {key: value for key, value in values.items() if key[0] == "iris_key_requests_total"}
    assert callers == {("iris_key_requests_total", "shop"): 2}


def test_the_wait_since_the_proxy_is_measured(counting: FlaskClient) -> None:
    """It ends when a thread begins with the request."""
    start = f"t={time.time() - 0.2:.3f}"
    counting.post("/v1/predict", json=FLOWER, headers={"X-Request-Start": start})
    assert 0.199 < scrape(counting)["iris_request_queue_seconds_sum",] < 1


def test_a_request_counts_once_if_counting_fails(
    counting: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is answered with a 500, and none stays in flight."""
    monkeypatch.setattr(PredictionCounter, "increments", lambda *_: 1 / 0)
    assert counting.post("/v1/predict", json=FLOWER).status_code == 500
    monkeypatch.undo()
    values = scrape(counting)
    assert values["iris_requests_in_flight",] == 1, "the scrape itself"
    assert sum(v for k, v in values.items() if k[:2] == ("iris_requests_total", "/v1/predict")) == 1


def test_a_client_can_not_add_time_series(counting: FlaskClient) -> None:
    """Its methods, paths, keys and ids are not labels."""
    series = []
    scrape(counting)
    for round_ in range(2):
        for number in range(30):
            name = f"{round_}-{number}"
            counting.open(f"/x{name}", method=f"M{number}", headers={"X-Request-ID": f"i{name}"})
            counting.get(f"/{'é' * number}{name}", headers={"X-API-Key": f"k{name}"})
            counting.get("/v1/model", headers={"X-API-Key": f"k{name}"})
        series.append({name for name in scrape(counting) if "/metrics" not in name})
    assert series[0] == series[1]


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "text/plain; version=1..0",
        "application/openmetrics-text; version=1.0.0",
        "application/openmetrics-text; version=abc",
        "application/openmetrics-text; version=" + "9" * 5000,
    ],
)
def test_metrics_are_written_in_the_format_of_the_scraper(
    counting: FlaskClient, accept: str
) -> None:
    """It is Prometheus text or OpenMetrics, whatever version the scraper asks for."""
    answer = counting.get("/metrics", headers={"Accept": accept})
    assert answer.status_code == 200
    assert len(answer.content_type) < 100
    assert answer.mimetype == ("application/openmetrics-text" if "open" in accept else "text/plain")
    assert ("# EOF" in answer.text) == ("open" in accept)


def test_the_drift_report_counts_the_predicted_rows(counting: FlaskClient) -> None:
    """Live rows are those of the counters."""
    counting.post("/v1/predict", json=[FLOWER] * 300)
    report = counting.get("/v1/drift").json
    assert report
    assert (report["rows"], report["verdict"]) == (300, "drifted")
    assert [sum(feature["live"]) for feature in report["features"]] == [300] * 4
    assert report["predictions"]["live"] == [0, 0, 300]
