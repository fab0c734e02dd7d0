from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from iris_api import create_app
from iris_api.settings import Settings
from iris_api.web.keys import digest_of
from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


def flask(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `flask --app wsgi` in a process, as an operator does."""
    return subprocess.run(
        [sys.executable, "-m", "flask", "--app", "wsgi", *command],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def run(settings: Settings, *command: str) -> Result:
    """Run a command in this process."""
    return create_app(settings).test_cli_runner().invoke(args=command)


@pytest.fixture
def flask_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the application believe that `flask` started it, as it does for every command."""
    monkeypatch.setenv("FLASK_RUN_FROM_CLI", "true")


@pytest.mark.system
def test_a_key_is_made_before_there_is_a_key_file_or_a_model(tmp_path: Path) -> None:
    """`flask --app wsgi keys add` prints the key alone on stdout and stores its digest."""
    file = tmp_path / "keys"
    nowhere = str(tmp_path / "no model")
    added = flask("keys", "add", "shop", IRIS_API_KEYS_FILE=str(file), IRIS_MODEL_DIR=nowhere)
    assert added.returncode == 0
    assert "only this once" in added.stderr
    assert digest_of(added.stdout.strip()) in file.read_text()


@pytest.mark.usefixtures("flask_command")
def test_keys_are_added_listed_and_revoked(tmp_path: Path) -> None:
    """All commands work without a model; the list shows names and the beginnings of digests."""
    settings = Settings(model_dir=tmp_path / "no model", api_keys_file=tmp_path / "keys")
    added = run(settings, "keys", "add", "shop")
    assert added.exit_code == 0
    digest = digest_of(added.stdout.strip())
    assert run(settings, "keys", "list").output == f"shop  sha256:{digest[:12]}\n"
    assert run(settings, "keys", "revoke", "shop").output == "Revoked shop.\n"
    assert run(settings, "keys", "list").output == ""
    again = run(settings, "keys", "revoke", "shop")
    assert (again.exit_code, "has no key named shop" in again.output) == (1, True)


def test_keys_are_managed_while_there_is_a_model(trained: Path, tmp_path: Path) -> None:
    """The commands work in an application that has loaded its model and an empty key file."""
    file = tmp_path / "keys"
    file.touch()
    settings = Settings(model_dir=trained, api_keys_file=file)
    added = run(settings, "keys", "add", "shop")
    assert added.exit_code == 0
    assert digest_of(added.stdout.strip()) in file.read_text()


@pytest.mark.system
@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "Error: set IRIS_API_KEYS_FILE to the file"),
        ({"IRIS_KEYS": "x"}, "iris-api: IRIS_KEYS is not a setting"),
    ],
)
def test_a_mistake_in_the_settings_is_one_line_and_a_status(
    environment: dict[str, str], message: str
) -> None:
    """The process prints no traceback, whether a command or the application finds the mistake."""
    result = flask("keys", "list", **environment)
    assert result.returncode == 1
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1


@pytest.mark.usefixtures("flask_command")
@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["keys", "list"], "Error: /none can't be read"),
        (["keys", "revoke", "x"], "Error: /none can't be read"),
        (["keys", "add", "a b"], "Error: 'a b' is no"),
    ],
)
def test_a_mistake_in_a_command_is_one_line_and_a_status(
    tmp_path: Path, command: list[str], message: str
) -> None:
    """A key file that can't be read and a name that can't be used are errors for the operator."""
    result = run(Settings(model_dir=tmp_path, api_keys_file="/none"), *command)
    assert result.exit_code == 1
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1
