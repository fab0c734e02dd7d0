"""Where the lines of a scoring run go, and how a run that was stopped is gone on with.

Files are written aside and renamed at the end. Every so many chunks, and when a run is stopped,
they are flushed to the disk, and a checkpoint beside them says how far they go.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from iris_api.bundle.files import PART, PartFile, replace
from iris_api.scoring.table import Place  # Pydantic asks for it

if TYPE_CHECKING:
    import os

    from iris_api.scoring.scorer import Scored, Scorer

CHUNKS_BETWEEN = 64
"""Chunks from one checkpoint to the next: about 16 MB of input, and a second or two."""


class Job(BaseModel):
    """What two runs must have in common for the second to go on with the first."""

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
        cls, source: Path, given: os.stat_result, header: bytes, model_version: str, rejects: Path
    ) -> Self:
        """The job of scoring a file that was looked at."""
        return cls(
            input=str(source.resolve()),
            inode=given.st_ino,
            size=given.st_size,
            modified_ns=given.st_mtime_ns,
            header=hashlib.sha256(header).hexdigest(),
            model_version=model_version,
            rejects=str(rejects),
        )


class Reached(BaseModel):
    """How far a run has come: places in its three files, and rows."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    place: Place | None = None
    output: int = 0
    rejects: int = 0
    rows: int = 0
    rejected: int = 0

    @property
    def done(self) -> int:
        """Rows that were scored or rejected."""
        return self.rows + self.rejected


class Checkpoint(BaseModel):
    """How far a job has come."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    job: Job
    reached: Reached


class Stream:
    """Standard output or error in the place of a `PartFile`: what is written has gone."""

    replaces = False
    size = 0
    """Nothing can be dropped after."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, content: bytes) -> None:
        """Write whole lines."""
        self._file.write(content)
        self._file.flush()

    def start_at(self, size: int) -> None:
        """Nothing can be dropped."""

    def sync(self) -> None:
        """Nothing is held back."""

    def publish(self) -> None:
        """It is in its place."""

    def discard(self) -> None:
        """Nothing can be taken back."""

    def close(self) -> None:
        """It is not ours to close."""


class Run:
    """One run of a job, from its own start or from where another one stopped."""

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
        self.reached = Reached()
        self.outdated = False
        """Whether another job was stopped here."""

    def begin(self, scorer: Scorer) -> Place | None:
        """Write the header, or take up the run before; returns where to read on."""
        self._rejects_header = scorer.rejects_header
        found = self._stopped()
        if found and found.job == self._job:
            with suppress(EOFError):
                self._output.start_at(found.reached.output)
                self._rejects.start_at(found.reached.rejects)
                self.reached = found.reached
                return found.reached.place
        self.outdated = self._path.exists()
        if found:
            self._forget(found.job)
        self._path.unlink(missing_ok=True)
        self._output.start_at(0)
        self._rejects.start_at(0)
        self._output.write(scorer.header)
        return None

    def add(self, scored: Scored) -> None:
        """Write what became of a chunk."""
        before = self.reached
        if scored.rejected and not before.rejected:
            self._rejects.write(self._rejects_header)
        self._output.write(scored.output)
        self._rejects.write(scored.rejects)
        # At once, as a signal may come at any moment: what was written after it counts for nothing.
        self.reached = Reached(
            place=scored.end,
            output=self._output.size,
            rejects=self._rejects.size,
            rows=before.rows + scored.rows,
            rejected=before.rejected + scored.rejected,
        )
        self._chunks += 1
        if self._chunks % CHUNKS_BETWEEN == 0:
            self._save()

    def finish(self) -> None:
        """Put the files in place, the output last.

        Without rejects a file that was there for them is left with a header alone: it may hold
        those of an earlier run, and is not ours to remove.
        """
        if not self.reached.rejected and self._rejects.replaces:
            self._rejects.write(self._rejects_header)
        if self.reached.rejected or self._rejects.replaces:
            self._rejects.publish()
        else:
            self._rejects.discard()
        self._output.publish()
        self._path.unlink(missing_ok=True)

    def stop(self) -> bool:
        """Leave what can be gone on with, and nothing else; returns whether there is such."""
        # On a full disk the checkpoint before this one still stands.
        with suppress(OSError):
            self._save()
        if self._job and self._path.exists():
            return True
        self.discard()
        return False

    def discard(self) -> None:
        """Leave nothing."""
        self._path.unlink(missing_ok=True)
        self._output.discard()
        self._rejects.discard()

    def _save(self) -> None:
        if self._job and self.reached.place:
            self._output.sync()
            self._rejects.sync()
            checkpoint = Checkpoint(job=self._job, reached=self.reached)
            replace(self._path, checkpoint.model_dump_json().encode())

    def _stopped(self) -> Checkpoint | None:
        """The checkpoint of a run that was stopped here."""
        with suppress(OSError, ValidationError):
            return Checkpoint.model_validate_json(self._path.read_bytes())
        return None

    def _forget(self, other: Job) -> None:
        """Remove the rejects that another job wrote aside, unless somebody has a use for them."""
        path = Path(other.rejects)
        left = f"{path}{PART}"
        if path.is_absolute() and not (self._job and self._job.input == left):
            # A file that is being written, by this run or another, is locked.
            with suppress(OSError):
                file = PartFile(path)
                file.discard()
                file.close()
