from __future__ import annotations

import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
import yaml
from prometheus_client.parser import text_string_to_metric_families
from sklearn.datasets import load_iris

from iris_api.errors import IrisError
from iris_api.monitoring.drift import LARGE_PSI, LEAST_ROWS
from tests.constants import FLOWER, ROOT

from .conftest import PATIENCE, environment, free_port, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flask import Flask

    from .conftest import Server

pytestmark = pytest.mark.system

DEPLOY = ROOT / "deploy" / "prometheus"
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana" / "dashboard.json").read_text())
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((DEPLOY / "rules.yml").read_text())["groups"]
    for rule in group["rules"]
]
RECORDED = {rule["record"]: " ".join(rule["expr"].split()) for rule in RULES if "record" in rule}
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RULE_TESTS: list[dict[str, Any]] = yaml.safe_load((DEPLOY / "rules_test.yml").read_text())["tests"]
README = (DEPLOY / "README.md").read_text()
TARGETS: list[dict[str, Any]] = [
    target for panel in DASHBOARD["panels"] for target in panel["targets"]
]
VARIABLES: list[str] = [
    variable["definition"]
    for variable in DASHBOARD["templating"]["list"]
    if variable["type"] == "query"
]
GRAFANA = {"$job": "iris-api", "$model_version": ".*", "$__rate_interval": "1m"}
"""What Grafana puts into a query."""
INTERVAL = 0.25
TOLERANCE = 0.02
"""`increase` extrapolates by up to a scrape interval: so all counts are too high by one factor.

Shares do not feel that, but for the half row that is added to each bin; a limit that is chance's
feels about half of it.
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

    def says(self, label: str, series: str, expected: dict[str, Any]) -> bool:
        """Whether the values of a series are as expected, by a label."""
        return self.by(label, series) == expected

    def by(self, label: str, expression: str) -> dict[str, float]:
        """Value by a label that tells the series apart.

        A scrape of a busy machine may take longer than the quarter of a second between two: then
        what rests on it is gone until the next.
        """
        found = wait_for(lambda: self.query(expression), expression)
        values = {labels[label]: value for labels, value in found}
        assert len(values) == len(found)
        return values

    def drift(self) -> dict[str, Any]:
        """What the server itself says."""
        status, _, body = self.server.ask("GET", "/v1/drift")
        assert status == 200
        report: dict[str, Any] = json.loads(body)
        return report

    def exposition(self) -> str:
        """The server's metrics as they are scraped."""
        status, _, body = self.server.ask("GET", "/metrics")
        assert status == 200
        return body.decode()


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
    """Predict training rows with longer petals, in batches and one by one, over some scrapes.

    They are enough for a verdict, and so few that a feature's limit is what chance can do.
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
    trained: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Prometheus]:
    """One that has seen a server from before its first prediction, and has counted all of them."""
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
    """Whether each feature's rows and the classes' are all there, and hardly extrapolated."""
    counts = prometheus.query("iris:feature_rows:sum_increase1h or iris:predictions:sum_increase1h")
    return len(counts) == 5 and all(
        math.isclose(rows, prometheus.rows, rel_tol=TOLERANCE) for _, rows in counts
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
    asked = [one for test in RULE_TESTS for one in test.get("promql_expr_test", [])]
    assert RECORDED.keys() <= metrics_of(" ".join(one["expr"] for one in asked))
    for name in ALERTS:
        about = [one for one in asked if re.search(rf"ALERTS{{.*\b{name}\b.*firing", one["expr"])]
        assert any(one["exp_samples"] for one in about), name
        assert any(not one["exp_samples"] for one in about), name


def test_the_rules_know_the_numbers_of_the_service() -> None:
    """Rows for a verdict and large PSI are those of `iris_api.drift`, here and in the docs."""
    for kind in ("feature", "class"):
        ratio, limit = RECORDED[f"iris:{kind}_drift:ratio1h"], RECORDED[f"iris:{kind}_psi_limit:1h"]
        assert ratio.endswith(f" >= {LEAST_ROWS}")
        assert re.fullmatch(rf"clamp_min\(.*, {LARGE_PSI} \)", limit)
    texts = README + json.dumps([panel["description"] for panel in DASHBOARD["panels"]])
    assert set(re.findall(r"(?:larger of|limit is) ([\d.]+\d)", texts)) == {str(LARGE_PSI)}
    assert set(re.findall(r"(?:below|from|fewer than) (\d+)\b(?= rows|\.)", texts)) == {
        str(LEAST_ROWS)
    }


def test_every_alert_says_what_to_do() -> None:
    """Each has a severity, says what is wrong, and where to look; the README lists all of them."""
    for alert in ALERTS.values():
        assert alert["labels"]["severity"] in {"critical", "warning"}
        assert alert["annotations"].keys() == {"summary", "description", "runbook"}
    assert re.findall(r"^\| (Iris\w+) \| (\w+) \|", README, re.MULTILINE) == [
        (name, alert["labels"]["severity"]) for name, alert in ALERTS.items()
    ]


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_names_labels_that_it_has(name: str) -> None:
    """Those in its text are among those that it fires with in the unit tests."""
    written = set(re.findall(r"\$labels\.(\w+)", json.dumps(ALERTS[name]["annotations"])))
    fired = [
        set(re.findall(r'(\w+)="', sample["labels"]))
        for test in RULE_TESTS
        for one in test.get("promql_expr_test", [])
        for sample in one["exp_samples"]
        if f'alertname="{name}"' in sample["labels"]
    ]
    assert fired
    assert all(written <= labels for labels in fired)


def test_runbooks_speak_of_what_there_is(app: Flask) -> None:
    """Log fields are told apart from metrics; reasons and commands are those of the service."""
    runbooks = " ".join(alert["annotations"]["runbook"] for alert in ALERTS.values())
    slugs = {kind.slug for kind in IrisError.__subclasses__()}
    told = set(re.findall(r"refused=([\w-]+)", runbooks))
    assert {"wrong-key", "not-authenticated", "overloaded"} == told
    assert told <= slugs
    commands = re.findall(r"flask --app wsgi (\w+)(?: (verify|show|rollback|list))?", runbooks)
    assert {name for name, _ in commands} == {"drift", "keys", "model"}
    for name, subcommand in commands:
        command: Any = app.cli.commands[name]
        assert not subcommand or subcommand in command.commands
    assert runbooks.count("flask --app") == runbooks.count(".venv/bin/flask --app wsgi ")
    assert set(re.findall(r"\bIris[A-Z]\w+", runbooks)) <= ALERTS.keys()


def test_the_key_of_the_readme_works(start: Callable[..., Server], tmp_path: Path) -> None:
    """Step 1 as it stands, but for the places: a server with that file answers the scrape."""
    (block,) = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for ours, here in {
        ".venv/bin/flask": f"{sys.executable} -m flask",
        "keys.txt": str(tmp_path / "keys.txt"),
        "sudo install -o prometheus ": "install ",
        "/etc/prometheus/iris-api.key": str(tmp_path / "key"),
    }.items():
        assert ours in block
        block = block.replace(ours, here)
    subprocess.run(["sh", "-ec", block], cwd=ROOT, env=environment(), check=True)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    server = start(IRIS_API_KEYS="", IRIS_API_KEYS_FILE=str(tmp_path / "keys.txt"))
    bearer = {"Authorization": f"Bearer {(tmp_path / 'key').read_text().strip()}"}
    assert requests.get(f"{server.url}/metrics", headers=bearer, timeout=PATIENCE).ok


def test_every_rule_runs(prometheus: Prometheus) -> None:
    """On the metrics of a real server no rule fails, and each recorded series is there."""
    rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
    assert len(rules) == len(RULES)
    assert [rule for rule in rules if rule["health"] != "ok" or rule.get("lastError")] == []
    for name in RECORDED:
        wait_for(partial(prometheus.query, name), name)


def test_the_recorded_psi_is_that_of_the_service(prometheus: Prometheus) -> None:
    """Prometheus and GET /v1/drift agree on PSI and limit of each feature and of the classes."""
    report = prometheus.drift()
    assert report["rows"] == prometheus.rows
    thresholds = [feature["threshold"] for feature in report["features"]]
    assert min(thresholds) > LARGE_PSI, "chance alone has to pass the usual limit"
    assert report["predictions"]["threshold"] == LARGE_PSI
    version, features, classes = report["model_version"], report["features"], report["predictions"]
    for told, known in {"psi": "psi", "psi_limit": "threshold"}.items():
        of_features = {each["feature"]: near(each[known]) for each in features}
        for label, series, expected in (
            ("feature", f"iris:feature_{told}:1h", of_features),
            ("model_version", f"iris:class_{told}:1h", {version: near(classes[known])}),
        ):
            # A rule that is made of another one's series is an evaluation behind it.
            wait_for(partial(prometheus.says, label, series, expected), series)


def near(value: float) -> Any:
    return pytest.approx(value, rel=TOLERANCE)


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
    pending = prometheus.by("model_version", 'ALERTS{alertname="IrisClassDrift"}')
    assert list(pending) == [report["model_version"]]


def test_no_other_alert_is_about_to_fire(prometheus: Prometheus) -> None:
    """On a server that is well but for the drift; and what an alert says is all filled in."""

    def only_drift() -> Any:
        alerts = prometheus.ask("alerts")["alerts"]
        names = {alert["labels"]["alertname"] for alert in alerts}
        return alerts if names == {"IrisFeatureDrift", "IrisClassDrift"} else None

    for alert in wait_for(only_drift, "the alerts of drift and no other"):
        said = json.dumps(alert["annotations"])
        assert "error" not in said
        assert "no value" not in said
        assert alert["labels"]["model_version"] in alert["annotations"]["description"]


@pytest.mark.parametrize("target", TARGETS, ids=[target["expr"] for target in TARGETS])
def test_every_query_of_the_dashboard_gives_data(
    prometheus: Prometheus, target: dict[str, Any]
) -> None:
    """Each runs and shows a number, with the labels that its legend names."""
    expression = filled_in(target["expr"])
    series = wait_for(
        lambda: [found for found in prometheus.query(expression) if math.isfinite(found[1])],
        expression,
    )
    for labels, _ in series:
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= labels.keys()


def test_every_query_of_the_dashboard_is_of_the_job_and_version_that_are_chosen(
    prometheus: Prometheus,
) -> None:
    """Each metric in it is selected by $job, and by $model_version if it has that label."""
    for expression in [target["expr"] for target in TARGETS]:
        for name, selector in re.findall(r"\b(iris[_:][\w:]+|up)\b(?:\{([^}]*)\})?", expression):
            labels = wait_for(partial(prometheus.query, name), name)[0][0]
            wanted = {"$job"} | ({"$model_version"} if "model_version" in labels else set())
            assert set(re.findall(r"\$\w+", selector)) == wanted, expression


def test_shares_of_the_dashboard_stay_below_one(prometheus: Prometheus) -> None:
    """Errors and refusals together are those of all prediction requests that there were."""
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


def test_drift_of_too_few_rows_is_not_shown() -> None:
    """A panel that could call it drifted asks for what has a verdict."""
    for expression in [target["expr"] for target in TARGETS]:
        for kind in re.findall(r"iris:(feature|class)_psi", expression):
            assert f" and iris:{kind}_drift:ratio1h{{" in expression


def test_every_metric_of_the_service_is_on_the_dashboard(prometheus: Prometheus) -> None:
    """By itself or by a recorded series; but shedding is drawn once, as a reason of refusals."""
    shown = metrics_of(" ".join([target["expr"] for target in TARGETS] + VARIABLES))
    grown = True
    while grown:
        more = metrics_of(" ".join(RECORDED[name] for name in shown if name in RECORDED))
        grown = not more <= shown
        shown |= more
    families = {
        family.name
        for family in text_string_to_metric_families(prometheus.exposition())
        if not any(name.startswith(family.name) for name in shown)
    }
    assert families == {"iris_shed_requests"}


def test_panels_do_not_overlap() -> None:
    """Each has a place and an id of its own, and says what it shows."""
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["description"].endswith(".")
    assert {x for x, _ in taken} == set(range(24))
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


def test_the_rules_know_the_routes_that_predict(app: Flask) -> None:
    """Ratios and latency are of all of them, and of no other."""
    routes = {rule.rule for rule in app.url_map.iter_rules() if "POST" in (rule.methods or ())}
    used = " ".join([rule["expr"] for rule in RULES] + [target["expr"] for target in TARGETS])
    assert {frozenset(found.split("|")) for found in re.findall(r'route=~"([^"]*)"', used)} == {
        frozenset(routes)
    }


def test_no_rule_or_query_names_a_metric_that_is_not_there(prometheus: Prometheus) -> None:
    """All names are of the server's own exposition or of a recording rule."""
    scraped = {
        sample.name
        for family in text_string_to_metric_families(prometheus.exposition())
        for sample in family.samples
    }
    used = [rule["expr"] for rule in RULES] + [target["expr"] for target in TARGETS] + VARIABLES
    assert metrics_of(" ".join(used)) - scraped - RECORDED.keys() == {"up"}


