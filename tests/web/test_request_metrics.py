from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from iris_api import create_app
from iris_api.monitoring.prediction_counts import PredictionCounter
from iris_api.settings import Settings
from tests.conftest import FLOWER, Key

if TYPE_CHECKING:
    from pathlib import Path

    from flask.testing import FlaskClient


@pytest.fixture
def counting(trained: Path, key: Key) -> FlaskClient:
    """A client of an app that has counted nothing yet."""
    client = create_app(Settings(model_dir=trained, api_keys=key.entry)).test_client()
    client.environ_base["HTTP_X_API_KEY"] = key.secret
    return client


def scrape(client: FlaskClient) -> dict[tuple[str, ...], float]:
    """Values by name and label values."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_each_request_is_counted_by_route_and_status(counting: FlaskClient) -> None:
    """By the rule that matched, never by the path that was sent."""
    for path in ("/nowhere/1", "/nowhere/2", "/health"):
        counting.get(path)
    counting.post("/predict", json=FLOWER)
    counting.post("/predict", json={})
    counting.put("/predict")
    found = scrape(counting)
    told = {k[1:]: v for k, v in found.items() if k[0] == "iris_requests_total" and v}
    assert told == {
        ("unmatched", "404"): 2,
        ("/health", "200"): 1,
        ("/predict", "200"): 1,
        ("/predict", "422"): 1,
        ("unmatched", "405"): 1,
    }
    assert found["iris_request_duration_seconds_count", "/predict"] == 2
    assert found["iris_requests_in_flight",] == 1, "the scrape itself"


def test_predictions_are_counted_by_class_and_bin(counting: FlaskClient) -> None:
    """Of single rows and batches alike, and refused ones are not."""
    counting.post("/v1/predict", json=FLOWER)
    counting.post("/v1/predict", json=[FLOWER] * 9)
    counting.post("/v1/predict", json=[FLOWER, {}])
    found = scrape(counting)
    classes = {k[1]: v for k, v in found.items() if k[0] == "iris_predictions_total"}
    assert sorted(classes.values()) == [0, 0, 10]
    assert sum(v for k, v in found.items() if k[0] == "iris_feature_rows_total") == 40
    assert found["iris_request_rows_sum",] == 10
    assert sum(v for k, v in found.items() if k[0] == "iris_prediction_confidence_count") == 10


def test_refusals_are_counted_by_reason(counting: FlaskClient) -> None:
    """And failures of authentication by whether there was a key at all."""
    counting.post("/v1/predict", data=b"{", content_type="application/json")
    counting.post("/v1/predict", json=FLOWER, headers={"X-Request-Start": "t=1.000"})
    counting.get("/v1/model", headers={"X-API-Key": "wrong"})
    counting.environ_base.pop("HTTP_X_API_KEY")
    counting.get("/v1/model")
    counting.get("/nowhere")
    metrics = counting.application.extensions["iris_api"].metrics
    found = {
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
        assert found["iris_refused_requests_total", reason] == count
    assert found["iris_authentication_failures_total", "wrong"] == 1
    assert found["iris_authentication_failures_total", "missing"] == 1
    assert found["iris_shed_requests_total",] == 1


def test_callers_are_counted_by_the_name_of_their_key(counting: FlaskClient) -> None:
    """Whoever has none is not."""
    counting.post("/v1/predict", json=FLOWER)
    counting.post("/v1/predict", json={})
    counting.get("/v1/model", headers={"X-API-Key": "wrong"})
    found = scrape(counting)
    callers = {key: value for key, value in found.items() if key[0] == "iris_key_requests_total"}
    assert callers == {("iris_key_requests_total", "shop"): 2}


def test_the_wait_for_a_thread_is_measured(counting: FlaskClient) -> None:
    """From when the proxy had the request."""
    stamp = f"t={time.time() - 0.2:.3f}"
    counting.post("/v1/predict", json=FLOWER, headers={"X-Request-Start": stamp})
    assert 0.199 < scrape(counting)["iris_request_queue_seconds_sum",] < 1


def test_a_failure_while_counting_counts_a_request_once(
    counting: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And leaves nothing in flight."""
    monkeypatch.setattr(PredictionCounter, "increments", lambda *_: 1 / 0)
    assert counting.post("/v1/predict", json=FLOWER).status_code == 500
    monkeypatch.undo()
    found = scrape(counting)
    assert found["iris_requests_in_flight",] == 1, "the scrape itself"
    assert sum(v for k, v in found.items() if k[:2] == ("iris_requests_total", "/v1/predict")) == 1


def test_hostile_clients_make_no_series(counting: FlaskClient) -> None:
    """Methods, paths, keys and ids of theirs are no labels."""
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
def test_the_scraper_has_its_format(counting: FlaskClient, accept: str) -> None:
    """Prometheus text or OpenMetrics, whatever else it says of it."""
    answer = counting.get("/metrics", headers={"Accept": accept})
    assert answer.status_code == 200
    assert len(answer.content_type) < 100
    assert answer.mimetype == ("application/openmetrics-text" if "open" in accept else "text/plain")
    assert ("# EOF" in answer.text) == ("open" in accept)


def test_drift_is_told_of_what_was_predicted(counting: FlaskClient) -> None:
    """The same rows that the counters have."""
    counting.post("/v1/predict", json=[FLOWER] * 300)
    answer = counting.get("/v1/drift").json
    assert answer
    assert (answer["rows"], answer["verdict"]) == (300, "drifted")
    assert [sum(feature["live"]) for feature in answer["features"]] == [300] * 4
    assert answer["predictions"]["live"] == [0, 0, 300]
