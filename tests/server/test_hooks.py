from __future__ import annotations

import gc
import json
import multiprocessing
import os
import shutil
import signal
import socket
import time
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import gunicorn.util
import pytest
from prometheus_client.mmap_dict import MmapedDict

from iris_api import create_app
from iris_api.monitoring.counter_directory import CounterDirectory
from iris_api.server import hooks
from iris_api.server.shutdown import HELD
from iris_api.settings import Settings, listener_is_inherited

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flask import Flask


@pytest.fixture
def server(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """What Gunicorn hands its hooks: an app, a listener, and counters in a directory."""
    app = create_app(Settings(model_dir=trained))
    directory = CounterDirectory(tmp_path / "counters")
    monkeypatch.setattr(hooks, "installed", lambda: directory)
    monkeypatch.setattr(gunicorn.util, "write_error", None)
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


def counted(app: Flask, name: str) -> float:
    """The sum of an instrument's samples."""
    metrics = app.extensions["iris_api"].metrics.collect()
    return float(sum(s.value for metric in metrics for s in metric.samples if s.name == name))


def test_a_ready_server_says_how_to_call_it(
    server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """On stderr with the key of this run; the log on stdout has the address and no key."""
    hooks.on_starting(server)
    hooks.when_ready(server)
    said = capsys.readouterr()
    key = server.app.wsgi().extensions["iris_api"].keys.own_key
    assert f"curl http://127.0.0.1:8000/v1/predict -H 'X-API-Key: {key}'" in said.err
    (line,) = map(json.loads, said.out.splitlines())
    assert (line["event"], line["address"]) == ("ready", "http://127.0.0.1:8000")
    assert key not in said.out
    assert gc.get_freeze_count() > 10_000


def test_a_sigterm_is_a_drain_first_and_a_stop_then(server: Any) -> None:
    """A second one does not wait; and a server that has a successor has nothing to drain."""
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stopped.append(number))
    hooks.when_ready(server)
    drain: Any = signal.getsignal(signal.SIGTERM)
    drain(signal.SIGTERM, None)
    assert server.app.wsgi().extensions["iris_api"].drain.begun
    assert server.app.wsgi().test_client().get("/health/ready").status_code == 503
    assert stopped == []
    assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 1
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    time.sleep(0.1)
    assert stopped == [signal.SIGTERM]
    drain(signal.SIGTERM, None)
    assert len(stopped) == 2


def test_a_worker_follows_until_it_ends(server: Any) -> None:
    """And can be stopped from then on; so can the server that takes this one's place."""
    worker = SimpleNamespace(app=server.app, ppid=os.getpid())
    for ready in (partial(hooks.post_worker_init, worker), partial(hooks.pre_exec, server)):
        signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
        ready()
        assert not HELD & signal.pthread_sigmask(signal.SIG_BLOCK, ())
    hooks.worker_exit(server, worker)
    hooks.worker_exit(server, SimpleNamespace())


def test_a_worker_without_a_slot_serves_all_the_same(
    server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Counting is not worth an answer."""
    shutil.rmtree(server.directory.path)
    hooks.post_fork(server, None)
    assert "worker_not_counted" in capsys.readouterr().out
    assert server.app.wsgi().test_client().get("/health").status_code == 200


def test_a_taken_port_ends_the_start(server: Any) -> None:
    """Unless the listener comes from the server that is replaced."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        service = server.app.wsgi().extensions["iris_api"]
        service.settings = Settings(port=taken.getsockname()[1])
        server.address = [taken.getsockname()]
        with pytest.raises(SystemExit, match="Address already in use"):
            hooks.on_starting(server)


@pytest.mark.parametrize("address", [("192.0.2.1", 8000), ("127.0.0.1", 8001), "/unix.sock"])
def test_another_address_than_the_settings_ends_the_start(server: Any, address: Any) -> None:
    """Two servers with one address in their settings would count as one."""
    server.address = [address]
    with pytest.raises(SystemExit, match="set IRIS_HOST and PORT instead of --bind"):
        hooks.on_starting(server)


def test_an_inherited_listener_is_not_probed(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is taken, by its own server."""
    monkeypatch.setenv("LISTEN_FDS", "1")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server.address = [taken.getsockname()]
        assert listener_is_inherited()
        hooks.on_starting(server)  # Does not end the start, as it did above.


def hold(directory: CounterDirectory) -> None:
    """What a worker does that dies with three requests in its hands."""
    directory.claim()
    of: Any = MmapedDict
    gauge = of(str(directory.path / f"gauge_livesum_{directory.slot}.db"))
    gauge.write_value("in flight", 3.0, 0.0)


def values(file: Path) -> list[float]:
    of: Any = MmapedDict
    return [value for _, value, *_ in of.read_all_values_from_file(str(file))]


def test_a_worker_takes_a_slot_and_a_dead_ones_gauges_go(server: Any) -> None:
    """Each start is counted."""
    hooks.post_fork(server, None)
    assert server.directory.slot == "1"
    assert counted(server.app.wsgi(), "iris_worker_starts_total") == 1
    held = server.directory.path / "gauge_livesum_2.db"
    worker = multiprocessing.get_context("fork").Process(target=hold, args=(server.directory,))
    worker.start()
    worker.join()
    assert values(held) == [3.0]
    hooks.child_exit(server, None)
    assert values(held) == [0.0]


def test_gunicorns_own_refusals_are_problems_and_counted(server: Any) -> None:
    """With a request id, like all others."""
    service = server.app.wsgi().extensions["iris_api"]
    ours, theirs = socket.socketpair()
    with ours, theirs:
        hooks.write_problem(service, ours, 431, "", "Too many headers.")
        ours.close()
        head, _, body = theirs.recv(65536).partition(b"\r\n\r\n")
    problem = json.loads(body)
    assert head.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert problem["detail"] == "Too many headers."
    assert problem["request_id"].encode() in head
    assert counted(server.app.wsgi(), "iris_refused_requests_total") == 1
    assert counted(server.app.wsgi(), "iris_requests_total") == 1


def test_the_directory_goes_with_its_server(server: Any) -> None:
    """And not with a worker, which inherits what its server does at exit."""
    hooks._close(server.directory, owner=-1)
    assert server.directory.path.is_dir()
    hooks._close(server.directory, owner=os.getpid())
    assert not server.directory.path.exists()


def test_tls_is_not_ours(server: Any) -> None:
    """A worker would wait for the end of a head that never comes."""
    server.cfg.is_ssl = True
    with pytest.raises(SystemExit, match="TLS is nginx's"):
        hooks.on_starting(server)


@pytest.mark.parametrize(
    ("setting", "value"), [("protocol", "uwsgi"), ("http2_cleartext", "prior-knowledge")]
)
def test_other_protocols_are_not_spoken(server: Any, setting: str, value: str) -> None:
    """They would be taken for HTTP/1.1."""
    setattr(server.cfg, setting, value)
    with pytest.raises(SystemExit, match="leave --protocol"):
        hooks.on_starting(server)


def test_a_server_is_prepared_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a reload it keeps its settings, and a mistake in them does not end it."""
    made: list[Path] = []
    monkeypatch.setattr(hooks, "directory_for", lambda _settings: tmp_path / "counters")
    monkeypatch.setattr(CounterDirectory, "install", lambda self: made.append(self.path))
    monkeypatch.setattr("atexit.register", lambda *_: None)
    hooks.prepared.cache_clear()
    settings = hooks.prepared()
    monkeypatch.setenv("IRIS_NONSENSE", "1")
    assert hooks.prepared() is settings
    assert made == [tmp_path / "counters"]
    hooks.prepared.cache_clear()
