"""A CSV file (RFC 4180) as chunks of records, each known by the line it starts in.

Lines without a quote are cut up at once, others by the `csv` module; the records are the same.
Their cells are not made one by one where nobody asks for that: most rows are read as text of many.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from iris_api.errors import TableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

CHUNK_BYTES = 256 * 1024
MAX_RECORD_BYTES = 1024 * 1024
COMMA, NEWLINE, BOM = ord(","), ord("\n"), b"\xef\xbb\xbf"
NEWLINES_TO_COMMAS = bytes.maketrans(b"\n", b",")
QUOTED, LONE_RETURN = re.compile('"[^"]*"'), re.compile("\r(?!\n)")


@dataclass(frozen=True, slots=True)
class Place:
    """A place between two records: how many bytes are before it, and which line begins there."""

    offset: int = 0
    line: int = 1


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that is no row of the model's: the line it starts in, why, and how it came.

    A line whose quotes make no sense stands as one cell.
    """

    line: int
    reasons: str
    record: bytes


@dataclass(frozen=True, slots=True)
class CutCells:
    """Cells in the wanted columns, cut out one by one."""

    columns: list[list[bytes]]
    """The cells, column by column as they are wanted."""
    wanted: Sequence[int]

    def in_a_row(self) -> bytes:
        """All cells with commas between them, row by row and as they stand in it."""
        ordered = (cells for _, cells in sorted(zip(self.wanted, self.columns, strict=True)))
        return b",".join(chain.from_iterable(zip(*ordered, strict=True)))


