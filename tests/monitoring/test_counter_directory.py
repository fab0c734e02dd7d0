from __future__ import annotations

import multiprocessing
import os
import signal
import struct
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge

from iris_api.errors import CountersError, SettingsError
from iris_api.monitoring.counter_directory import (
    CounterDirectory,
    directory_for,
    installed,
    is_live,
    started_at,
)
from iris_api.monitoring.storage import read_metrics
from iris_api.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FORK = multiprocessing.get_context("fork")


def in_child(work: Callable[..., Any], *arguments: Any) -> int:
    """Run in another process, which takes its installed directory with it; return its status."""
    process = FORK.Process(target=work, args=arguments)
    process.start()
    process.join(30)
    assert process.exitcode is not None
    return process.exitcode


def run_server(path: Path, workers: int) -> None:
    """Run a server whose workers count 10 each, one after another, and are killed."""
    directory = CounterDirectory(path)
    directory.install()
    registry = CollectorRegistry()
    counter = Counter("seen", "Of a test.", registry=registry)
    gauge = Gauge("held", "Of a test.", registry=registry, multiprocess_mode="livesum")
    for _ in range(workers):
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
    return {sample.name: sample.value for metric in read_metrics(path) for sample in metric.samples}


def test_a_worker_continues_the_counters_of_a_killed_one(tmp_path: Path) -> None:
    """No count is lost or doubled, and five workers in turn need the files of one."""
    assert in_child(run_server, tmp_path / "counters", 5) == 0
    assert values(tmp_path / "counters")["seen_total"] == 50
    assert {path.name for path in (tmp_path / "counters").glob("counter_*")} == {
        "counter_0.db",
        "counter_1.db",
    }


def test_the_gauges_of_a_dead_worker_are_reset(tmp_path: Path) -> None:
    """Its requests in flight died with it."""
    assert in_child(run_server, tmp_path / "counters", 3) == 0
    assert values(tmp_path / "counters").get("held", 0) == 0


def test_a_new_server_starts_at_zero(tmp_path: Path) -> None:
    """It removes what the last server left, even if that was killed."""
    for _ in range(2):
        assert in_child(run_server, tmp_path / "counters", 1) == 0
    assert values(tmp_path / "counters")["seen_total"] == 10


def test_a_server_that_replaces_another_shares_its_directory(tmp_path: Path) -> None:
    """The old counts stay, and the directory exists until the last of both servers ends."""
    path = tmp_path / "counters"
    old = CounterDirectory(path)
    old.note_start("v1")

    def replace() -> None:
        directory = CounterDirectory(path)
        assert directory.slot != old.slot
        assert started_at(directory.path, "v1") == directory.note_start("v1")
        directory.close()

    assert in_child(replace) == 0
    assert path.is_dir()
    assert is_live(path)
    old.close()
    assert not path.exists()
    assert not is_live(path)


def test_a_killed_server_is_not_live(tmp_path: Path) -> None:
    """Its directory remains, but nobody holds the lock."""
    assert in_child(run_server, tmp_path / "counters", 1) == 0
    assert (tmp_path / "counters").is_dir()
    assert not is_live(tmp_path / "counters")


def test_a_slot_is_free_when_its_holder_ends(tmp_path: Path) -> None:
    """A process takes the lowest free slot."""
    directory = CounterDirectory(tmp_path / "counters")
    assert directory.slot == "0"
    assert in_child(directory.claim) == 0
    directory.claim()
    assert directory.slot == "1"
    directory.close()


def test_the_start_of_a_name_is_recorded_once(tmp_path: Path) -> None:
    """Later processes of the server get the first time."""
    directory = CounterDirectory(tmp_path / "counters")
    first = directory.note_start("v1")
    assert directory.note_start("v1") == started_at(directory.path, "v1") == first
    directory.close()


def test_a_damaged_file_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The worker counts from zero and logs it; the damaged file is kept under another name."""
    directory = CounterDirectory(tmp_path / "counters")
    file = directory.path / "counter_1.db"
    file.write_bytes(struct.pack("iii", 1000, 0, 5000))  # A key longer than the file.
    directory.claim()
    assert file.with_suffix(".broken").exists()
    assert "counters_reset" in caplog.text
    assert values(directory.path) == {}
    directory.close()


def test_counters_that_are_gone_are_an_error_of_ours(tmp_path: Path) -> None:
    """The message names the directory and what to do."""
    with pytest.raises(CountersError, match="counters can't be read: restart"):
        read_metrics(tmp_path / "counters")


def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    """So is a link, which could lead anywhere, and a place where nothing can be written."""
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(SettingsError, match="belongs to someone else"):
        CounterDirectory(tmp_path / "link")
    with pytest.raises(SettingsError, match="can't keep counters in"):
        CounterDirectory(tmp_path / "none" / "counters")


def test_each_address_has_its_own_directory() -> None:
    """Two servers on one machine do not mix their counters; nor do two that take any port."""
    paths = {
        directory_for(Settings(port=port, host=host)) for port in (0, 1, 2) for host in ("::", "a")
    }
    assert len(paths) == 6
    assert all(str(os.geteuid()) in path.name for path in paths)


def test_a_process_without_a_server_counts_in_memory() -> None:
    """This one, for example."""
    assert installed() is None
