from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from iris_api.server.reload import BundleWatcher, ManifestFollower, PollingThread
from iris_api.settings import Settings
from iris_api.web.service import Service
from tests.conftest import reseal

from .running import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from iris_api.bundle.store import Bundle


@pytest.fixture
def service(model_dir: Path) -> Service:
    """The service of a server's first process."""
    return Service(Settings(model_dir=model_dir))


@pytest.fixture
def worker(model_dir: Path) -> Service:
    """The service of a worker, which has loaded the first model."""
    worker = Service(Settings(model_dir=model_dir))
    assert worker.model
    return worker


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """Where the first process publishes the manifest of its bundle."""
    return tmp_path / "published"


@pytest.fixture
def watcher(service: Service, published: Path) -> BundleWatcher:
    """A watcher that has seen the first bundle."""
    watcher = BundleWatcher(service, published)
    settle(watcher)
    return watcher


@pytest.fixture
def other(model_dir: Path, tmp_path: Path) -> Bundle:
    """Another version of the bundle, in another directory."""
    return reseal(shutil.copytree(model_dir, tmp_path / "other"), name="other")


@pytest.fixture
def log_lines(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[dict[str, Any]]]:
    """Log lines since the last call."""

    def log_lines() -> list[dict[str, Any]]:
        lines = capsys.readouterr().out.splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    return log_lines


@pytest.fixture(autouse=True)
def _logging(app: object) -> None:
    """The app configures the log."""


def settle(watcher: BundleWatcher) -> None:
    """Poll often enough for a change to be handled."""
    for _ in range(3):
        watcher.poll()


def swaps(service: Service) -> tuple[float, float]:
    """How many changes were activated, and how many refused."""
    outcomes = {
        sample.labels["outcome"]: sample.value
        for metric in service.metrics.collect()
        for sample in metric.samples
        if sample.name == "iris_model_swaps_total"
    }
    return outcomes["activated"], outcomes["refused"]


def test_another_version_is_activated_and_followed(
    watcher: BundleWatcher,
    service: Service,
    worker: Service,
    published: Path,
    other: Bundle,
    log_lines: Any,
) -> None:
    """The first process logs and counts it; a worker then loads it silently."""
    follower = ManifestFollower(worker, published)
    follower.poll()
    old = worker.model.version
    other.activate(service.settings.model_dir)
    follower.poll()
    assert worker.model.version == old, "nothing is published yet"
    settle(watcher)
    follower.poll()
    assert service.model.version == worker.model.version == other.manifest.version
    (line,) = log_lines()
    assert (line["event"], line["replaced"]) == ("model_activated", old)
    assert swaps(service) == (1, 0)


def test_a_bundle_is_not_loaded_while_it_is_written(
    watcher: BundleWatcher, service: Service, other: Bundle, model_dir: Path
) -> None:
    """A change is handled once two polls in a row have seen it."""
    other.activate(model_dir)
    for number in range(5):
        (model_dir / "notes").write_text(str(number))
        (model_dir / "manifest.json").touch()
        watcher.poll()
    assert service.model.version != other.manifest.version
    settle(watcher)
    assert service.model.version == other.manifest.version


def break_artefact(model_dir: Path) -> None:
    artefact = next(model_dir.glob("*/*.onnx"))
    artefact.write_bytes(artefact.read_bytes()[:-1])


def break_manifest(model_dir: Path) -> None:
    (model_dir / "manifest.json").write_text("{")


def remove(model_dir: Path) -> None:
    shutil.rmtree(model_dir)


@pytest.mark.parametrize("damage", [break_artefact, break_manifest, remove])
def test_a_broken_bundle_is_refused_and_the_old_model_serves(
    watcher: BundleWatcher,
    service: Service,
    model_dir: Path,
    trained: Path,
    log_lines: Any,
    damage: Callable[[Path], None],
) -> None:
    """It is logged and counted once, however long it lasts; the recovery is logged too."""
    old = service.model
    damage(model_dir)
    for _ in range(3):
        settle(watcher)
    assert service.model is old
    (line,) = log_lines()
    assert (line["level"], line["event"]) == ("error", "model_refused")
    assert line["model_version"] == old.version
    assert str(model_dir) in line["reason"]
    assert swaps(service) == (0, 1)
    shutil.copytree(trained, model_dir, dirs_exist_ok=True)
    settle(watcher)
    assert [line["event"] for line in log_lines()] == ["model_recovered"]
    assert swaps(service) == (0, 1)


def test_a_worker_that_can_not_load_the_bundle_exits(
    watcher: BundleWatcher,
    worker: Service,
    published: Path,
    other: Bundle,
    model_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once. Its replacement forks from a process that has the version."""
    monkeypatch.setattr(ManifestFollower, "exit_spread", 0)
    signals: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: signals.append((pid, number)))
    follower = ManifestFollower(worker, published)
    other.activate(model_dir)
    settle(watcher)
    shutil.rmtree(model_dir)
    follower.poll()
    follower.poll()
    assert signals == [(os.getpid(), signal.SIGTERM)]


def test_a_replacement_serves_without_loading_the_bundle(
    watcher: BundleWatcher, service: Service, published: Path, other: Bundle, model_dir: Path
) -> None:
    """It forked with the version, and the directory may be gone."""
    other.activate(model_dir)
    settle(watcher)
    shutil.rmtree(model_dir)
    ManifestFollower(service, published).poll()
    assert service.model.version == other.manifest.version


@pytest.fixture
def polls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each poll of `polling`."""
    monkeypatch.setattr(PollingThread, "interval", 0.005)
    return []


@pytest.fixture
def polling(polls: list[int]) -> Iterator[PollingThread]:
    """A running thread, whose polls all fail."""

    def poll() -> None:
        polls.append(threading.get_ident())
        raise ValueError("an unforeseen error")

    polling = PollingThread(poll)
    polling.start()
    yield polling
    polling.stop()


def test_polling_continues_after_an_error(
    polling: PollingThread, polls: list[int], log_lines: Any
) -> None:
    """Which is logged. After `stop` there are no more polls."""
    wait_until(lambda: len(polls) > 3)
    line = log_lines()[0]
    assert line["event"] == "poll_failed"
    assert "an unforeseen error" in line["exc_info"]
    polling.stop()
    count = len(polls)
    assert not polling.is_running()
    assert threading.Event().wait(0.03) is False
    assert len(polls) == count


def test_the_thread_is_stopped_during_a_fork(polling: PollingThread, polls: list[int]) -> None:
    """A lock that it held would stay locked in the child. In the parent it goes on."""
    for _ in range(20):
        child = os.fork()
        if not child:
            os._exit(int(polling.is_running()))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    count = len(polls)
    wait_until(lambda: len(polls) > count)
