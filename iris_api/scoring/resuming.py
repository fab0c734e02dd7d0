"""Writes the files of a scoring run, and resumes a run that was interrupted.

Output and rejects are written to `.part` files and renamed at the end. At regular intervals, and
when a run is interrupted, both are flushed to disk and a checkpoint beside them records the
progress.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from iris_api.bundle.files import PART, PartFile, replace

from .table import Place  # Pydantic needs it at run time

if TYPE_CHECKING:
    import os

    from .scorer import Scored, Scorer

CHECKPOINT_CHUNKS = 64
"""Chunks from one checkpoint to the next: about 16 MB of input, and a second or two."""


class Job(BaseModel):
    """What must be equal for a run to resume an interrupted one."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    input: str
    inode: int
    size: int
    modified_ns: int
    header: str
    model_version: str
    rejects: str

    @classmethod
    def of(
        cls, source: Path, state: os.stat_result, header: bytes, model_version: str, rejects: Path
    ) -> Self:
        """The job of scoring a file in the given state."""
        return cls(
            input=str(source.resolve()),
            inode=state.st_ino,
            size=state.st_size,
            modified_ns=state.st_mtime_ns,
            header=hashlib.sha256(header).hexdigest(),
            model_version=model_version,
            rejects=str(rejects),
        )


class Progress(BaseModel):
    """How far a run is: its place in the input, bytes of its output files, and rows."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    place: Place | None = None
    output: int = 0
    rejects: int = 0
    rows: int = 0
    """Rows with an answer."""
    rejected: int = 0

    @property
    def done(self) -> int:
        """Rows that were scored or rejected."""
        return self.rows + self.rejected


class Checkpoint(BaseModel):
    """The progress of a job, as the file beside the output holds it."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    job: Job
    progress: Progress


class Stream:
    """Standard output or error with the methods of `PartFile`. What is written can't be undone."""

    replaces = False
    size = 0

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, content: bytes) -> None:
        """Write whole lines, and flush them."""
        self._file.write(content)
        self._file.flush()

    def start_at(self, size: int) -> None:
        """Do nothing."""

    def sync(self) -> None:
        """Do nothing: nothing is buffered."""

    def publish(self) -> None:
        """Do nothing."""

    def discard(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing: the process owns the stream."""


class Run:
    """One run of a job, from the start or from the checkpoint of an interrupted run.

    Args:
        output: Where the lines with answers go.
        rejects: Where the rejected lines go.
        checkpoint: The file that records the progress.
        job: None for a run that can't be resumed.
    """

    def __init__(
        self,
        output: PartFile | Stream,
        rejects: PartFile | Stream,
        checkpoint: Path,
        job: Job | None,
    ) -> None:
        self._output, self._rejects, self._path = output, rejects, checkpoint
        self._job = job
        self._chunks = 0
        self.progress = Progress()
        self.outdated = False
        """Whether there was a checkpoint that can't be used."""

    def begin(self, scorer: Scorer) -> Place | None:
        """Write the header, or resume an interrupted run; returns where to read on."""
        self._rejects_header = scorer.rejects_header
        checkpoint = self._read_checkpoint()
        if checkpoint and checkpoint.job == self._job:
            with suppress(EOFError):
                self._output.start_at(checkpoint.progress.output)
                self._rejects.start_at(checkpoint.progress.rejects)
                self.progress = checkpoint.progress
                return checkpoint.progress.place
        self.outdated = self._path.exists()
        if checkpoint:
            self._remove_rejects_of(checkpoint.job)
        self._path.unlink(missing_ok=True)
        self._output.start_at(0)
        self._rejects.start_at(0)
        self._output.write(scorer.header)
        return None

    def add(self, scored: Scored) -> None:
        """Write the lines of a chunk."""
        before = self.progress
        if scored.rejected and not before.rejected:
            self._rejects.write(self._rejects_header)
        self._output.write(scored.output)
        self._rejects.write(scored.rejects)
        # One assignment: a signal may interrupt at any moment, and must find a consistent progress.
        self.progress = Progress(
            place=scored.end,
            output=self._output.size,
            rejects=self._rejects.size,
            rows=before.rows + scored.rows,
            rejected=before.rejected + scored.rejected,
        )
        self._chunks += 1
        if self._chunks % CHECKPOINT_CHUNKS == 0:
            self._save()

    def finish(self) -> None:
        """Rename the files into place, the output last.

        Without rejected rows, an existing file of that name is replaced by one with a header alone:
        it may hold the rejects of an earlier run, and it may be a file that must not be removed.
        """
        if not self.progress.rejected and self._rejects.replaces:
            self._rejects.write(self._rejects_header)
        if self.progress.rejected or self._rejects.replaces:
            self._rejects.publish()
        else:
            self._rejects.discard()
        self._output.publish()
        self._path.unlink(missing_ok=True)

    def interrupt(self) -> bool:
        """Keep what another run can resume; otherwise remove everything. Returns which of both."""
        # On a full disk the last checkpoint is still valid.
        with suppress(OSError):
            self._save()
        if self._job and self._path.exists():
            return True
        self.discard()
        return False

    def discard(self) -> None:
        """Remove the unfinished files."""
        self._path.unlink(missing_ok=True)
        self._output.discard()
        self._rejects.discard()

    def _save(self) -> None:
        if self._job and self.progress.place:
            self._output.sync()
            self._rejects.sync()
            checkpoint = Checkpoint(job=self._job, progress=self.progress)
            replace(self._path, checkpoint.model_dump_json().encode())

    def _read_checkpoint(self) -> Checkpoint | None:
        """The checkpoint of an interrupted run."""
        with suppress(OSError, ValidationError):
            return Checkpoint.model_validate_json(self._path.read_bytes())
        return None

    def _remove_rejects_of(self, other: Job) -> None:
        """Remove the unfinished rejects of another job, unless a run writes or reads them."""
        path = Path(other.rejects)
        part = f"{path}{PART}"
        if path.is_absolute() and not (self._job and self._job.input == part):
            # A file that this run or another one is writing is locked.
            with suppress(OSError):
                file = PartFile(path)
                file.discard()
                file.close()
