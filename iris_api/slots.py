"""Counters that outlive a worker: a directory for the server, and in it a slot for each process.

prometheus_client keeps the values of a process in files named after it. Named after the process id
they pile up as workers come and go, and a counter goes backwards when one is deleted. Here they are
named after a slot, which is a lock that the kernel frees however its holder ends: the next worker
takes up the slot and counts on where the last one stopped, so there are never more files than there
were workers at a time. A server that replaces another on the same address joins its directory.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from .exceptions import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import Metric

    from .settings import Settings

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108

_installed: list[CounterDirectory] = []


def path_for(settings: Settings) -> Path:
    """Where the server with these settings keeps its counters. In memory, where there is a way."""
    parent = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    port = settings.port or f"any-{os.getpid()}"
    return parent / f"iris-api-{os.geteuid()}-{settings.host.replace(':', '_')}-{port}"


def installed() -> CounterDirectory | None:
    """The directory that this process counts in; none where it counts for itself alone."""
    return _installed[0] if _installed else None


def counted(path: Path) -> Iterable[Metric]:
    """All that the processes of a server have counted, summed over them."""
    found: Iterable[Metric] = MultiProcessCollector(None, str(path)).collect()
    return found


def started(path: Path, name: str) -> float:
    """When a server began to count under a name, as a Unix time.

    Raises:
        FileNotFoundError: if it never did.
    """
    return _start(path, name).stat().st_mtime


def _start(path: Path, name: str) -> Path:
    return path / f"{name}.since"


class CounterDirectory:
    """The counters of one server, from its start to its end, whatever becomes of its workers.

    Raises:
        SettingsError: if the directory can't be made, or belongs to someone else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._make()
        alone = self._try("server")
        if alone is not None:
            self._wipe()
        # Else another server lives here, which this one replaces.
        self._server = self._open("server") if alone is None else alone
        fcntl.flock(self._server, fcntl.LOCK_SH)
        self.claim()

    def install(self) -> None:
        """Have prometheus_client keep the values of this process and its children here."""
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(self.path)
        values.ValueClass = values.MultiProcessValue(process_identifier=lambda: self.slot)
        _installed[:] = [self]

    def claim(self) -> None:
        """Take a slot that no living process holds: each process must, before it counts."""
        free = (name for name in map(str, count()) if self._try(name) is not None)
        self.slot = next(free)
        mark_process_dead(self.slot, str(self.path))

    def sweep(self) -> None:
        """Forget what dead processes were in the middle of. What they have counted stays."""
        for path in self.path.glob("*.lock"):
            lock = self._try(path.stem)
            if lock is not None:
                mark_process_dead(path.stem, str(self.path))
                os.close(lock)

    def note_start(self, name: str) -> float:
        """When any process of the server first noted this name, as a Unix time."""
        with suppress(FileExistsError):
            _start(self.path, name).touch(exist_ok=False)
        return started(self.path, name)

    def close(self) -> None:
        """Remove the directory, if no other server counts on in it."""
        with suppress(BlockingIOError):
            fcntl.flock(self._server, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(self.path, ignore_errors=True)

    def _make(self) -> None:
        try:
            self.path.mkdir(mode=0o700, exist_ok=True)
            found = self.path.lstat()
        except OSError as error:
            raise SettingsError(f"can't keep counters in {self.path}: {error.strerror}") from error
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise SettingsError(f"{self.path} belongs to someone else: remove it")

    def _wipe(self) -> None:
        for path in self.path.iterdir():
            if path.name != "server.lock":
                path.unlink()

    def _open(self, name: str) -> int:
        return os.open(self.path / f"{name}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)

    def _try(self, name: str) -> int | None:
        """Hold a lock for as long as this process lives; None if another holds it."""
        lock = self._open(name)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        return lock
