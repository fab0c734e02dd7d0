from __future__ import annotations

import multiprocessing
import shutil
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from iris_api import create_app
from iris_api.bundle.model import Model
from iris_api.monitoring.counter_directory import CounterDirectory, directory_for, installed
from iris_api.monitoring.metrics import Metrics
from iris_api.monitoring.prediction_counts import PredictionCounter
from iris_api.monitoring.storage import STORE
from iris_api.settings import Settings
from tests.conftest import FLOWER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def settings(trained: Path) -> Iterator[Settings]:
    """Settings of a server on a port that no other server uses."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings = Settings(model_dir=trained, port=listener.getsockname()[1])
        yield settings
    shutil.rmtree(directory_for(settings), ignore_errors=True)


def predict_and_wait(settings: Settings, ready: Any) -> None:
    """Count 300 flowers as a server does, then stay alive. Runs in a process of its own."""
    CounterDirectory(directory_for(settings)).install()
    model = Model.load(settings.model_dir, max_rows=1000)
    counter = PredictionCounter(Metrics(installed()), model)
    STORE.add(counter.increments(model.predict([FLOWER] * 300)))
    ready.send("counted")
    time.sleep(60)


def test_drift_is_reported_from_the_counters_of_a_running_server(settings: Settings) -> None:
    """The report has a verdict and two bars for each bin; without a server it is an error."""
    runner = create_app(settings).test_cli_runner()
    before = runner.invoke(args=["drift"])
    assert before.exit_code == 1
    assert f"no server of this user runs on 127.0.0.1, port {settings.port}" in before.output
    reading, writing = FORK.Pipe(duplex=False)
    server = FORK.Process(target=predict_and_wait, args=(settings, writing))
    server.start()
    try:
        assert reading.poll(60)
        assert reading.recv() == "counted"
        result = runner.invoke(args=["drift"])
    finally:
        server.kill()
        server.join()
    assert runner.invoke(args=["drift"]).exit_code == 1, "the server is dead"
    assert result.exit_code == 0
    assert result.output.startswith("drifted: 300 rows (100 are needed) since 20")
    assert "sepal_length (cm): drifted, PSI" in result.output
    assert "virginica  32.7 ░" in result.output
    assert f"100.0 {'█' * 40}\n" in result.output
