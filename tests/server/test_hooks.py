from __future__ import annotations

import gc
import json
import multiprocessing
import os
import shutil
import signal
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from gunicorn.http.errors import InvalidChunkSize
from prometheus_client import CollectorRegistry, Gauge

from iris_api import create_app
from iris_api.monitoring.counter_directory import CounterDirectory
from iris_api.monitoring.storage import read_metrics
from iris_api.server import hooks
from iris_api.server.shutdown import STOP_SIGNALS
from iris_api.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def server(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """What Gunicorn passes to its hooks: an app, a listener; and a directory of counters."""
    app = create_app(Settings(model_dir=trained))
    directory = CounterDirectory(tmp_path / "counters")
    monkeypatch.setattr(hooks, "installed", lambda: directory)
    threshold = gc.get_threshold()
    sigterm = signal.getsignal(signal.SIGTERM)
    server = SimpleNamespace(
        app=SimpleNamespace(wsgi=lambda: app),
        LISTENERS=["http://0.0.0.0:8000"],
        address=[("127.0.0.1", 8000)],
        reexec_pid=0,
        cfg=SimpleNamespace(is_ssl=False, protocol="http", http2_cleartext="off"),
        directory=directory,
    )
    yield server
    hooks.on_exit(server)
    signal.signal(signal.SIGTERM, sigterm)
    gc.unfreeze()
    gc.set_threshold(*threshold)
    directory.close()


def in_child(target: Any, *arguments: Any) -> None:
    child = FORK.Process(target=target, args=arguments)
    child.start()
    child.join(30)
    assert child.exitcode == 0


def test_a_server_that_is_ready_says_how_to_call_it(
    server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard error has a curl command with the key of this run; the log has no key."""
    hooks.on_starting(server)
    hooks.when_ready(server)
    printed = capsys.readouterr()
    key = server.app.wsgi().extensions["iris_api"].keys.own_key
    assert f"curl http://127.0.0.1:8000/v1/predict -H 'X-API-Key: {key}'" in printed.err
    (line,) = map(json.loads, printed.out.splitlines())
    assert (line["event"], line["address"]) == ("ready", "http://127.0.0.1:8000")
    assert key not in printed.out
    assert gc.get_freeze_count() > 10_000


def test_a_body_with_broken_framing_is_a_client_error(server: Any) -> None:
    """Gunicorn raises while the app reads it."""

    class Broken:
        def read(self, *_: int) -> bytes:
            raise InvalidChunkSize(b"zz")

    hooks.when_ready(server)
    app = server.app.wsgi()
    key = app.extensions["iris_api"].keys.own_key
    answer = app.test_client().post(
        "/v1/predict",
        headers={"X-API-Key": key, "Content-Type": "application/json"},
        environ_overrides={"wsgi.input": Broken(), "wsgi.input_terminated": True},
    )
    assert answer.status_code == 400
    assert "InvalidChunkSize" in answer.json["detail"]


def test_a_worker_follows_the_bundle_until_it_ends(server: Any) -> None:
    """It handles stop signals once it is ready."""
    worker = SimpleNamespace(app=server.app, ppid=os.getpid())
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    hooks.post_worker_init(worker)
    assert not STOP_SIGNALS & signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert worker.polling_thread.is_running()
    hooks.worker_exit(server, worker)
    assert not worker.polling_thread.is_running()


def test_a_worker_may_end_before_it_is_ready(server: Any) -> None:
    """There is no thread to stop yet."""
    hooks.worker_exit(server, SimpleNamespace())


def test_a_replacement_inherits_no_blocked_signal(server: Any) -> None:
    """It could not be stopped."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    hooks.pre_exec(server)
    assert not STOP_SIGNALS & signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_worker_without_a_slot_serves(server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """It logs that its requests are not counted."""
    shutil.rmtree(server.directory.path)
    hooks.post_fork(server, None)
    assert "worker_not_counted" in capsys.readouterr().out
    assert server.app.wsgi().test_client().get("/health").status_code == 200


def die_with_requests_in_flight(directory: CounterDirectory) -> None:
    directory.install()
    directory.claim()
    registry = CollectorRegistry()
    gauge = Gauge("held", "Of a test.", registry=registry, multiprocess_mode="livesum")
    gauge.inc(3)


def test_a_worker_start_is_counted_and_a_dead_workers_gauges_are_reset(server: Any) -> None:
    """Each worker has a slot of its own."""

    def values() -> dict[str, float]:
        metrics = read_metrics(server.directory.path)
        return {sample.name: sample.value for metric in metrics for sample in metric.samples}

    def start_worker() -> None:
        server.directory.install()
        hooks.post_fork(server, None)

    in_child(start_worker)
    assert values()["iris_worker_starts_total"] == 1
    in_child(die_with_requests_in_flight, server.directory)
    assert values()["held"] == 3
    hooks.child_exit(server, None)
    assert values()["held"] == 0


def test_the_directory_of_counters_is_removed_by_its_server_alone(server: Any) -> None:
    """A worker inherits what its server does at exit."""
    in_child(server.directory.close)
    assert server.directory.path.is_dir()
    server.directory.close()
    assert not server.directory.path.exists()


def test_a_server_reads_its_settings_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake made in them since does not end it at a reload."""
    installed: list[Path] = []
    monkeypatch.setattr(hooks, "directory_for", lambda _settings: tmp_path / "counters")
    monkeypatch.setattr(CounterDirectory, "install", lambda self: installed.append(self.path))
    monkeypatch.setattr("atexit.register", lambda *_: None)
    hooks.prepared.cache_clear()
    settings = hooks.prepared()
    monkeypatch.setenv("IRIS_NONSENSE", "1")
    assert hooks.prepared() is settings
    assert installed == [tmp_path / "counters"]
    hooks.prepared.cache_clear()


def test_without_a_directory_of_counters_hooks_do_nothing_about_it(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that was started another way than by our configuration counts in memory."""
    monkeypatch.setattr(hooks, "installed", lambda: None)
    worker = SimpleNamespace(app=server.app, ppid=os.getpid())
    for hook in (
        partial(hooks.when_ready, server),
        partial(hooks.post_fork, server, worker),
        partial(hooks.post_worker_init, worker),
        partial(hooks.child_exit, server, worker),
    ):
        hook()
    assert not hasattr(worker, "polling_thread")
