from __future__ import annotations

import multiprocessing
import os
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram

from iris_api.monitoring.storage import (
    STORE,
    StoredHistogram,
    StoredValue,
    ValueStore,
    read_metrics,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from iris_api.monitoring.storage import Increment

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def store() -> Iterator[ValueStore]:
    """A store that no metric of this process uses."""
    store = ValueStore()
    yield store
    store.stay_in_memory()  # Closes its files.


def counter(store: ValueStore, name: str) -> StoredValue:
    return store.value("counter", name, name, (), (), "Of a test.")


def in_files(directory: Path) -> dict[str, float]:
    """All values in a directory, summed over its slots, as prometheus_client reads them."""
    return {
        sample.name: sample.value for metric in read_metrics(directory) for sample in metric.samples
    }


def in_child(target: object, *arguments: object) -> None:
    child = FORK.Process(target=target, args=arguments)  # type: ignore[arg-type]
    child.start()
    child.join(30)
    assert child.exitcode == 0


def count_with_metrics(directory: Path) -> None:
    registry = CollectorRegistry()
    seen = Counter("seen", "Of a test.", registry=registry)
    seconds = Histogram("seconds", "Of a test.", registry=registry, buckets=(1, 2))
    seen.inc(3)
    assert registry.get_sample_value("seen_total") == 3
    STORE.move(directory, "0")
    seen.inc(4)
    seconds.observe(1.5)
    assert registry.get_sample_value("seen_total") == 4


def test_metrics_of_prometheus_client_use_the_store(tmp_path: Path) -> None:
    """What they counted in memory before is dropped: it belongs to another process."""
    in_child(count_with_metrics, tmp_path)
    values = in_files(tmp_path)
    assert values["seen_total"] == 4
    assert (values["seconds_count"], values["seconds_sum"]) == (1, 1.5)


def test_a_slot_is_continued(store: ValueStore, tmp_path: Path) -> None:
    """After a move to another slot and back, each slot keeps its own value."""
    value = counter(store, "seen")
    for slot, expected in (("0", 1), ("1", 1), ("0", 2)):
        store.move(tmp_path, slot)
        value.inc(1)
        assert value.get() == expected
    assert in_files(tmp_path) == {"seen": 3}


def fork_while_locked(store: ValueStore, directory: Path) -> None:
    value = counter(store, "seen")
    store.move(directory, "0")

    def forking() -> Iterator[Increment]:
        """Fork while `add` holds the lock."""
        child = os.fork()
        if not child:
            store.move(directory, "1")
            value.inc(5)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        yield value, 1.0

    store.add(forking())


def test_a_child_counts_although_the_parent_held_the_lock(
    store: ValueStore, tmp_path: Path
) -> None:
    """The child inherits the lock, but not the thread that would release it."""
    in_child(fork_while_locked, store, tmp_path)
    assert in_files(tmp_path) == {"seen": 6}


def test_a_growing_file_keeps_its_values(store: ValueStore, tmp_path: Path) -> None:
    """Values that were in the file before it grew are still counted in it."""
    first = counter(store, "first")
    store.move(tmp_path, "0")
    many = [counter(store, f"{'x' * 1000}{number}") for number in range(2000)]  # Two mebibytes.
    store.add([(value, 1.0) for value in (first, *many)])
    assert list(in_files(tmp_path).values()) == [1.0] * 2001


def test_threads_lose_no_increment(store: ValueStore) -> None:
    """Each one is counted, whatever other threads add at the same time."""
    value = counter(store, "seen")

    def add() -> None:
        for _ in range(20_000):
            value.inc(1)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value.get() == 80_000


def test_an_unused_value_takes_no_room(store: ValueStore, tmp_path: Path) -> None:
    """A value that no metric refers to any more is not moved to a file."""
    store.value("gauge", "gone", "gone", (), (), "Of a test.", multiprocess_mode="sum")
    store.move(tmp_path, "0")
    assert not (tmp_path / "gauge_sum_0.db").exists()


def test_without_room_a_series_counts_in_memory(
    store: ValueStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Writing to a page without disk space raises SIGBUS; series with space count on."""
    sizes = []

    def full(_descriptor: int, _offset: int, size: int) -> None:
        sizes.append(size)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    store.move(tmp_path, "0")
    first = counter(store, "first")
    many = [counter(store, f"{number}-{'x' * 400}") for number in range(300)]
    size = (tmp_path / "counter_0.db").stat().st_size
    for value in (first, *many):
        value.inc(1)
    assert sizes[0] == 2 * size
    assert [value.get() for value in many] == [1] * 300
    values = list(in_files(tmp_path).values())
    assert values == [1] * len(values)
    assert 10 < len(values) < 300
    assert caplog.text.count("series_not_counted") == 1


def test_a_batch_of_observations_adds_what_each_of_them_adds() -> None:
    """Values on a bucket's upper bound belong to it, as in prometheus_client itself."""
    amounts = np.array([0.5, 1.0, 1.5, 2.0, 9.0])
    samples = []
    for way in ("observe", "one by one", "batch"):
        registry = CollectorRegistry()
        histogram = StoredHistogram("rows", "Of a test.", registry=registry, buckets=(1, 2))
        if way == "batch":
            STORE.add(histogram.batch_increments(amounts))
        for amount in () if way == "batch" else amounts.tolist():
            if way == "observe":
                histogram.observe(amount)
            else:
                STORE.add(histogram.increments(amount))
        samples.append(
            [
                (sample.name, sample.labels, sample.value)
                for metric in registry.collect()
                for sample in metric.samples
                if not sample.name.endswith("_created")
            ]
        )
    assert samples[0] == samples[1] == samples[2]