def test_a_refused_model_raises_an_alert(prometheus: Prometheus) -> None:
    """While the one before it serves on; and the log has the line that the runbook names.

    This and what follows breaks the server: it comes after all that needs it well.
    """
    server = prometheus.server
    (Path(server.settings["IRIS_MODEL_DIR"]) / "manifest.json").write_text("{}")
    wait_for(lambda: firing(prometheus, "IrisModelRefused"), "the alert")
    lines = [json.loads(line) for line in server.log_text.splitlines() if line.startswith("{")]
    assert [line["reason"] for line in lines if line["event"] == "model_refused"]
    assert server.predicts()


def test_workers_that_die_raise_an_alert(prometheus: Prometheus) -> None:
    """Not one of them, but one after the other."""
    seen = "changes(iris_worker_starts_total[15m])"
    for died in range(1, 6):
        assert not firing(prometheus, "IrisWorkersRestarting")
        before = prometheus.query(seen)[0][1]
        os.kill(prometheus.server.workers()[0], signal.SIGKILL)
        wait_for(partial(prometheus.query, f"{seen} > {before}"), f"death {died}")
    wait_for(lambda: firing(prometheus, "IrisWorkersRestarting"), "the alert")


def metrics_of(expressions: str) -> set[str]:
    """Names of metrics in PromQL; what is in quotes is not one."""
    return set(re.findall(r"\b(?:iris[_:][\w:]+|up)\b", re.sub(r'"[^"]*"', "", expressions)))


def filled_in(expression: str) -> str:
    """A query of the dashboard as Grafana asks it."""
    for variable, value in GRAFANA.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression
    return expression


def firing(prometheus: Prometheus, alert: str) -> list[tuple[dict[str, str], float]]:
    """The series of an alert that fires."""
    return prometheus.query(f'ALERTS{{alertname="{alert}", alertstate="firing"}}')
