from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from iris_api import create_app
from iris_api.bundle.model import Model
from iris_api.cli import keys
from iris_api.monitoring.counter_directory import CounterDirectory, installed
from iris_api.monitoring.metrics import Metrics
from iris_api.monitoring.prediction_counts import PredictionCounter
from iris_api.monitoring.storage import STORE
from iris_api.settings import Settings
from iris_api.web.keys import digest_of
from tests.conftest import FLOWER, ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from flask import Flask

FORK = multiprocessing.get_context("fork")


def flask(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `flask --app wsgi` as an operator does."""
    return subprocess.run(
        [sys.executable, "-m", "flask", "--app", "wsgi", *command],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.system
def test_keys_are_added_listed_and_revoked(tmp_path: Path) -> None:
    """Before there is a key file or a model; the key alone goes to standard output."""
    nowhere = str(tmp_path / "no model")
    where = {"IRIS_API_KEYS_FILE": str(tmp_path / "keys"), "IRIS_MODEL_DIR": nowhere}
    added = flask("keys", "add", "shop", **where)
    key = added.stdout.strip()
    assert "only this once" in added.stderr
    assert flask("keys", "list", **where).stdout == f"shop  sha256:{digest_of(key)[:12]}\n"
    assert flask("keys", "revoke", "shop", **where).stdout == "Revoked shop.\n"
    assert flask("keys", "list", **where).stdout == ""


@pytest.mark.system
@pytest.mark.parametrize(
    ("command", "environment", "message"),
    [
        (["keys", "list"], {}, "Error: set IRIS_API_KEYS_FILE to the file"),
        (["keys", "list"], {"IRIS_API_KEYS_FILE": "/none"}, "Error: /none can't be read"),
        (["keys", "revoke", "x"], {"IRIS_API_KEYS_FILE": "/none"}, "Error: /none can't be read"),
        (["keys", "add", "a b"], {"IRIS_API_KEYS_FILE": "/none"}, "Error: 'a b' is no name"),
        (["keys", "list"], {"IRIS_KEYS": "x"}, "iris-api: IRIS_KEYS is not a setting"),
    ],
)
def test_an_operators_mistake_is_one_line_and_a_status(
    command: list[str], environment: dict[str, str], message: str
) -> None:
    """No traceback, whatever is wrong."""
    done = flask(*command, **environment)
    assert done.returncode == 1
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


def count_flowers(path: Path, trained: Path, done: Any) -> None:
    """What a server does that predicts 300 flowers; in a process of its own."""
    CounterDirectory(path).install()
    model = Model.load(trained, max_rows=1000)
    tally = PredictionCounter(Metrics(installed()), model)
    STORE.add(tally.increments(model.answer(json.dumps([FLOWER] * 300).encode())[1]))
    done.send("counted")
    time.sleep(60)


def test_drift_is_told_from_a_servers_counters(
    app: Flask, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verdict, and two bars for each bin; without a server, where it was looked for."""
    monkeypatch.setattr(keys, "directory_for", lambda _settings: tmp_path / "counters")
    none = app.test_cli_runner().invoke(args=["drift"])
    assert none.exit_code == 1
    assert "no server of this user runs on 127.0.0.1, port 8000" in none.output
    reading, writing = FORK.Pipe(duplex=False)
    child = FORK.Process(target=count_flowers, args=(tmp_path / "counters", trained, writing))
    child.start()
    assert reading.poll(60)
    assert reading.recv() == "counted"
    told = app.test_cli_runner().invoke(args=["drift"])
    child.kill()
    child.join()
    assert app.test_cli_runner().invoke(args=["drift"]).exit_code == 1, "it is dead"
    assert told.exit_code == 0
    assert told.output.startswith("drifted: 300 rows (100 are needed) since 20")
    assert "sepal_length (cm): drifted, PSI" in told.output
    assert "virginica  32.7 ░" in told.output
    assert f"100.0 {'█' * 40}\n" in told.output


def test_keys_are_managed_in_the_file_of_the_settings(trained: Path, tmp_path: Path) -> None:
    """The commands in one process: what they print, and what they refuse."""
    file = tmp_path / "keys"
    file.touch()
    runner = create_app(Settings(model_dir=trained, api_keys_file=file)).test_cli_runner()
    added = runner.invoke(args=["keys", "add", "shop"])
    assert added.exit_code == 0
    assert digest_of(added.stdout.strip()) in file.read_text()
    assert runner.invoke(args=["keys", "list"]).stdout.startswith("shop  sha256:")
    assert runner.invoke(args=["keys", "revoke", "shop"]).exit_code == 0
    again = runner.invoke(args=["keys", "revoke", "shop"])
    assert (again.exit_code, "has no key named shop" in again.output) == (1, True)
