"""A real Prometheus that scrapes a real server by the files in `deploy/`."""

from __future__ import annotations

import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families
from sklearn.datasets import load_iris

from iris_api.monitoring.drift import LARGE_PSI
from tests.constants import FLOWER
from tests.system.conftest import PATIENCE, free_port, wait_for

from .files import (
    DASHBOARD,
    RECORDED,
    RULES,
    TARGETS,
    VARIABLES,
    configure,
    filled_in,
    metrics_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.system.conftest import Server

pytestmark = pytest.mark.system

TOLERANCE = 0.02
"""Relative error: `increase` extrapolates by up to a scrape interval, so all counts are too high.

Shares hardly change, as all counts grow by one factor; a limit that chance sets changes by half.
"""


@dataclass
class Prometheus:
    """A running Prometheus that scrapes a server four times a second."""

    url: str
    server: Server
    rows: int
    """Number of rows that the server has predicted."""

    def ask(self, path: str, **parameters: str) -> Any:
        """The data in a response of the API, which must be a success."""
        answer = requests.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=PATIENCE)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Current labels and value of each series."""
        result = self.ask("query", query=expression)["result"]
        return [(series["metric"], float(series["value"][1])) for series in result]

    def equals(self, label: str, series: str, expected: dict[str, Any]) -> bool:
        """Whether a series has these values, by a label."""
        return self.by(label, series) == expected

    def by(self, label: str, expression: str) -> dict[str, float]:
        """Values by a label that differs between the series.

        Waits for the series: on a busy machine a scrape can time out, and it is absent until the
        next one.
        """
        result = wait_for(lambda: self.query(expression), expression)
        values = {labels[label]: value for labels, value in result}
        assert len(values) == len(result)
        return values

    def drift(self) -> dict[str, Any]:
        """The server's own report."""
        status, _, body = self.server.ask("GET", "/v1/drift")
        assert status == 200
        report: dict[str, Any] = json.loads(body)
        return report

    def exposition(self) -> str:
        """The server's metrics as Prometheus scrapes them."""
        status, _, body = self.server.ask("GET", "/metrics")
        assert status == 200
        return body.decode()


def is_ready(url: str) -> bool:
    try:
        return requests.get(f"{url}/-/ready", timeout=PATIENCE).ok
    except requests.ConnectionError:
        return False


def predict(server: Server) -> int:
    """Predict training rows with longer petals, singly and in batches, over several scrapes.

    They are enough for a verdict, and so few that chance sets the limit of a feature.
    """
    draw = random.Random(20)
    training = load_iris(return_X_y=True)[0].tolist()
    rows = 0
    for size in [7, 1, 1, 1, 1] * 10:
        batch = [dict(zip(FLOWER, row, strict=True)) for row in draw.choices(training, k=size)]
        for flower in batch:
            flower["petal_length"] += 1
        body = json.dumps(batch if size > 1 else batch[0]).encode()
        assert server.ask("POST", "/v1/predict", body)[0] == 200
        rows += size
        time.sleep(0.02)
    return rows


@pytest.fixture(scope="module")
def prometheus(
    needs: Callable[[str], str],
    start: Callable[..., Server],
    trained: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Prometheus]:
    """A Prometheus that has scraped a server since before its first prediction."""
    program = needs("prometheus")
    directory = tmp_path_factory.mktemp("prometheus")
    server = start(IRIS_MODEL_DIR=str(shutil.copytree(trained, directory / "model")))
    port = free_port()
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={configure(directory, server)}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            cwd=directory,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        result = Prometheus(f"http://127.0.0.1:{port}", server, 0)
        wait_for(lambda: process.poll() is not None or is_ready(result.url), "Prometheus")
        assert process.poll() is None, log.read_text()
        zeros = 'count_over_time(iris_feature_rows_total{feature="petal_length"}[1m]) > 1'
        wait_for(lambda: len(result.query(zeros)) == 5, "zeros to rise from")
        wrong = {"X-API-Key": "wrong"}
        assert server.ask("POST", "/v1/predict", b"[]", wrong)[0] == 401
        result.rows = predict(server)
        wait_for(lambda: has_all(result), "all rows in enough scrapes")
        yield result
    finally:
        process.terminate()
        process.wait()


