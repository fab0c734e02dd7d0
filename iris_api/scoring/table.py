"""Reads a CSV file (RFC 4180) in chunks of records, each with the line it starts in.

A chunk without quotes is split with NumPy; any other goes through the `csv` module. The records are
the same. Most cells never become Python objects: the rows of a chunk are parsed as one text.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from iris_api.errors import TableError

from .records import split_records

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from .records import Record

CHUNK_BYTES = 256 * 1024
MAX_RECORD_BYTES = 1024 * 1024
COMMA, NEWLINE, BOM = ord(","), ord("\n"), b"\xef\xbb\xbf"
NEWLINES_TO_COMMAS = bytes.maketrans(b"\n", b",")


@dataclass(frozen=True, slots=True)
class Place:
    """A place between two records: the bytes before it, and the line that begins there."""

    offset: int = 0
    line: int = 1


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that is not a row of the model: its first line, the reasons, and its text."""

    line: int
    reasons: str
    record: bytes


@dataclass(frozen=True, slots=True)
class SplitCells:
    """Cells of the selected columns, already split."""

    columns: list[list[bytes]]
    """One list of cells per selected column, in the order of the selection."""
    selected: Sequence[int]
    """Indexes of the selected columns in the file."""

    def joined(self) -> bytes:
        """The selected cells of all rows with commas between them, in the order of the file."""
        ordered = (cells for _, cells in sorted(zip(self.selected, self.columns, strict=True)))
        return b",".join(chain.from_iterable(zip(*ordered, strict=True)))


