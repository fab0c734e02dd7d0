"""Where prometheus_client's metrics keep their numbers: in files that other processes read.

Its own `MultiProcessValue` asks at each increment whether the process was forked, looks its place
up, and takes a lock. Here a fork is told, and all that a request adds is written under one lock.
"""

from __future__ import annotations

import logging
import os
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict, mmap_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

DOUBLE = 8
"""Bytes of a number."""
CELL_OVERHEAD = 32
"""Of a number in a file: its own, its time, its key's length, and what that is padded with."""

logger = logging.getLogger(__name__)


class StoredValue:
    """One number. Its methods are those of prometheus_client's values that our metrics use."""

    __slots__ = ("__weakref__", "at", "file", "home", "key", "numbers")

    at: int
    numbers: memoryview[float]

    def __init__(self, home: ValueStore, file: str, key: str) -> None:
        self.home = home
        self.file = file
        self.key = key

    def inc(self, amount: float) -> None:
        """Add to it."""
        self.home.add([(self, amount)])

    def get(self) -> float:
        """The number, as this process and its forerunners in the slot have made it."""
        return self.numbers[self.at]

    def get_exemplar(self) -> None:
        """There are none across processes."""


class ValueStore:
    """All the numbers of a process: in its own memory, until they are moved to files."""

    def __init__(self) -> None:
        self._all: WeakSet[StoredValue] = WeakSet()
        self._files: dict[str, Any] = {}
        self._room = True
        self.stay_in_memory()

    def stay_in_memory(self) -> None:
        """Count from zero, where no other process looks."""
        self._move(_place_in_memory)

    def move(self, directory: Path, slot: str) -> None:
        """From now on count in a slot's files, onward from what they hold; also after a fork."""
        files: dict[str, Any] = {}

        def place(cell: StoredValue) -> None:
            file = files.get(cell.file)
            if file is None:
                file = files[cell.file] = MmapedDict(str(directory / f"{cell.file}_{slot}.db"))
            try:
                _take_room(file, cell.key)
            except OSError as error:
                if self._room:
                    said = {"event": "series_not_counted", "reason": str(error)}
                    logger.warning(said)
                self._room = False
                _place_in_memory(cell)
                return
            file.read_value(cell.key)  # Makes it, if it is new.
            cell.at = file._positions[cell.key] // DOUBLE
            cell.numbers = memoryview(file._m).cast("d")

        self._move(place)
        self._files = files

    def add(self, additions: Iterable[tuple[StoredValue, float]]) -> None:
        """Add to some cells, and let no other thread add meanwhile."""
        with self._lock:
            for cell, amount in additions:
                cell.numbers[cell.at] += amount

    def cell(  # noqa: PLR0913, PLR0917  # It is prometheus_client that calls.
        self,
        kind: str,
        metric: str,
        name: str,
        label_names: tuple[str, ...],
        labels: tuple[str, ...],
        text: str,
        multiprocess_mode: str = "",
        **_: Any,
    ) -> StoredValue:
        """The number of a sample, in the place of prometheus_client's `ValueClass`."""
        file = f"{kind}_{multiprocess_mode}" if multiprocess_mode else kind
        cell = StoredValue(
            self, file, mmap_key(metric, name, list(label_names), list(labels), text)
        )
        with self._lock:
            self._place(cell)
            self._all.add(cell)
        return cell

    def _move(self, place: Callable[[StoredValue], None]) -> None:
        self._lock = Lock()  # A thread that was not forked may hold the old one.
        self._place = place
        for cell in self._all:
            place(cell)
        for file in self._files.values():
            file.close()
        self._files = {}


def _take_room(file: Any, key: str) -> None:
    """Have room for another number: without it a mapped page is not an error but a SIGBUS.

    Raises:
        OSError: if there is none.
    """
    needed = len(key.encode()) + CELL_OVERHEAD
    if key not in file._positions and file._used + needed > file._capacity:
        os.posix_fallocate(file._f.fileno(), 0, 2 * file._capacity)


def _place_in_memory(cell: StoredValue) -> None:
    cell.at = 0
    cell.numbers = memoryview(bytearray(DOUBLE)).cast("d")


STORE = ValueStore()
values.ValueClass = STORE.cell
