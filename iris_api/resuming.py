"""Where the lines of a scoring run go, and how a run that was stopped is gone on with.

Files are written aside and renamed at the end. Every so many chunks they are flushed to the disk,
and a checkpoint beside them says how far they go.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from .files import PartFile, replace
from .table import Place

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from .scoring import Scored, Scorer

CHUNKS_BETWEEN = 64
"""Chunks from one checkpoint to the next: about 16 MB of input, and a second or two."""


class Job(BaseModel):
    """What two runs must have in common for the second to go on with the first."""

    model_config = ConfigDict(frozen=True)

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


class Checkpoint(BaseModel):
    """How far a job has come: places in its three files, and rows."""

    model_config = ConfigDict(frozen=True)

    job: Job
    place: Place = Place()
    output: int = 0
    rejects: int = 0
    rows: int = 0
    rejected: int = 0


class Stream:
    """Standard output or error in the place of a `PartFile`: what is written has gone."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, content: bytes) -> None:
        """Write whole lines."""
        self._file.write(content)
        self._file.flush()

    def start_at(self, size: int) -> None:
        """Nothing can be dropped."""

    def sync(self) -> int:
        """Nothing is held back."""
        return 0

    def publish(self) -> None:
        """It is in its place."""

    def discard(self) -> None:
        """Nothing can be taken back."""

    def remove(self) -> None:
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
        self.rows = self.rejected = 0
        self.outdated = False
        """Whether another job was stopped here."""

    @property
    def done(self) -> int:
        """Rows that were scored or rejected."""
        return self.rows + self.rejected

    def begin(self, scorer: Scorer) -> Place | None:
        """Write the header, or take up the run before; returns where to read on."""
        self._rejects_header = scorer.rejects_header
        found = self._stopped()
        if found:
            with suppress(EOFError):
                self._output.start_at(found.output)
                self._rejects.start_at(found.rejects)
                self.rows, self.rejected = found.rows, found.rejected
                return found.place
        self.outdated = self._path.exists()
        self._path.unlink(missing_ok=True)
        self._output.start_at(0)
        self._rejects.start_at(0)
        self._output.write(scorer.header)
        return None

    def add(self, scored: Scored) -> None:
        """Write what became of a chunk."""
        if scored.rejected and not self.rejected:
            self._rejects.write(self._rejects_header)
        self._output.write(scored.output)
        self._rejects.write(scored.rejects)
        self.rows += scored.rows
        self.rejected += scored.rejected
        self._chunks += 1
        if self._job and self._chunks % CHUNKS_BETWEEN == 0:
            self._save(self._job, scored.end)

    def finish(self) -> None:
        """Put the files in place, the output last. Without rejects there is no file of them."""
        if self.rejected:
            self._rejects.publish()
        else:
            self._rejects.remove()
        self._output.publish()
        self._path.unlink(missing_ok=True)

    def stop(self) -> bool:
        """Leave what can be gone on with, and nothing else; returns whether there is such."""
        if self._job and self._path.exists():
            return True
        self._output.discard()
        self._rejects.discard()
        return False

    def _save(self, job: Job, place: Place) -> None:
        sizes = {"output": self._output.sync(), "rejects": self._rejects.sync()}
        counts = {"rows": self.rows, "rejected": self.rejected}
        checkpoint = Checkpoint(job=job, place=place, **sizes, **counts)
        replace(self._path, checkpoint.model_dump_json().encode())

    def _stopped(self) -> Checkpoint | None:
        """The checkpoint of a run of this job."""
        with suppress(OSError, ValidationError):
            found = Checkpoint.model_validate_json(self._path.read_bytes())
            return found if found.job == self._job else None
        return None
