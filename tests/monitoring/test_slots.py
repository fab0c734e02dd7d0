from __future__ import annotations

import multiprocessing
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge

from iris_api.errors import SettingsError
from iris_api.monitoring.slots import CounterDirectory, counted, installed, path_for, started
from iris_api.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FORK = multiprocessing.get_context("fork")


def in_child(work: Callable[..., Any], *arguments: Any) -> int:
    """Exit status of a process of its own: what is installed there is gone with it."""
    process = FORK.Process(target=work, args=arguments)
    process.start()
    process.join(30)
    assert process.exitcode is not None
    return process.exitcode


def server(path: Path, rounds: int) -> None:
    """A server whose workers count 10 each, one after another, and are killed."""
    directory = CounterDirectory(path)
    directory.install()
    registry = CollectorRegistry()
    counter = Counter("seen", "RequestState.", registry=registry)
    gauge = Gauge("held", "Held.", registry=registry, multiprocess_mode="livesum")
    for _ in range(rounds):
        child = os.fork()
        if not child:
            directory.claim()
            for _ in range(10):
                counter.inc()
            gauge.inc()
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
        directory.sweep()


def values(path: Path) -> dict[str, float]:
    return {sample.name: sample.value for metric in counted(path) for sample in metric.samples}


def test_a_successor_counts_on_where_a_killed_worker_stopped(tmp_path: Path) -> None:
    """Nothing is lost, nothing counted twice, and there are no more files than for one worker."""
    assert in_child(server, tmp_path / "counters", 5) == 0
    assert values(tmp_path / "counters")["seen_total"] == 50
    assert {path.name for path in (tmp_path / "counters").glob("counter_*")} == {
        "counter_0.db",
        "counter_1.db",
    }


def test_what_a_dead_worker_held_is_forgotten(tmp_path: Path) -> None:
    """Requests in flight died with it."""
    assert in_child(server, tmp_path / "counters", 3) == 0
    assert values(tmp_path / "counters").get("held", 0) == 0


def test_a_new_server_begins_at_zero(tmp_path: Path) -> None:
    """What the last one left, even killed, is wiped."""
    for _ in range(2):
        assert in_child(server, tmp_path / "counters", 1) == 0
    assert values(tmp_path / "counters")["seen_total"] == 10


def test_a_server_that_replaces_another_joins_it(tmp_path: Path) -> None:
    """The old one's counts stay while it lives, and its end leaves the new one's directory."""
    old = CounterDirectory(tmp_path / "counters")
    old.note_start("v1")

    def new() -> None:
        directory = CounterDirectory(tmp_path / "counters")
        assert directory.slot != old.slot
        assert started(directory.path, "v1") == directory.note_start("v1")
        directory.close()

    assert in_child(new) == 0
    assert old.path.is_dir()
    old.close()
    assert not old.path.exists()


def test_a_slot_is_freed_with_its_holder(tmp_path: Path) -> None:
    """The next process takes the lowest that is free."""
    directory = CounterDirectory(tmp_path / "counters")
    assert directory.slot == "0"
    assert in_child(directory.claim) == 0
    directory.claim()
    assert directory.slot == "1"
    assert directory.note_start("v1") == directory.note_start("v1") == started(directory.path, "v1")
    directory.close()


def test_a_directory_of_someone_else_is_refused(tmp_path: Path) -> None:
    """Whatever lies at the place: a link could lead anywhere."""
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(SettingsError, match="belongs to someone else"):
        CounterDirectory(tmp_path / "link")
    with pytest.raises(SettingsError, match="can't keep counters in"):
        CounterDirectory(tmp_path / "none" / "counters")


def test_each_address_has_its_directory() -> None:
    """Two servers on one machine do not mix, and one that takes any port is alone."""
    paths = {path_for(Settings(port=port, host=host)) for port in (0, 1, 2) for host in ("::", "a")}
    assert len(paths) == 6
    assert all(str(os.geteuid()) in path.name for path in paths)


def test_a_process_that_is_no_server_counts_for_itself() -> None:
    """As these tests do."""
    assert installed() is None
