"""The files for Prometheus and Grafana agree with each other and with the service."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import requests

from iris_api.errors import IrisError
from iris_api.monitoring.drift import LARGE_PSI, LEAST_ROWS
from tests.constants import ROOT
from tests.system.conftest import PATIENCE, environment

from .files import (
    ALERTS,
    DASHBOARD,
    DEPLOY,
    README,
    RECORDED,
    RULE_TESTS,
    RULES,
    TARGETS,
    configure,
    metrics_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from flask import Flask

    from tests.system.conftest import Server

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def promtool(needs: Callable[[str], str]) -> Callable[..., None]:
    """Run promtool on the rules; it must succeed."""
    program = needs("promtool")

    def promtool(*arguments: str) -> None:
        done = subprocess.run(
            [program, *arguments], cwd=DEPLOY, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    return promtool


def test_the_configuration_is_valid(
    promtool: Callable[..., None], server: Server, tmp_path: Path
) -> None:
    """Promtool accepts the configuration, its key file and its rules."""
    promtool("check", "config", str(configure(tmp_path, server)))
    promtool("check", "rules", "rules.yml")


def test_the_rules_pass_their_unit_tests(promtool: Callable[..., None]) -> None:
    """Recorded values are right, and each alert fires when it should and only then."""
    promtool("test", "rules", "rules_test.yml")


def test_every_rule_has_a_unit_test() -> None:
    """Each recorded series has one, and each alert one that fires and one that does not."""
    queries = [one for test in RULE_TESTS for one in test.get("promql_expr_test", [])]
    assert RECORDED.keys() <= metrics_of(" ".join(one["expr"] for one in queries))
    for name in ALERTS:
        about = [one for one in queries if re.search(rf"ALERTS{{.*\b{name}\b.*firing", one["expr"])]
        assert any(one["exp_samples"] for one in about), name
        assert any(not one["exp_samples"] for one in about), name


def test_the_rules_use_the_thresholds_of_the_service() -> None:
    """Rules and docs use the least rows for a verdict and the large PSI of `monitoring.drift`."""
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
    """Each has a severity, a summary, a description and a runbook; the README lists all alerts."""
    for alert in ALERTS.values():
        assert alert["labels"]["severity"] in {"critical", "warning"}
        assert alert["annotations"].keys() == {"summary", "description", "runbook"}
    assert re.findall(r"^\| (Iris\w+) \| (\w+) \|", README, re.MULTILINE) == [
        (name, alert["labels"]["severity"]) for name, alert in ALERTS.items()
    ]


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_uses_only_labels_that_it_has(name: str) -> None:
    """The labels in its text are among those with which it fires in the unit tests."""
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


def test_runbooks_name_what_exists(app: Flask) -> None:
    """Refusal reasons, commands and alerts in runbooks are those of the service."""
    runbooks = " ".join(alert["annotations"]["runbook"] for alert in ALERTS.values())
    slugs = {kind.slug for kind in IrisError.__subclasses__()}
    reasons = set(re.findall(r"refused=([\w-]+)", runbooks))
    assert {"wrong-key", "not-authenticated", "overloaded"} == reasons
    assert reasons <= slugs
    commands = re.findall(r"flask --app wsgi (\w+)(?: (verify|show|rollback|list))?", runbooks)
    assert {name for name, _ in commands} == {"drift", "keys", "model"}
    for name, subcommand in commands:
        command: Any = app.cli.commands[name]
        assert not subcommand or subcommand in command.commands
    assert runbooks.count("flask --app") == runbooks.count(".venv/bin/flask --app wsgi ")
    assert set(re.findall(r"\bIris[A-Z]\w+", runbooks)) <= ALERTS.keys()


def test_the_key_of_the_readme_works(start: Callable[..., Server], tmp_path: Path) -> None:
    """A server with the key file of step 1 answers a scrape with the key of step 1."""
    (block,) = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for old, new in {
        ".venv/bin/flask": f"{shlex.quote(sys.executable)} -m flask",
        "keys.txt": shlex.quote(str(tmp_path / "keys.txt")),
        "sudo install -o prometheus ": "install ",
        "/etc/prometheus/iris-api.key": shlex.quote(str(tmp_path / "key")),
    }.items():
        assert old in block
        block = block.replace(old, new)
    subprocess.run(["sh", "-ec", block], cwd=ROOT, env=environment(), check=True)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    server = start(IRIS_API_KEYS="", IRIS_API_KEYS_FILE=str(tmp_path / "keys.txt"))
    bearer = {"Authorization": f"Bearer {(tmp_path / 'key').read_text().strip()}"}
    assert requests.get(f"{server.url}/metrics", headers=bearer, timeout=PATIENCE).ok


def test_drift_of_too_few_rows_is_not_drawn() -> None:
    """A panel with PSI shows it only where there is a verdict."""
    for expression in [target["expr"] for target in TARGETS]:
        for kind in re.findall(r"iris:(feature|class)_psi", expression):
            assert f" and iris:{kind}_drift:ratio1h{{" in expression


def test_panels_do_not_overlap() -> None:
    """Each panel has its own place, id and description."""
    occupied: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & occupied, panel["title"]
        occupied |= cells
        assert panel["description"].endswith(".")
    assert {x for x, _ in occupied} == set(range(24))
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


def test_the_rules_cover_the_routes_that_predict(app: Flask) -> None:
    """Ratios and latency are of all of them and of no other route."""
    routes = {rule.rule for rule in app.url_map.iter_rules() if "POST" in (rule.methods or ())}
    used = " ".join([rule["expr"] for rule in RULES] + [target["expr"] for target in TARGETS])
    assert {frozenset(result.split("|")) for result in re.findall(r'route=~"([^"]*)"', used)} == {
        frozenset(routes)
    }
