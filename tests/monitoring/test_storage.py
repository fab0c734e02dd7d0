from __future__ import annotations

import multiprocessing
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, values
from prometheus_client.mmap_dict import MmapedDict

from iris_api.monitoring.storage import StoredValue, ValueStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def cells() -> Iterator[ValueStore]:
    """Those of a process in which nothing else counts."""
    cells = ValueStore()
    yield cells
    cells.stay_in_memory()  # Closes its files.


def cell(cells: ValueStore, name: str) -> StoredValue:
    return cells.cell("counter", name, name, (), (), "Of a test.")


def kept(file: Path) -> list[float]:
    """The numbers in a file, as prometheus_client reads them."""
    of: Any = MmapedDict
    return [value for _, value, *_ in of.read_all_values_from_file(str(file))]


def in_child(target: object, *arguments: object) -> None:
    child = FORK.Process(target=target, args=arguments)  # type: ignore[arg-type]
    child.start()
    child.join(30)
    assert child.exitcode == 0


def test_instruments_keep_their_numbers_here(
    cells: ValueStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they had counted for themselves does not come along: it was nobody else's."""
    monkeypatch.setattr(values, "ValueClass", cells.cell)
    registry = CollectorRegistry()
    counter = Counter("seen", "RequestState.", registry=registry)
    histogram = Histogram("took", "Took.", registry=registry, buckets=(1, 2))
    counter.inc(3)
    assert registry.get_sample_value("seen_total") == 3
    cells.move(tmp_path, "0")
    counter.inc(4)
    histogram.observe(1.5)
    assert registry.get_sample_value("seen_total") == 4
    assert kept(tmp_path / "counter_0.db") == [4]
    assert sorted(kept(tmp_path / "histogram_0.db")) == [0, 0, 1, 1.5]


def test_a_slot_is_counted_on_in(cells: ValueStore, tmp_path: Path) -> None:
    """Away from it and back, each file keeps what was counted in it."""
    number = cell(cells, "seen")
    for slot in ("0", "1", "0"):
        cells.move(tmp_path, slot)
        number.inc(1)
    assert number.get() == 2
    assert kept(tmp_path / "counter_0.db") == [2]
    assert kept(tmp_path / "counter_1.db") == [1]


def fork_while_locked(cells: ValueStore, directory: Path) -> None:
    number = cell(cells, "seen")
    cells.move(directory, "0")
    with cells._lock:
        child = os.fork()
        if not child:
            cells.move(directory, "1")
            number.inc(5)
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def test_a_fork_counts_even_if_a_thread_was_counting(cells: ValueStore, tmp_path: Path) -> None:
    """The lock that it inherits is one that nobody will open."""
    in_child(fork_while_locked, cells, tmp_path)
    assert kept(tmp_path / "counter_1.db") == [5]


def test_a_file_that_grows_keeps_counting(cells: ValueStore, tmp_path: Path) -> None:
    """Numbers that were placed before it grew are still those in the file."""
    first = cell(cells, "first")
    cells.move(tmp_path, "0")
    many = [cell(cells, f"{'x' * 1000}{number}") for number in range(2000)]  # Over a mebibyte.
    cells.add([(number, 1.0) for number in (first, *many)])
    assert kept(tmp_path / "counter_0.db") == [1.0] * 2001


def test_threads_lose_nothing(cells: ValueStore) -> None:
    """Each addition is there, whoever else adds."""
    number = cell(cells, "seen")

    def add() -> None:
        for _ in range(20_000):
            number.inc(1)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert number.get() == 80_000


def test_a_number_that_nobody_uses_is_not_kept(cells: ValueStore, tmp_path: Path) -> None:
    """It is moved nowhere, and takes no room in a file."""
    cells.cell("gauge", "gone", "gone", (), (), "Of a test.", multiprocess_mode="sum")
    cells.move(tmp_path, "0")
    assert not (tmp_path / "gauge_sum_0.db").exists()


def test_a_series_without_room_is_not_counted_and_ends_nothing(
    cells: ValueStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A page of a file that has no room would be a SIGBUS: the others count on."""
    asked = []

    def full(_descriptor: int, _offset: int, size: int) -> None:
        asked.append(size)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    cells.move(tmp_path, "0")
    before = cell(cells, "first")
    made = [cell(cells, f"{number}-{'x' * 400}") for number in range(300)]
    size = (tmp_path / "counter_0.db").stat().st_size
    for each in (before, *made):
        each.inc(1)
    assert asked[0] == 2 * size
    assert [each.get() for each in made] == [1] * 300, "each for itself"
    in_file = kept(tmp_path / "counter_0.db")
    assert in_file == [1] * len(in_file)
    assert 10 < len(in_file) < 300
    assert caplog.text.count("series_not_counted") == 1
