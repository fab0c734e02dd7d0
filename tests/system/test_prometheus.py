from __future__ import annotations

import json
import math
import random
import re
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import requests
import yaml
from prometheus_client.parser import text_string_to_metric_families
from sklearn.datasets import load_iris

from tests.conftest import FLOWER

from .conftest import PATIENCE, ROOT, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .conftest import Server

pytestmark = pytest.mark.system

DEPLOY = ROOT / "deploy" / "prometheus"
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana" / "dashboard.json").read_text())
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((DEPLOY / "rules.yml").read_text())["groups"]
    for rule in group["rules"]
]
RECORDED = [rule["record"] for rule in RULES if "record" in rule]
TARGETS: list[dict[str, Any]] = [
    target for panel in DASHBOARD["panels"] for target in panel["targets"]
]
VARIABLES: list[str] = [
    variable["definition"]
    for variable in DASHBOARD["templating"]["list"]
    if variable["type"] == "query"
]
INTERVAL = 0.25
TOLERANCE = 0.01
"""`increase` extrapolates by up to a scrape interval: so all counts are too high by one factor.

Shares do not feel that, but for the half row that is added to each bin.
"""


@dataclass
class Prometheus:
    """A running Prometheus that scrapes a server every quarter of a second."""

    url: str
    server: Server
    rows: int
    """Rows that the server has predicted."""

    def ask(self, path: str, **parameters: str) -> Any:
        """What the API answers, which has to be a success."""
        answer = requests.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=PATIENCE)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series now."""
        found = self.ask("query", query=expression)["result"]
        return [(series["metric"], float(series["value"][1])) for series in found]

    def by(self, label: str, expression: str) -> dict[str, float]:
        """Value by a label that tells the series apart."""
        found = self.query(expression)
        values = {labels[label]: value for labels, value in found}
        assert len(values) == len(found)
        return values

    def drift(self) -> dict[str, Any]:
        """What the server itself says."""
        status, _, body = self.server.ask("GET", "/v1/drift")
        assert status == 200
        report: dict[str, Any] = json.loads(body)
        return report


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def configure(directory: Path, server: Server) -> Path:
    """The configuration of deploy/ for this server, with its rules beside it."""
    (directory / "key").write_text(f"{server.key}\n")
    shutil.copy(DEPLOY / "rules.yml", directory)
    text = (DEPLOY / "prometheus.yml").read_text()
    for ours, here in {
        "15s": f"{INTERVAL * 1000:.0f}ms",
        "127.0.0.1:8000": f"127.0.0.1:{server.port}",
        "/etc/prometheus/iris-api.key": str(directory / "key"),
    }.items():
        assert ours in text
        text = text.replace(ours, here)
    path = directory / "prometheus.yml"
    path.write_text(text)
    return path


def is_ready(url: str) -> bool:
    try:
        return requests.get(f"{url}/-/ready", timeout=PATIENCE).ok
    except requests.ConnectionError:
        return False


def predict(server: Server) -> int:
    """Predict training rows with longer petals, in batches and one by one, over some scrapes."""
    draw = random.Random(20)
    training = load_iris(return_X_y=True)[0].tolist()
    rows = 0
    for size in [40, 1, 1, 1, 25, 1, 1] * 8:
        batch = [dict(zip(FLOWER, row, strict=True)) for row in draw.choices(training, k=size)]
        for flower in batch:
            flower["petal_length"] += 1
        body = json.dumps(batch if size > 1 else batch[0]).encode()
        assert server.ask("POST", "/v1/predict", body)[0] == 200
        rows += size
        time.sleep(0.02)
    return rows


@pytest.fixture(scope="module")
def promtool(needs: Callable[[str], str]) -> Callable[..., None]:
    """Run promtool beside the rules; it has to be content."""
    program = needs("promtool")

    def promtool(*arguments: str) -> None:
        done = subprocess.run(
            [program, *arguments], cwd=DEPLOY, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    return promtool


@pytest.fixture(scope="module")
def prometheus(
    needs: Callable[[str], str],
    start: Callable[..., Server],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Prometheus]:
    """One that has seen a server from before its first prediction, and has counted all of them."""
    program = needs("prometheus")
    directory = tmp_path_factory.mktemp("prometheus")
    server = start()
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
        found = Prometheus(f"http://127.0.0.1:{port}", server, 0)
        wait_for(lambda: process.poll() is not None or is_ready(found.url), "Prometheus")
        assert process.poll() is None, log.read_text()
        zeros = 'count_over_time(iris_feature_rows_total{feature="petal_length"}[1m]) > 1'
        wait_for(lambda: len(found.query(zeros)) == 5, "zeros to rise from")
        wrong = {"X-API-Key": "wrong"}
        assert server.ask("POST", "/v1/predict", b"[]", wrong)[0] == 401
        found.rows = predict(server)
        wait_for(lambda: has_all(found), "all rows, and so many scrapes that each counts little")
        yield found
    finally:
        process.terminate()
        process.wait()


def has_all(prometheus: Prometheus) -> bool:
    """Whether each feature's rows and the classes' are all there, extrapolated by less than 2 %."""
    counts = prometheus.query("iris:feature_rows:sum_increase1h or iris:predictions:sum_increase1h")
    return len(counts) == 5 and all(
        math.isclose(rows, prometheus.rows, rel_tol=0.02) for _, rows in counts
    )


def test_the_configuration_is_valid(
    promtool: Callable[..., None], server: Server, tmp_path: Path
) -> None:
    """So says Prometheus' own tool of the configuration, its key's file and its rules."""
    promtool("check", "config", str(configure(tmp_path, server)))
    promtool("check", "rules", "rules.yml")


def test_the_rules_pass_their_unit_tests(promtool: Callable[..., None]) -> None:
    """Each recorded value is right, and each alert fires when it should and else does not."""
    promtool("test", "rules", "rules_test.yml")


def test_every_rule_has_a_unit_test() -> None:
    """No rule is added without one: each recorded series, and each alert both firing and silent."""
    tests = yaml.safe_load((DEPLOY / "rules_test.yml").read_text())["tests"]
    asked = " ".join(one["expr"] for test in tests for one in test.get("promql_expr_test", []))
    assert set(RECORDED) <= metrics_of(asked)
    alerts = [alert for test in tests for alert in test.get("alert_rule_test", [])]
    names = {rule["alert"] for rule in RULES if "alert" in rule}
    assert {alert["alertname"] for alert in alerts if alert["exp_alerts"]} == names
    assert {alert["alertname"] for alert in alerts if not alert["exp_alerts"]} == names


def test_every_alert_says_what_to_do() -> None:
    """Each has a severity, says what is wrong, and where to look."""
    for rule in RULES:
        if "alert" in rule:
            assert rule["labels"]["severity"] in {"critical", "warning"}
            assert rule["annotations"].keys() == {"summary", "description", "runbook"}


def test_every_rule_runs(prometheus: Prometheus) -> None:
    """On the metrics of a real server no rule fails, and each recorded series is there."""
    rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
    assert len(rules) == len(RULES)
    assert [rule for rule in rules if rule["health"] != "ok" or rule.get("lastError")] == []
    assert [name for name in RECORDED if not prometheus.query(name)] == []


def test_the_recorded_psi_is_that_of_the_service(prometheus: Prometheus) -> None:
    """Prometheus and GET /v1/drift agree on PSI and limit of each feature and of the classes."""
    report = prometheus.drift()
    assert report["rows"] == prometheus.rows
    psi = prometheus.by("feature", "iris:feature_psi:1h")
    limit = prometheus.by("feature", "iris:feature_psi_limit:1h")
    for feature in report["features"]:
        name = feature["feature"]
        assert psi.pop(name) == pytest.approx(feature["psi"], rel=TOLERANCE)
        assert limit.pop(name) == pytest.approx(feature["threshold"], rel=TOLERANCE)
    assert not psi
    assert not limit
    version, predictions = report["model_version"], report["predictions"]
    assert prometheus.by("model_version", "iris:class_psi:1h") == {
        version: pytest.approx(predictions["psi"], rel=TOLERANCE)
    }
    assert prometheus.by("model_version", "iris:class_psi_limit:1h") == {
        version: pytest.approx(predictions["threshold"], rel=TOLERANCE)
    }


def test_what_the_service_finds_drifted_is_about_to_raise_an_alert(prometheus: Prometheus) -> None:
    """The longer petals and no other feature, and the classes that come of them."""
    report = prometheus.drift()
    drifted = [
        feature["feature"] for feature in report["features"] if feature["verdict"] == "drifted"
    ]
    assert drifted == ["petal_length"]
    pending = prometheus.by("feature", 'ALERTS{alertname="IrisFeatureDrift"}')
    assert list(pending) == drifted
    assert report["predictions"]["verdict"] == "drifted"
    assert len(prometheus.query('ALERTS{alertname="IrisClassDrift"}')) == 1


@pytest.mark.parametrize("target", TARGETS, ids=[target["expr"] for target in TARGETS])
def test_every_query_of_the_dashboard_gives_data(
    prometheus: Prometheus, target: dict[str, Any]
) -> None:
    """Each runs and shows a number, with the labels that its legend names."""
    expression = target["expr"].replace("$job", "iris-api").replace("$model_version", ".*")
    assert "$" not in expression
    series = wait_for(
        lambda: [found for found in prometheus.query(expression) if math.isfinite(found[1])],
        expression,
    )
    for labels, _ in series:
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= labels.keys()


def test_no_rule_or_query_names_a_metric_that_is_not_there(prometheus: Prometheus) -> None:
    """All names are of the server's own exposition or of a recording rule."""
    exposition = prometheus.server.ask("GET", "/metrics")[2].decode()
    scraped = {
        sample.name
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    }
    used = [rule["expr"] for rule in RULES] + [target["expr"] for target in TARGETS] + VARIABLES
    assert metrics_of(" ".join(used)) - scraped - set(RECORDED) == {"up"}


def metrics_of(expressions: str) -> set[str]:
    """Names of metrics in PromQL; what is in quotes is not one."""
    return set(re.findall(r"\b(?:iris[_:][\w:]+|up)\b", re.sub(r'"[^"]*"', "", expressions)))
