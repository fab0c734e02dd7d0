"""Counters that outlive a worker: a directory for the server, and in it a slot for each process.

prometheus_client keeps the values of a process in files named after it. Named after the process id
they pile up as workers come and go, and a counter goes backwards when one is deleted. Here they are
named after a slot, which is a lock that the kernel frees however its holder ends: the next worker
takes up the slot and counts on where the last one stopped, so there are never more files than there
were workers at a time. A server that replaces another on the same address joins its directory.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import stat
import struct
import tempfile
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

from iris_api.errors import CountersError, SettingsError
from iris_api.monitoring.storage import STORE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import Metric

    from iris_api.settings import Settings

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108

KINDS = ("counter", "histogram", "gauge_livesum")
ROOM = 128 * 1024
"""Bytes of a file of counters: for a thousand series, or fifteen versions of a model."""
EMPTY = struct.pack("i", 8)
"""Start of a file of prometheus_client's in which nothing was counted."""
CORRUPT = (OSError, RuntimeError, ValueError, struct.error)

logger = logging.getLogger(__name__)

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
    """All that the processes of a server have counted, summed over them.

    Raises:
        CountersError: if the files are gone or not what they were.
    """
    try:
        found: Iterable[Metric] = MultiProcessCollector(None, str(path)).collect()
    except CORRUPT as error:
        raise CountersError(f"the counters in {path} can't be read: restart the server") from error
    return found


def lives(path: Path) -> bool:
    """Whether a server counts there now."""
    with suppress(FileNotFoundError):
        lock = os.open(path / "server.lock", os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
    return False


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
        try:
            self._server = self._join()
            self.claim()
        except OSError as error:
            raise SettingsError(f"can't keep counters in {self.path}: {error.strerror}") from error

    def install(self) -> None:
        """Have this process and its children count here."""
        STORE.move(self.path, self.slot)
        _installed[:] = [self]

    def claim(self) -> None:
        """Take a slot that no living process holds: each process must, before it counts.

        Raises:
            OSError: if there is no room for its files.
        """
        free = (name for name in map(str, count()) if self._try(name) is not None)
        self.slot = next(free)
        for kind in KINDS:
            self._prepare(self.path / f"{kind}_{self.slot}.db")
        self._forget_gauges(self.slot)
        if installed() is self:
            STORE.move(self.path, self.slot)

    def count_apart(self) -> None:
        """Count where nobody looks: a process that gets no slot is to serve all the same."""
        STORE.stay_in_memory()

    def sweep(self) -> None:
        """Forget what dead processes were in the middle of. What they have counted stays."""
        for path in self.path.glob("*.lock"):
            lock = self._try(path.stem)
            if lock is not None:
                self._forget_gauges(path.stem)
                os.close(lock)

    def note_start(self, name: str) -> float:
        """When any process of the server first noted this name, as a Unix time."""
        with suppress(FileExistsError):
            _start(self.path, name).touch(exist_ok=False)
        return started(self.path, name)

    def close(self) -> None:
        """Remove the directory, if no other server counts on in it."""
        with suppress(OSError):
            fcntl.flock(self._server, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Moved first: who makes it anew meanwhile must not find it half removed.
            gone = self.path.with_name(f"{self.path.name}.gone-{os.getpid()}")
            self.path.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)

    def _join(self) -> int:
        """Share the server's lock with who lives here; what nobody lives in is emptied."""
        while True:
            self._make()
            with suppress(FileNotFoundError):
                lock = self._open("server")
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self._wipe()
                except BlockingIOError:
                    pass  # Another server lives here, which this one replaces.
                fcntl.flock(lock, fcntl.LOCK_SH)
                if os.path.samestat(os.fstat(lock), (self.path / "server.lock").stat()):
                    return lock
                os.close(lock)  # Its last server has just removed it.

    def _make(self) -> None:
        self.path.mkdir(mode=0o700, exist_ok=True)
        found = self.path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise SettingsError(f"{self.path} belongs to someone else: remove it")

    def _wipe(self) -> None:
        for path in self.path.iterdir():
            if path.name != "server.lock":
                path.unlink()

    def _prepare(self, file: Path) -> None:
        """See to it that a file of counters is whole, and has its room before it is written to.

        On a full file system a mapped page without room is not an error but a SIGBUS.
        """
        with suppress(FileNotFoundError):
            try:
                for _ in MmapedDict.read_all_values_from_file(str(file)):
                    pass
            except CORRUPT:
                file.rename(file.with_suffix(".broken"))
                logger.warning({"event": "counters_reset", "file": str(file)})
            else:
                return
        aside = file.with_suffix(".new")
        descriptor = os.open(aside, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, ROOM)
            os.pwrite(descriptor, EMPTY, 0)
        finally:
            os.close(descriptor)
        aside.rename(file)

    def _forget_gauges(self, slot: str) -> None:
        """Set to zero what a process was in the middle of.

        prometheus_client would remove the file, which a scrape may be about to read.
        """
        file = self.path / f"gauge_livesum_{slot}.db"
        if file.exists():
            held = MmapedDict(str(file))
            for key, *_ in list(held.read_all_values()):
                held.write_value(key, 0.0, 0.0)
            held.close()

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