@dataclass(frozen=True, slots=True)
class PlainCells:
    """Cells in the wanted columns of lines without a quote, which are cut where that is asked."""

    text: bytes
    marks: NDArray[np.intp]
    """Where the commas and the line ends are: one after each cell."""
    width: int
    wanted: Sequence[int]

    @property
    def columns(self) -> list[list[bytes]]:
        """The cells, column by column as they are wanted."""
        cells = self.text.replace(b"\r", b"").replace(b"\n", b",").split(b",")
        return [cells[column : -1 : self.width] for column in self.wanted]

    def in_a_row(self) -> bytes:
        """All cells with commas between them, row by row and as they stand in it."""
        kept = np.zeros(self.width, np.bool_)
        kept[self.wanted] = True
        sizes = np.diff(self.marks, prepend=-1)
        bytes_kept = np.repeat(np.tile(kept, len(sizes) // self.width), sizes)
        found = np.frombuffer(self.text, np.uint8)[bytes_kept].tobytes()
        return found.translate(NEWLINES_TO_COMMAS, b"\r").removesuffix(b",")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive records, as they came but for the line ends, and their cells.

    Blank lines and what was rejected are in neither.
    """

    records: list[bytes]
    lines: Sequence[int]
    cells: CutCells | PlainCells
    rejected: list[Rejected]
    end: Place


@dataclass(frozen=True, slots=True)
class _Record:
    """What `csv` made of the lines from `start` to before `end`, counted from 0."""

    start: int
    end: int
    text: bytes
    cells: list[str]
    wrong: str = ""


class Table:
    """A CSV file that is open for reading, its header read; a byte order mark is kept apart."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        # Of the whole process: `csv` has no other way.
        csv.field_size_limit(MAX_RECORD_BYTES)
        self._file = file
        self._name = name
        self._pending = b""
        self._taken = 0
        self._line = 1
        self.mark = b""
        self.end_of_line = b"\n"
        header = self._header()
        self.header = header.text
        self.names = [name.strip() for name in header.cells]
        if self._pending.startswith(b"\r\n", len(header.text)):
            self.end_of_line = b"\r\n"
        self._skip(len(header.text) + len(self.end_of_line), header.end)

    def error(self, told: str) -> TableError:
        """What is wrong with it, as an error."""
        return TableError(f"{self._name}: {told}")

    @property
    def place(self) -> Place:
        """Where the next record begins."""
        return Place(self._taken - len(self._pending), self._line)

    def go_on(self, place: Place) -> None:
        """Read on from a place that a chunk of the same file ended at."""
        self._file.seek(place.offset)
        self._pending, self._taken, self._line = b"", place.offset, place.line

    def chunks(self, wanted: Sequence[int]) -> Iterator[Chunk]:
        """All records that follow, with their cells in the wanted columns.

        Raises:
            TableError: if a record is so long that this is no table.
        """
        more = True
        while more:
            more = self._fill()
            text = self._whole_lines(last=not more)
            if text:
                yield self._lines(text, wanted) or self._any(text, wanted, last=not more)
            if len(self._pending) > MAX_RECORD_BYTES + CHUNK_BYTES:
                told = f"a record of more than {MAX_RECORD_BYTES:,} bytes"
                raise self.error(f"line {self._line} begins {told}: is this a CSV file?")

    def _fill(self) -> bool:
        block = self._file.read(CHUNK_BYTES)
        self._pending += block
        self._taken += len(block)
        return bool(block)

    def _whole_lines(self, *, last: bool) -> bytes:
        text = self._pending
        if last and text and not text.endswith(b"\n"):
            return text + self.end_of_line
        return text if last else text[: text.rfind(b"\n") + 1]

    def _skip(self, size: int, lines: int) -> None:
        self._pending = self._pending[size:]
        self._line += lines

    def _header(self) -> _Record:
        more = True
        while more and len(self._pending) <= MAX_RECORD_BYTES:
            more = self._fill()
            if self._pending.startswith(BOM):
                self.mark, self._pending = BOM, self._pending.removeprefix(BOM)
            found = next(_records(self._whole_lines(last=not more), last=not more), None)
            if found and found.text.strip() and not found.wrong:
                return found
            if found:
                raise self.error(self._no_header(found))
        raise self.error(self._no_header())

    def _no_header(self, found: _Record | None = None) -> str:
        if not self._taken:
            return "it is empty"
        if b"\r" in self._pending and b"\n" not in self._pending:
            return "its lines end with CR alone: save it with line ends of LF or CRLF"
        if not found:
            return "there is no header: is this a CSV file?"
        told = f"the header can't be read: {found.wrong}"
        return told if found.wrong else "line 1 is blank: the header has to stand there"

    def _lines(self, text: bytes, wanted: Sequence[int]) -> Chunk | None:
        """The records of lines that are one whole row each; None of any others."""
        rows = text.count(b"\n")
        if self.end_of_line == b"\n":
            all_alike = b"\r" not in text
        else:
            all_alike = rows == text.count(self.end_of_line) == text.count(b"\r")
        if not all_alike:
            return None
        try:
            cells = (self._quoted if b'"' in text else self._plain)(text, rows, wanted)
        except (UnicodeDecodeError, csv.Error):
            return None
        if cells is None:
            return None
        lines = range(self._line, self._line + rows)
        self._skip(len(text), rows)
        return Chunk(text.split(self.end_of_line)[:-1], lines, cells, [], self.place)

    def _plain(self, text: bytes, rows: int, wanted: Sequence[int]) -> PlainCells | None:
        """The cells of lines without a quote, if all have the right number of commas."""
        text.decode()
        width = len(self.names)
        codes = np.frombuffer(text, np.uint8)
        marks = np.flatnonzero((codes == COMMA) | (codes == NEWLINE))
        if len(marks) != rows * width or (codes[marks[width - 1 :: width]] != NEWLINE).any():
            return None
        return PlainCells(text, marks, width, wanted)

    def _quoted(self, text: bytes, rows: int, wanted: Sequence[int]) -> CutCells | None:
        """The cells of lines with quotes, if each line is a record of the right width."""
        records = list(csv.reader(text.decode().split("\n")[:-1], strict=True))
        if len(records) != rows or set(map(len, records)) != {len(self.names)}:
            return None
        columns = [[cells[column].encode() for cells in records] for column in wanted]
        return CutCells(columns, wanted)

    def _any(self, text: bytes, wanted: Sequence[int], *, last: bool) -> Chunk:
        """The records of any lines, but for one at the end that is not there as a whole yet."""
        width, count = len(self.names), 0
        good: list[_Record] = []
        rejected: list[Rejected] = []
        for record in _records(text, last=last):
            count = record.end
            if not record.text and width > 1:
                continue
            if record.wrong or len(record.cells) != width:
                cells = f"{len(record.cells)} cell{'' if len(record.cells) == 1 else 's'}"
                told = record.wrong or f"{cells} where the header has {width}"
                rejected.append(Rejected(self._line + record.start, told, record.text))
            else:
                good.append(record)
        columns = [[record.cells[column].encode() for record in good] for column in wanted]
        lines = [self._line + record.start for record in good]
        self._skip(len(b"".join(text.split(b"\n", count)[:count])) + count, count)
        records = [record.text for record in good]
        return Chunk(records, lines, CutCells(columns, wanted), rejected, self.place)


def _records(text: bytes, *, last: bool) -> Iterator[_Record]:
    """Cut up whole lines; after a record that is none, go on in the line after its first.

    Without the last lines of a file, a record that needs more lines is left out.
    """
    decoded = text.decode("utf-8", "surrogateescape")
    lines = [f"{line}\n" for line in decoded.split("\n")[:-1]]
    end = 0
    while end < len(lines):
        first = end
        reader = csv.reader(_each(lines, first), strict=True)
        try:
            for cells in reader:
                start, end = end, first + reader.line_num
                whole = _text(lines[start:end])
                yield _Record(start, end, whole, cells or [""], _wrong(whole))
        except (_NoMoreLinesError, csv.Error) as error:
            if end == len(lines):
                return
            is_open = isinstance(error, _NoMoreLinesError)
            if is_open and not last and len(_text(lines[end:])) <= MAX_RECORD_BYTES:
                return
            told = _broken("".join(lines[end : first + reader.line_num]), is_open=is_open)
            start, end = end, end + 1
            as_cell = b'"%b"' % _text(lines[start:end]).replace(b'"', b'""')
            yield _Record(start, end, as_cell, [], told)


class _NoMoreLinesError(Exception):
    """A line was asked for that is not there: within a record, as its quote is still open."""


def _each(lines: list[str], first: int) -> Iterator[str]:
    yield from islice(lines, first, None)
    raise _NoMoreLinesError


def _broken(read: str, *, is_open: bool) -> str:
    """Why `csv` could not go on after these lines."""
    if LONE_RETURN.search(QUOTED.sub("", read)):
        return "a carriage return in a cell without quotes: lines have to end with LF or CRLF"
    if '"' not in read:
        return f"a cell of more than {MAX_RECORD_BYTES:,} characters"
    if is_open or len(read) > MAX_RECORD_BYTES:
        return "a quote is opened and never closed"
    return "a cell goes on after its closing quote: a quote within a cell is written twice"


def _text(lines: list[str]) -> bytes:
    whole = "".join(lines).removesuffix("\n").removesuffix("\r")
    return whole.encode("utf-8", "surrogateescape")


def _wrong(record: bytes) -> str:
    return "" if _is_utf8(record) else "not UTF-8"


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
