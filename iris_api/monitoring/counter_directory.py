"""The directory of a server's counters, and the slot of each of its processes in it.

prometheus_client names a process's files after its process id. They would pile up as workers come
and go, and a counter would go backwards when one is deleted. Here they are named after a slot: a
numbered file lock, which the kernel frees however its holder ends. The next worker takes the free
slot and counts on in its files. A server that replaces another on the same address shares its
directory.
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

from iris_api.errors import SettingsError

from .storage import STORE, prepare_file, reset_file

if TYPE_CHECKING:
    from iris_api.settings import Settings

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
GAUGES = "gauge_livesum"
KINDS = ("counter", "histogram", GAUGES)
"""Files of a slot."""
SERVER_LOCK = "server"

_installed: list[CounterDirectory] = []


def directory_for(settings: Settings) -> Path:
    """Where the server with these settings keeps its counters: in shared memory if possible."""
    parent = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    port = settings.port or f"any-{os.getpid()}"
    return parent / f"iris-api-{os.geteuid()}-{settings.host.replace(':', '_')}-{port}"


def installed() -> CounterDirectory | None:
    """The directory that this process counts in, or None if it counts in its own memory."""
    return _installed[0] if _installed else None


def is_live(path: Path) -> bool:
    """Whether a running server counts in a directory."""
    with suppress(FileNotFoundError):
        lock = os.open(_lock_file(path, SERVER_LOCK), os.O_RDWR | os.O_CLOEXEC)
        try:
            return not _try_exclusive(lock)
        finally:
            os.close(lock)
    return False


def started_at(path: Path, name: str) -> float:
    """When a server began to count under a name, as a Unix time.

    Raises:
        FileNotFoundError: if it never did.
    """
    return _start_file(path, name).stat().st_mtime


class CounterDirectory:
    """The counters of one server. They outlive its workers, and are removed when it ends.

    Raises:
        SettingsError: if the directory can't be made, or belongs to another user.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._owner = os.getpid()
        try:
            self._server_lock = self._join()
            self.claim()
        except OSError as error:
            raise SettingsError(f"can't keep counters in {self.path}: {error.strerror}") from error

    def install(self) -> None:
        """Have this process and its children count here."""
        STORE.move(self.path, self.slot)
        _installed[:] = [self]

    def claim(self) -> None:
        """Take the lowest slot that no living process holds. Each process calls it once.

        Raises:
            OSError: if there is no room for the slot's files.
        """
        self.slot = next(name for name in map(str, count()) if self._lock(name) is not None)
        for kind in KINDS:
            prepare_file(self._file(kind, self.slot))
        reset_file(self._file(GAUGES, self.slot))
        if installed() is self:
            STORE.move(self.path, self.slot)

    def count_apart(self) -> None:
        """Count in memory only. A process without a slot still serves."""
        STORE.stay_in_memory()

    def sweep(self) -> None:
        """Reset the gauges of dead processes. Their counters stay."""
        for path in self.path.glob("*.lock"):
            lock = self._lock(path.stem)
            if lock is not None:
                reset_file(self._file(GAUGES, path.stem))
                os.close(lock)

    def note_start(self, name: str) -> float:
        """Record that counting under a name starts now, unless a process of the server has.

        Returns:
            The first such time, as a Unix time.
        """
        with suppress(FileExistsError):
            _start_file(self.path, name).touch(exist_ok=False)
        return started_at(self.path, name)

    def close(self) -> None:
        """Remove the directory, unless another server counts in it.

        In a child of the server it has no effect: a worker inherits what its server does at exit.
        """
        if os.getpid() != self._owner:
            return
        with suppress(OSError):
            if _try_exclusive(self._server_lock):
                # Renamed first: a server that starts meanwhile never sees it half removed.
                removed = self.path.with_name(f"{self.path.name}.gone-{os.getpid()}")
                self.path.rename(removed)
                shutil.rmtree(removed, ignore_errors=True)

    def _join(self) -> int:
        """Share the server lock with running servers, after emptying a directory without any."""
        while True:
            self._make()
            with suppress(FileNotFoundError):
                lock = self._open_lock(SERVER_LOCK)
                if _try_exclusive(lock):
                    self._wipe()
                fcntl.flock(lock, fcntl.LOCK_SH)
                if os.path.samestat(os.fstat(lock), _lock_file(self.path, SERVER_LOCK).stat()):
                    return lock
                os.close(lock)  # Its last server has just removed it.

    def _make(self) -> None:
        self.path.mkdir(mode=0o700, exist_ok=True)
        status = self.path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise SettingsError(f"{self.path} belongs to someone else: remove it")

    def _wipe(self) -> None:
        keep = _lock_file(self.path, SERVER_LOCK)
        for path in self.path.iterdir():
            if path != keep:
                path.unlink()

    def _file(self, kind: str, slot: str) -> Path:
        return self.path / f"{kind}_{slot}.db"

    def _open_lock(self, name: str) -> int:
        return os.open(_lock_file(self.path, name), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)

    def _lock(self, name: str) -> int | None:
        """Lock a slot for the life of this process; None if another process holds it."""
        lock = self._open_lock(name)
        if _try_exclusive(lock):
            return lock
        os.close(lock)
        return None


def _lock_file(path: Path, name: str) -> Path:
    return path / f"{name}.lock"


def _start_file(path: Path, name: str) -> Path:
    return path / f"{name}.since"


def _try_exclusive(lock: int) -> bool:
    """Lock a descriptor for this process alone, if no other process holds it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
