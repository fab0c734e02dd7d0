from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from iris_api.server.reload import BundleWatcher, ManifestFollower, PollingThread
from iris_api.settings import Settings
from iris_api.web.service import Service
from tests.conftest import reseal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from iris_api.bundle.store import Bundle


@pytest.fixture
def service(model_dir: Path) -> Service:
    """A server's first process, or a worker."""
    return Service(Settings(model_dir=model_dir))


@pytest.fixture
def worker(model_dir: Path) -> Service:
    """One of its workers, which has the model that it was forked with."""
    worker = Service(Settings(model_dir=model_dir))
    assert worker.model
    return worker


@pytest.fixture
def shown(tmp_path: Path) -> Path:
    """Where the leader shows what it took up."""
    return tmp_path / "shown"


@pytest.fixture
def leader(service: Service, shown: Path) -> BundleWatcher:
    """It has looked at what it started with."""
    leader = BundleWatcher(service, shown)
    settle(leader)
    return leader


@pytest.fixture
def other(model_dir: Path, tmp_path: Path) -> Bundle:
    """Another version, elsewhere."""
    return reseal(shutil.copytree(model_dir, tmp_path / "other"), name="other")


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Any:
    """Log lines since the last call."""

    def said() -> list[dict[str, Any]]:
        lines = capsys.readouterr().out.splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    return said


@pytest.fixture(autouse=True)
def _logging(app: object) -> None:
    """The app has set its log up."""


def settle(leader: BundleWatcher) -> None:
    """Long enough for what is there to be judged."""
    for _ in range(3):
        leader.look()


def swaps(service: Service) -> tuple[float, float]:
    found = {
        sample.labels["outcome"]: sample.value
        for metric in service.metrics.collect()
        for sample in metric.samples
        if sample.name == "iris_model_swaps_total"
    }
    return found["activated"], found["refused"]


def test_another_version_is_taken_up_and_followed(
    leader: BundleWatcher, service: Service, worker: Service, shown: Path, other: Bundle, said: Any
) -> None:
    """By the first process, with a line and a count, and then by a worker, silently."""
    follower = ManifestFollower(worker, shown)
    follower.look()
    old = worker.model.version
    other.activate(service.settings.model_dir)
    follower.look()
    assert worker.model.version == old, "nothing was shown yet"
    settle(leader)
    follower.look()
    assert service.model.version == worker.model.version == other.manifest.version
    (line,) = said()
    assert (line["event"], line["replaced"]) == ("model_activated", old)
    assert swaps(service) == (1, 0)


def test_nothing_is_loaded_while_it_is_being_written(
    leader: BundleWatcher, service: Service, other: Bundle, model_dir: Path
) -> None:
    """A change is judged when it has come to rest."""
    other.activate(model_dir)
    for number in range(5):
        (model_dir / "notes").write_text(str(number))
        (model_dir / "manifest.json").touch()
        leader.look()
    assert service.model.version != other.manifest.version
    settle(leader)
    assert service.model.version == other.manifest.version


def break_artefact(model_dir: Path) -> None:
    artefact = next(model_dir.glob("*/*.onnx"))
    artefact.write_bytes(artefact.read_bytes()[:-1])


def break_manifest(model_dir: Path) -> None:
    (model_dir / "manifest.json").write_text("{")


def remove(model_dir: Path) -> None:
    shutil.rmtree(model_dir)


@pytest.mark.parametrize("harm", [break_artefact, break_manifest, remove])
def test_a_bundle_that_fails_leaves_the_old_one_serving(
    leader: BundleWatcher, service: Service, model_dir: Path, trained: Path, said: Any, harm: Any
) -> None:
    """With one line and one count, however long it lasts, and a line when it is whole again."""
    old = service.model
    harm(model_dir)
    for _ in range(3):
        settle(leader)
    assert service.model is old
    (line,) = said()
    assert (line["level"], line["event"], line["model_version"]) == (
        "error",
        "model_refused",
        old.version,
    )
    assert str(model_dir) in line["reason"]
    assert swaps(service) == (0, 1)
    shutil.copytree(trained, model_dir, dirs_exist_ok=True)
    settle(leader)
    assert [line["event"] for line in said()] == ["model_recovered"]
    assert swaps(service) == (0, 1)


def test_a_worker_that_can_not_follow_makes_room(
    leader: BundleWatcher,
    worker: Service,
    shown: Path,
    other: Bundle,
    model_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its successor is forked from a process that has the version."""
    monkeypatch.setattr(ManifestFollower, "exit_spread", 0)
    ended: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: ended.extend((pid, number)))
    follower = ManifestFollower(worker, shown)
    other.activate(model_dir)
    settle(leader)
    shutil.rmtree(model_dir)
    follower.look()
    assert ended == [os.getpid(), signal.SIGTERM]
    follower.look()
    assert len(ended) == 2, "it was told once"


def test_a_successor_of_one_need_not_load_anything(
    leader: BundleWatcher, service: Service, shown: Path, other: Bundle, model_dir: Path
) -> None:
    """Though the directory is gone by now."""
    other.activate(model_dir)
    settle(leader)
    shutil.rmtree(model_dir)
    ManifestFollower(service, shown).look()
    assert service.model.version == other.manifest.version


@pytest.fixture
def lookout(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[PollingThread, list[int]]]:
    """A lookout, and in how many threads it has looked."""
    monkeypatch.setattr(PollingThread, "interval", 0.005)
    looks: list[int] = []

    def look() -> None:
        looks.append(threading.active_count())
        raise ValueError("what no one thought of")

    lookout = PollingThread(look)
    lookout.start()
    yield lookout, looks
    lookout.stop()


def test_a_lookout_goes_on_whatever_it_sees(
    lookout: tuple[PollingThread, list[int]], said: Any
) -> None:
    """And says what went wrong."""
    until(lambda: len(lookout[1]) > 3)
    assert "what no one thought of" in said()[0]["exc_info"]
    lookout[0].stop()
    looks = len(lookout[1])
    time.sleep(0.05)
    assert len(lookout[1]) == looks


def test_a_fork_finds_no_second_thread(lookout: tuple[PollingThread, list[int]]) -> None:
    """A lock that it held would stay locked in the child; in the parent it looks on."""
    for _ in range(20):
        child = os.fork()
        if not child:
            os._exit(int(lookout[0]._thread is not None))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    looks = len(lookout[1])
    until(lambda: len(lookout[1]) > looks)


def until(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
