"""Files that other processes read while we write: replaced whole or not at all."""

from __future__ import annotations

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
        if path.exists():
            shutil.copymode(path, aside)
            with suppress(PermissionError):
                os.chown(aside, path.stat().st_uid, path.stat().st_gid)
        else:
            aside.chmod(mode)
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
