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
    """Cells of the table below a heading, without its header."""
    section = README.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_the_readme_is_short() -> None:
    """At most 150 lines."""
    assert len(README.splitlines()) <= 150


def test_the_settings_table_is_complete() -> None:
    """Each setting with its default and its sentence, in order, and no other."""
    source = (ROOT / "iris_api" / "settings.py").read_text()
    expected = []
    for field, info in Settings.model_fields.items():
        default = info.default if info.default_factory is None else None
        text = ",".join(default) if isinstance(default, tuple) else str(default or "")
        match = re.search(rf'^    {field}: .*?^    """(.*?)"""', source, re.MULTILINE | re.DOTALL)
        assert match, f"{field} has no sentence"
        sentence = match[1].replace("`max_rows`", "`IRIS_MAX_ROWS`")
        expected.append([f"`{variable(field)}`", f"`{text}`" if text else "", sentence])
    assert table("Settings") == expected


def test_the_routes_table_is_complete(app: Flask) -> None:
    """Each route once, and no other."""
    paths = [path for row in table("Routes") for path in re.findall(r"/[\w/.]*", row[0])]
    rules = [rule.rule for rule in app.url_map.iter_rules() if not rule.arguments]
    assert sorted(paths) == sorted(rules)


def test_the_pasted_prediction_is_what_the_service_answers(client: FlaskClient) -> None:
    """Except for the model version."""
    (block,) = blocks("console")
    command, answer = block.strip().splitlines()
    body = re.search(r"-d '(.*)'", command)
    assert body
    response: Any = client.post("/v1/predict", json=json.loads(body[1])).json
    expected = json.loads(answer)
    assert len(expected.pop("model_version")) == len(response.pop("model_version"))
    assert response == expected


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
def test_the_errors_table_is_true(
    client: FlaskClient, status: str, request_: dict[str, Any]
) -> None:
    """Each status that a client can cause is in the table, and happens."""
    assert any(status in row[0] for row in table("Errors"))
    response = client.open(**{"path": "/v1/predict", "method": "POST"} | request_)
    assert str(response.status_code) == status


def test_the_commands_and_files_exist() -> None:
    """Make targets and files that the README names."""
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert f"\n{target}:" in makefile
    for name in ("deploy/README.md", "CONTRIBUTING.md", "Dockerfile", "train.py"):
        assert (ROOT / name).is_file()


def test_the_tests_in_the_threat_model_exist() -> None:
    """Each test that docs/security.md names is a function in tests/."""
    named = set(re.findall(r"::(test_\w+)", (ROOT / "docs" / "security.md").read_text()))
    sources = [path.read_text() for path in (ROOT / "tests").rglob("test_*.py")]
    existing = set(re.findall(r"^def (test_\w+)", "\n".join(sources), re.MULTILINE))
    assert named
    assert named <= existing, named - existing
