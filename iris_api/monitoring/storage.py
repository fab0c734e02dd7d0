"""Where metrics keep their values: in memory, or in files that the server's other processes read.

No other module uses internals of prometheus_client: `docs/upgrading.md` lists them.
"""

from __future__ import annotations

import logging
import os
import struct
from bisect import bisect_left
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np
from prometheus_client import Counter, Gauge, Histogram, values
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector

from iris_api.errors import CountersError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from numpy.typing import NDArray
    from prometheus_client import Metric

FILE_BYTES = 128 * 1024
"""Size of a new file: room for a thousand series, or fifteen versions of a model."""
EMPTY_FILE = struct.pack("i", 8)
"""Start of a file that holds no value yet."""
UNREADABLE = (OSError, RuntimeError, ValueError, struct.error)
DOUBLE_BYTES = 8
ENTRY_OVERHEAD = 32
"""Bytes of a value in a file beside its key: the value, its time, the key's length, padding."""

Increment = tuple["StoredValue", float]
"""An amount to add to a value. What belongs together is added by one call of `STORE.add`."""

logger = logging.getLogger(__name__)


class StoredValue:
    """One value of a metric, in the place of prometheus_client's own class for it."""

    __slots__ = ("__weakref__", "file", "index", "key", "numbers", "store")

    def __init__(self, store: ValueStore, file: str, key: str) -> None:
        self.store = store
        self.file = file
        self.key = key
        self.keep_in_memory()

    def keep_in_memory(self) -> None:
        """Count from zero, in this process alone."""
        self.index = 0
        self.numbers = memoryview(bytearray(DOUBLE_BYTES)).cast("d")

    def inc(self, amount: float) -> None:
        """Add an amount."""
        self.store.add([(self, amount)])

    def get(self) -> float:
        """The value that this process and its predecessors in the slot have counted."""
        return self.numbers[self.index]

    def get_exemplar(self) -> None:
        """No exemplars are kept; prometheus_client asks for them."""


class StoredCounter(Counter):
    """A counter that gives access to its value."""

    @property
    def value(self) -> Any:
        """The value, to be used in an `Increment`."""
        return self._value


class StoredGauge(Gauge):
    """A gauge that gives access to its value."""

    @property
    def value(self) -> Any:
        """The value, to be used in an `Increment`."""
        return self._value


class StoredHistogram(Histogram):
    """A histogram that finds the bucket of an observation by bisection."""

    def increments(self, amount: float) -> tuple[Increment, Increment]:
        """What one observation adds."""
        bucket: Any = self._buckets[bisect_left(self._upper_bounds, amount)]
        total: Any = self._sum
        return (total, amount), (bucket, 1.0)

    def batch_increments(self, amounts: NDArray[np.floating[Any]]) -> list[Increment]:
        """What the observations in an array of shape (rows,) add."""
        buckets = np.bincount(np.searchsorted(self._upper_bounds, amounts, side="left"))
        stored: list[Any] = [self._sum, *self._buckets]
        return list(zip(stored, [float(amounts.sum()), *buckets.tolist()], strict=False))


class ValueStore:
    """All values of a process: in its memory, until `move` puts them into files.

    prometheus_client's own `MultiProcessValue` looks for a fork and takes a lock at each increment.
    Here `move` is called after a fork, and all that a request adds is added under one lock.
    """

    def __init__(self) -> None:
        self._values: WeakSet[StoredValue] = WeakSet()
        self._files: dict[str, Any] = {}
        self._full = False
        self.stay_in_memory()

    def stay_in_memory(self) -> None:
        """Count from zero, where no other process looks."""
        self._place_all(StoredValue.keep_in_memory)

    def move(self, directory: Path, slot: str) -> None:
        """Count in a slot's files from now on, starting from what they hold."""
        files: dict[str, Any] = {}

        def place(value: StoredValue) -> None:
            file = files.get(value.file)
            if file is None:
                file = files[value.file] = MmapedDict(str(directory / f"{value.file}_{slot}.db"))
            try:
                _reserve(file, value.key)
            except OSError as error:
                if not self._full:
                    logger.warning({"event": "series_not_counted", "reason": str(error)})
                self._full = True
                value.keep_in_memory()
                return
            file.read_value(value.key)  # Adds the key to the file if it is new.
            value.index = file._positions[value.key] // DOUBLE_BYTES
            value.numbers = memoryview(file._m).cast("d")

        self._place_all(place)
        self._files = files

    def add(self, increments: Iterable[Increment]) -> None:
        """Add to several values at once, under the lock."""
        with self._lock:
            for value, amount in increments:
                value.numbers[value.index] += amount

    def value(  # noqa: PLR0913, PLR0917  # prometheus_client calls it.
        self,
        kind: str,
        metric: str,
        name: str,
        label_names: tuple[str, ...],
        labels: tuple[str, ...],
        help_text: str,
        multiprocess_mode: str = "",
        **_: Any,
    ) -> StoredValue:
        """Make the value of a sample: called in the place of prometheus_client's `ValueClass`."""
        file = f"{kind}_{multiprocess_mode}" if multiprocess_mode else kind
        key = mmap_key(metric, name, list(label_names), list(labels), help_text)
        value = StoredValue(self, file, key)
        with self._lock:
            self._place(value)
            self._values.add(value)
        return value

    def _place_all(self, place: Callable[[StoredValue], None]) -> None:
        self._lock = Lock()  # After a fork, a thread of the parent may hold the old one for ever.
        self._place = place
        for value in self._values:
            place(value)
        for file in self._files.values():
            file.close()
        self._files = {}


def _reserve(file: Any, key: str) -> None:
    """Reserve disk space for a new key. Writing to a mapped page without it raises SIGBUS.

    Raises:
        OSError: if the file system is full.
    """
    needed = len(key.encode()) + ENTRY_OVERHEAD
    if key not in file._positions and file._used + needed > file._capacity:
        os.posix_fallocate(file._f.fileno(), 0, 2 * file._capacity)


def read_metrics(directory: Path) -> Iterable[Metric]:
    """Read what the processes of a server have counted, summed over them.

    Raises:
        CountersError: if the files are gone or damaged.
    """
    try:
        metrics: Iterable[Metric] = MultiProcessCollector(None, str(directory)).collect()
    except UNREADABLE as error:
        message = f"the counters in {directory} can't be read: restart the server"
        raise CountersError(message) from error
    return metrics


def prepare_file(file: Path) -> None:
    """Make a file for values with its disk space reserved, unless there is one that is whole.

    Raises:
        OSError: if the file system is full.
    """
    with suppress(FileNotFoundError):
        try:
            for _ in MmapedDict.read_all_values_from_file(str(file)):
                pass
        except UNREADABLE:
            file.rename(file.with_suffix(".broken"))
            logger.warning({"event": "counters_reset", "file": str(file)})
        else:
            return
    incomplete = file.with_suffix(".new")
    descriptor = os.open(incomplete, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, FILE_BYTES)
        os.pwrite(descriptor, EMPTY_FILE, 0)
    finally:
        os.close(descriptor)
    incomplete.rename(file)


def reset_file(file: Path) -> None:
    """Set all values of a file to zero, if it exists.

    prometheus_client removes the file instead, while a scrape may be about to read it.
    """
    if file.exists():
        values_of_file = MmapedDict(str(file))
        for key, *_ in list(values_of_file.read_all_values()):
            values_of_file.write_value(key, 0.0, 0.0)
        values_of_file.close()


STORE = ValueStore()
values.ValueClass = STORE.value