def has_all(prometheus: Prometheus) -> bool:
    """Whether the counts of features and classes are complete and hardly extrapolated."""
    counts = prometheus.query("iris:feature_rows:sum_increase1h or iris:predictions:sum_increase1h")
    return len(counts) == 5 and all(
        math.isclose(rows, prometheus.rows, rel_tol=TOLERANCE) for _, rows in counts
    )


def test_every_rule_runs(prometheus: Prometheus) -> None:
    """No rule fails on the metrics of a real server, and each recorded series exists."""
    rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
    assert len(rules) == len(RULES)
    assert [rule for rule in rules if rule["health"] != "ok" or rule.get("lastError")] == []
    for name in RECORDED:
        wait_for(partial(prometheus.query, name), name)


def test_the_recorded_psi_is_that_of_the_service(prometheus: Prometheus) -> None:
    """Prometheus and GET /v1/drift agree on PSI and limit of each feature and the classes."""
    report = prometheus.drift()
    assert report["rows"] == prometheus.rows
    thresholds = [feature["threshold"] for feature in report["features"]]
    assert min(thresholds) > LARGE_PSI, "chance alone has to pass the usual limit"
    assert report["predictions"]["threshold"] == LARGE_PSI
    version, features, classes = report["model_version"], report["features"], report["predictions"]
    for name, known in {"psi": "psi", "psi_limit": "threshold"}.items():
        of_features = {each["feature"]: near(each[known]) for each in features}
        for label, series, expected in (
            ("feature", f"iris:feature_{name}:1h", of_features),
            ("model_version", f"iris:class_{name}:1h", {version: near(classes[known])}),
        ):
            # A rule that is made of another one's series is an evaluation behind it.
            wait_for(partial(prometheus.equals, label, series, expected), series)


def test_what_the_service_calls_drifted_has_a_pending_alert(prometheus: Prometheus) -> None:
    """The longer petals and the classes drift, and no other feature."""
    report = prometheus.drift()
    drifted = [
        feature["feature"] for feature in report["features"] if feature["verdict"] == "drifted"
    ]
    assert drifted == ["petal_length"]
    pending = prometheus.by("feature", 'ALERTS{alertname="IrisFeatureDrift"}')
    assert list(pending) == drifted
    assert report["predictions"]["verdict"] == "drifted"
    pending = prometheus.by("model_version", 'ALERTS{alertname="IrisClassDrift"}')
    assert list(pending) == [report["model_version"]]


def test_no_other_alert_is_pending(prometheus: Prometheus) -> None:
    """Apart from the drift the server is healthy. The texts of alerts have all values filled in."""

    def only_drift() -> Any:
        alerts = prometheus.ask("alerts")["alerts"]
        names = {alert["labels"]["alertname"] for alert in alerts}
        return alerts if names == {"IrisFeatureDrift", "IrisClassDrift"} else None

    for alert in wait_for(only_drift, "the alerts of drift and no other"):
        annotations = json.dumps(alert["annotations"])
        assert "error" not in annotations
        assert "no value" not in annotations
        assert alert["labels"]["model_version"] in alert["annotations"]["description"]


@pytest.mark.parametrize("target", TARGETS, ids=[target["expr"] for target in TARGETS])
def test_every_query_of_the_dashboard_gives_data(
    prometheus: Prometheus, target: dict[str, Any]
) -> None:
    """It returns a number, with the labels that its legend names."""
    expression = filled_in(target["expr"])
    series = wait_for(
        lambda: [result for result in prometheus.query(expression) if math.isfinite(result[1])],
        expression,
    )
    for labels, _ in series:
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= labels.keys()