@dataclass(frozen=True, slots=True)
class UnquotedCells:
    """Cells of the selected columns in lines without quotes, split only when `columns` is read."""

    text: bytes
    ends: NDArray[np.intp]
    """Offset of the comma or line feed after each cell."""
    width: int
    """Columns of the file."""
    selected: Sequence[int]

    @property
    def columns(self) -> list[list[bytes]]:
        """One list of cells per selected column, in the order of the selection."""
        cells = self.text.replace(b"\r", b"").replace(b"\n", b",").split(b",")
        return [cells[column : -1 : self.width] for column in self.selected]

    def joined(self) -> bytes:
        """The selected cells of all rows with commas between them, in the order of the file."""
        is_selected = np.zeros(self.width, np.bool_)
        is_selected[self.selected] = True
        sizes = np.diff(self.ends, prepend=-1)
        keep = np.repeat(np.tile(is_selected, len(sizes) // self.width), sizes)
        kept = np.frombuffer(self.text, np.uint8)[keep].tobytes()
        return kept.translate(NEWLINES_TO_COMMAS, b"\r").removesuffix(b",")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive records without their line endings, and their cells.

    Blank lines and rejected records are in neither.
    """

    records: list[bytes]
    lines: Sequence[int]
    """The line that each record starts in."""
    cells: SplitCells | UnquotedCells
    rejected: list[Rejected]
    end: Place


class Table:
    """A CSV file, open for reading, whose header has been read.

    Args:
        file: Where to read; a file that can seek, if `resume` is called.
        name: What error messages call it.

    Raises:
        TableError: if there is no header that can be read.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        # The limit is of the whole process: `csv` has no other.
        csv.field_size_limit(MAX_RECORD_BYTES)
        self._file = file
        self._name = name
        self._pending = b""
        self._bytes_read = 0
        self._line = 1
        self.byte_order_mark = b""
        self.line_ending = b"\n"
        header = self._read_header()
        self.header = header.text
        self.names = [name.strip() for name in header.cells]
        if self._pending.startswith(b"\r\n", len(header.text)):
            self.line_ending = b"\r\n"
        self._consume(len(header.text) + len(self.line_ending), header.end)

    def error(self, message: str) -> TableError:
        """An error whose message begins with the name of the file."""
        return TableError(f"{self._name}: {message}")

    @property
    def place(self) -> Place:
        """Where the next record begins."""
        return Place(self._bytes_read - len(self._pending), self._line)

    def resume(self, place: Place) -> None:
        """Read on from the end of an earlier chunk of the same file."""
        self._file.seek(place.offset)
        self._pending, self._bytes_read, self._line = b"", place.offset, place.line

    def chunks(self, selected: Sequence[int]) -> Iterator[Chunk]:
        """All records that follow, with their cells in the selected columns.

        Raises:
            TableError: if a record is too long for this to be a table.
        """
        more = True
        while more:
            more = self._fill()
            text = self._whole_lines(last=not more)
            if text:
                yield self._one_record_a_line(text, selected) or self._any_records(
                    text, selected, last=not more
                )
            if len(self._pending) > MAX_RECORD_BYTES + CHUNK_BYTES:
                record = f"a record of more than {MAX_RECORD_BYTES:,} bytes"
                raise self.error(f"line {self._line} begins {record}: is this a CSV file?")

    def _fill(self) -> bool:
        block = self._file.read(CHUNK_BYTES)
        self._pending += block
        self._bytes_read += len(block)
        return bool(block)

    def _whole_lines(self, *, last: bool) -> bytes:
        text = self._pending
        if last and text and not text.endswith(b"\n"):
            return text + self.line_ending
        return text if last else text[: text.rfind(b"\n") + 1]

    def _consume(self, size: int, lines: int) -> None:
        self._pending = self._pending[size:]
        self._line += lines

    def _read_header(self) -> Record:
        more = True
        while more and len(self._pending) <= MAX_RECORD_BYTES:
            more = self._fill()
            if self._pending.startswith(BOM):
                self.byte_order_mark, self._pending = BOM, self._pending.removeprefix(BOM)
            lines = self._whole_lines(last=not more)
            header = next(split_records(lines, last=not more, max_bytes=MAX_RECORD_BYTES), None)
            if header and header.text.strip() and not header.error:
                return header
            if header:
                raise self.error(self._why_no_header(header))
        raise self.error(self._why_no_header())

    def _why_no_header(self, first: Record | None = None) -> str:
        if not self._bytes_read:
            return "the file is empty"
        if b"\r" in self._pending and b"\n" not in self._pending:
            return "the lines end with CR alone: save the file with LF or CRLF line endings"
        if not first:
            return "there is no header: is this a CSV file?"
        if first.error:
            return f"the header can't be read: {first.error}"
        return "line 1 is blank: the header has to be there"

    def _one_record_a_line(self, text: bytes, selected: Sequence[int]) -> Chunk | None:
        """The records, if each line is one whole record of the right width; else None."""
        rows = text.count(b"\n")
        if self.line_ending == b"\n":
            same_endings = b"\r" not in text
        else:
            same_endings = rows == text.count(self.line_ending) == text.count(b"\r")
        if not same_endings:
            return None
        split = self._split_quoted if b'"' in text else self._split_unquoted
        try:
            cells = split(text, rows, selected)
        except (UnicodeDecodeError, csv.Error):
            return None
        if cells is None:
            return None
        lines = range(self._line, self._line + rows)
        self._consume(len(text), rows)
        return Chunk(text.split(self.line_ending)[:-1], lines, cells, [], self.place)

    def _split_unquoted(
        self, text: bytes, rows: int, selected: Sequence[int]
    ) -> UnquotedCells | None:
        """The cells of lines without quotes, if all have the right number of commas."""
        text.decode()
        width = len(self.names)
        codes = np.frombuffer(text, np.uint8)
        ends = np.flatnonzero((codes == COMMA) | (codes == NEWLINE))
        if len(ends) != rows * width or (codes[ends[width - 1 :: width]] != NEWLINE).any():
            return None
        return UnquotedCells(text, ends, width, selected)

    def _split_quoted(self, text: bytes, rows: int, selected: Sequence[int]) -> SplitCells | None:
        """The cells of lines with quotes, if each line is a record of the right width."""
        records = list(csv.reader(text.decode().split("\n")[:-1], strict=True))
        if len(records) != rows or set(map(len, records)) != {len(self.names)}:
            return None
        columns = [[cells[column].encode() for cells in records] for column in selected]
        return SplitCells(columns, selected)

    def _any_records(self, text: bytes, selected: Sequence[int], *, last: bool) -> Chunk:
        """The records of any lines, without one at the end that is not complete yet."""
        width, count = len(self.names), 0
        good: list[Record] = []
        rejected: list[Rejected] = []
        for record in split_records(text, last=last, max_bytes=MAX_RECORD_BYTES):
            count = record.end
            if not record.text and width > 1:
                continue
            if record.error or len(record.cells) != width:
                cells = f"{len(record.cells)} cell{'' if len(record.cells) == 1 else 's'}"
                reasons = record.error or f"{cells} where the header has {width}"
                rejected.append(Rejected(self._line + record.start, reasons, record.text))
            else:
                good.append(record)
        columns = [[record.cells[column].encode() for record in good] for column in selected]
        lines = [self._line + record.start for record in good]
        self._consume(len(b"".join(text.split(b"\n", count)[:count])) + count, count)
        records = [record.text for record in good]
        return Chunk(records, lines, SplitCells(columns, selected), rejected, self.place)
