"""Files that other processes read while we write: replaced whole or not at all."""

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
"""Prefix of a file that is still being written; what bears it after a crash is rubbish."""

PART = ".part"
"""Suffix of a file that is long in the making; after a crash it can be gone on with."""


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Let one process at a time write in a directory; the lock dies with its process."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def replace(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Put a file in place: written aside, flushed to the disk, renamed over what was there.

    Mode and, where we may set it, owner of a file that was there are kept.
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
    """Put a finished file in place; mode and owner of one that was there are kept."""
    if path.exists():
        shutil.copymode(path, aside)
        with suppress(PermissionError):
            os.chown(aside, path.stat().st_uid, path.stat().st_gid)
    aside.replace(path)


class PartFile:
    """A file that is long in the making: one process at a time writes it aside, and renames it.

    Raises:
        BlockingIOError: if another process is at it.
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
        """Drop what is there after so many bytes, and write on from there.

        Raises:
            EOFError: if there are fewer.
        """
        if os.fstat(self._file.fileno()).st_size < size:
            raise EOFError(f"{self.aside} is shorter than it was")
        self._file.truncate(size)
        self._file.seek(size)

    @property
    def replaces(self) -> bool:
        """Whether a file is in its place."""
        return self.path.exists()

    @property
    def size(self) -> int:
        """How many bytes were written."""
        return self._file.tell()

    def write(self, content: bytes) -> None:
        """Write on."""
        self._file.write(content)

    def sync(self) -> None:
        """See that all is on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def publish(self) -> None:
        """Put the file in its place."""
        self.sync()
        _rename_over(self.aside, self.path)

    def discard(self) -> None:
        """Remove what was written aside."""
        self.aside.unlink(missing_ok=True)

    def close(self) -> None:
        """Let others have it, unless it is empty; what could not be written is lost."""
        with suppress(OSError):
            self._file.flush()
        with suppress(OSError):
            ours = os.fstat(self._file.fileno())
            if not ours.st_size and os.path.samestat(self.aside.stat(), ours):
                self.discard()
        with suppress(OSError):
            self._file.close()