def test_every_query_of_the_dashboard_selects_job_and_version(
    prometheus: Prometheus,
) -> None:
    """Each metric is filtered by $job, and by $model_version if it has that label."""
    for expression in [target["expr"] for target in TARGETS]:
        for name, selector in re.findall(r"\b(iris[_:][\w:]+|up)\b(?:\{([^}]*)\})?", expression):
            labels = wait_for(partial(prometheus.query, name), name)[0][0]
            wanted = {"$job"} | ({"$model_version"} if "model_version" in labels else set())
            assert set(re.findall(r"\$\w+", selector)) == wanted, expression


def test_shares_of_the_dashboard_stay_below_one(prometheus: Prometheus) -> None:
    """Errors and refusals are shares of all prediction requests."""
    (panel,) = [panel for panel in DASHBOARD["panels"] if panel["title"] == "Errors and refusals"]
    (target,) = panel["targets"]
    for more in (">= 0", "> 0"):  # It has to be there before it can grow.
        assert prometheus.server.ask("GET", "/nowhere")[0] == 404
        elsewhere = f'iris:requests:rate5m{{route="unmatched"}} {more}'
        wait_for(partial(prometheus.query, elsewhere), elsewhere)
    shares = prometheus.by("status", filled_in(target["expr"]))
    wrong = shares.pop("401")
    assert wrong == pytest.approx(1 / (1 + 50), rel=0.1)
    assert set(shares.values()) == {0}


def test_every_metric_of_the_service_is_on_the_dashboard(prometheus: Prometheus) -> None:
    """Directly or by a recorded series. Shed requests are drawn once, as a reason of refusals."""
    drawn = metrics_of(" ".join([target["expr"] for target in TARGETS] + VARIABLES))
    grown = True
    while grown:
        more = metrics_of(" ".join(RECORDED[name] for name in drawn if name in RECORDED))
        grown = not more <= drawn
        drawn |= more
    families = {
        family.name
        for family in text_string_to_metric_families(prometheus.exposition())
        if not any(name.startswith(family.name) for name in drawn)
    }
    assert families == {"iris_shed_requests"}


def test_no_rule_or_query_names_an_unknown_metric(prometheus: Prometheus) -> None:
    """Each name is in the server's metrics or a recording rule."""
    scraped = {
        sample.name
        for family in text_string_to_metric_families(prometheus.exposition())
        for sample in family.samples
    }
    used = [rule["expr"] for rule in RULES] + [target["expr"] for target in TARGETS] + VARIABLES
    assert metrics_of(" ".join(used)) - scraped - RECORDED.keys() == {"up"}


def test_a_refused_model_raises_an_alert(prometheus: Prometheus) -> None:
    """The server serves on with the model before it, and logs the line that the runbook names.

    This test and the next break the server, so they come last.
    """
    server = prometheus.server
    (Path(server.settings["IRIS_MODEL_DIR"]) / "manifest.json").write_text("{}")
    wait_for(lambda: firing(prometheus, "IrisModelRefused"), "the alert")
    lines = [json.loads(line) for line in server.log_text.splitlines() if line.startswith("{")]
    assert [line["reason"] for line in lines if line["event"] == "model_refused"]
    assert server.predicts()


def test_workers_that_die_raise_an_alert(prometheus: Prometheus) -> None:
    """One dead worker raises none, several do."""
    restarts = "changes(iris_worker_starts_total[15m])"
    for died in range(1, 6):
        assert not firing(prometheus, "IrisWorkersRestarting")
        before = prometheus.query(restarts)[0][1]
        os.kill(prometheus.server.workers()[0], signal.SIGKILL)
        wait_for(partial(prometheus.query, f"{restarts} > {before}"), f"death {died}")
    wait_for(lambda: firing(prometheus, "IrisWorkersRestarting"), "the alert")


def near(value: float) -> Any:
    return pytest.approx(value, rel=TOLERANCE)


def firing(prometheus: Prometheus, alert: str) -> list[tuple[dict[str, str], float]]:
    """The series of an alert that fires."""
    return prometheus.query(f'ALERTS{{alertname="{alert}", alertstate="firing"}}')
