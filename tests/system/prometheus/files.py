"""What is in the files for Prometheus and Grafana."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import yaml

from tests.constants import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.conftest import Server

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
"""Values that Grafana fills in for the variables of a query."""


INTERVAL = 0.25
"""Seconds between two scrapes."""


def configure(directory: Path, server: Server) -> Path:
    """The configuration of deploy/ for this server, with its rules beside it."""
    (directory / "key").write_text(f"{server.key}\n")
    shutil.copy(DEPLOY / "rules.yml", directory)
    text = (DEPLOY / "prometheus.yml").read_text()
    for old, new in {
        "15s": f"{INTERVAL * 1000:.0f}ms",
        "127.0.0.1:8000": f"127.0.0.1:{server.port}",
        "/etc/prometheus/iris-api.key": str(directory / "key"),
    }.items():
        assert old in text
        text = text.replace(old, new)
    path = directory / "prometheus.yml"
    path.write_text(text)
    return path


def metrics_of(expressions: str) -> set[str]:
    """Names of metrics in PromQL; what is in quotes is not one."""
    return set(re.findall(r"\b(?:iris[_:][\w:]+|up)\b", re.sub(r'"[^"]*"', "", expressions)))


def filled_in(expression: str) -> str:
    """A query of the dashboard as Grafana asks it."""
    for variable, value in GRAFANA.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression
    return expression
