"""Write files that other processes may be reading: each is replaced whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ASIDE = ".new-"
"""Prefix of a file that is being written. After a crash such a file is garbage."""

PART = ".part"
"""Suffix of a large file that is being written. After a crash the writing can be resumed."""


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the write lock of a directory. The kernel releases it when the process ends."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def replace(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Write a file aside, flush it to the disk, and rename it to its path.

    A file that is replaced passes on its mode and, where permitted, its owner.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=ASIDE)
    aside = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if not path.exists():
            aside.chmod(mode)
        _rename_over(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def _rename_over(aside: Path, path: Path) -> None:
    """Rename a finished file to its path, and keep the mode and owner of the file it replaces."""
    if path.exists():
        shutil.copymode(path, aside)
        with suppress(PermissionError):
            os.chown(aside, path.stat().st_uid, path.stat().st_gid)
    aside.replace(path)


class PartFile:
    """A large file that one process at a time writes aside and then renames.

    Raises:
        BlockingIOError: if another process is writing it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.aside = path.with_name(path.name + PART)
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o666
        self._file = os.fdopen(os.open(self.aside, flags, mode), "wb")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(self.aside.stat(), os.fstat(self._file.fileno())):
                raise BlockingIOError(errno.EAGAIN, "was just replaced", str(self.aside))
        except OSError:
            self._file.close()
            raise

    def start_at(self, size: int) -> None:
        """Truncate the file to a size in bytes, and write on from there.

        Raises:
            EOFError: if the file is shorter.
        """
        if os.fstat(self._file.fileno()).st_size < size:
            raise EOFError(f"{self.aside} is shorter than it was")
        self._file.truncate(size)
        self._file.seek(size)

    @property
    def replaces(self) -> bool:
        """Whether the finished file replaces another."""
        return self.path.exists()

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._file.tell()

    def write(self, content: bytes) -> None:
        """Append to the file."""
        self._file.write(content)

    def sync(self) -> None:
        """Flush everything to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def publish(self) -> None:
        """Rename the finished file to its path."""
        self.sync()
        _rename_over(self.aside, self.path)

    def discard(self) -> None:
        """Remove the unfinished file."""
        self.aside.unlink(missing_ok=True)

    def close(self) -> None:
        """Release the file to other processes, and remove it if it is empty."""
        with suppress(OSError):
            self._file.flush()
        with suppress(OSError):
            ours = os.fstat(self._file.fileno())
            if not ours.st_size and os.path.samestat(self.aside.stat(), ours):
                self.discard()
        with suppress(OSError):
            self._file.close()
