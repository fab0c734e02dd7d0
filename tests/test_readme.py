from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from iris_api.settings import Settings, variable
from tests.constants import FLOWER, ROOT

if TYPE_CHECKING:
    from flask import Flask
    from flask.testing import FlaskClient

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """Fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def table(heading: str) -> list[list[str]]:
    """Cells of the table below a heading, without its head."""
    section = README.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_it_is_short() -> None:
    """A README is read when it can be."""
    assert len(README.splitlines()) <= 150


def test_the_settings_table_is_the_settings() -> None:
    """Each setting with its default and its sentence, in order, and no other."""
    source = (ROOT / "iris_api" / "settings.py").read_text()
    expected = []
    for field, info in Settings.model_fields.items():
        default = info.default if info.default_factory is None else None
        shown = ",".join(default) if isinstance(default, tuple) else str(default or "")
        found = re.search(rf'^    {field}: .*?^    """(.*?)"""', source, re.MULTILINE | re.DOTALL)
        assert found, f"{field} has no sentence"
        sentence = found[1].replace("`max_rows`", "`IRIS_MAX_ROWS`")
        expected.append([f"`{variable(field)}`", f"`{shown}`" if shown else "", sentence])
    assert table("Settings") == expected


def test_the_routes_table_is_the_url_map(app: Flask) -> None:
    """Each route is there once."""
    told = [path for row in table("Routes") for path in re.findall(r"/[\w/.]*", row[0])]
    rules = [rule.rule for rule in app.url_map.iter_rules() if not rule.arguments]
    assert sorted(told) == sorted(rules)


def test_the_pasted_run_is_what_happens(client: FlaskClient) -> None:
    """The console block's body gives the console block's answer, but for the version."""
    (block,) = blocks("console")
    command, answer = block.strip().splitlines()
    body = re.search(r"-d '(.*)'", command)
    assert body
    given: Any = client.post("/v1/predict", json=json.loads(body[1])).json
    told = json.loads(answer)
    assert len(told.pop("model_version")) == len(given.pop("model_version"))
    assert given == told


@pytest.mark.parametrize(
    ("status", "request_"),
    [
        ("400", {"data": b"{", "content_type": "application/json"}),
        ("401", {"json": FLOWER, "headers": {"X-API-Key": "wrong"}}),
        ("404", {"path": "/nowhere"}),
        ("405", {"method": "PUT"}),
        ("413", {"json": [FLOWER] * 10_001}),
        ("415", {"data": b"x", "content_type": "text/plain"}),
        ("422", {"json": {}}),
    ],
)
def test_the_errors_table_holds(client: FlaskClient, status: str, request_: dict[str, Any]) -> None:
    """Each status that a client can cause is in the table, and happens."""
    assert any(status in row[0] for row in table("Errors"))
    given = client.open(**{"path": "/v1/predict", "method": "POST"} | request_)
    assert str(given.status_code) == status


def test_the_commands_are_targets_and_the_files_exist() -> None:
    """What the README names is there."""
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert f"\n{target}:" in makefile
    for name in ("deploy/README.md", "CONTRIBUTING.md", "Dockerfile", "train.py"):
        assert (ROOT / name).is_file()
