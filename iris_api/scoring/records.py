"""Splits lines of CSV (RFC 4180) into records with the standard `csv` module."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

QUOTED, LONE_RETURN = re.compile('"[^"]*"'), re.compile("\r(?!\n)")


@dataclass(frozen=True, slots=True)
class Record:
    """The lines from `start` up to, not including, `end`, counted from 0, read as one record."""

    start: int
    end: int
    text: bytes
    """The record without its line ending; a line whose quotes are broken is quoted as one cell."""
    cells: list[str]
    """Empty if the record can't be read."""
    error: str = ""


def split_records(text: bytes, *, last: bool, max_bytes: int) -> Iterator[Record]:
    """Split whole lines into records.

    After a line that can't be read as the start of a record, reading resumes in the next line.

    Args:
        text: Whole lines, each with its line ending.
        last: Whether the file ends here. If not, a record that needs more lines is left out.
        max_bytes: Size above which an open quote counts as an error, however many lines follow.
    """
    decoded = text.decode("utf-8", "surrogateescape")
    lines = [f"{line}\n" for line in decoded.split("\n")[:-1]]
    end = 0
    while end < len(lines):
        first = end
        reader = csv.reader(_lines_from(lines, first), strict=True)
        try:
            for cells in reader:
                start, end = end, first + reader.line_num
                record = _encoded(lines[start:end])
                error = "" if _is_utf8(record) else "not UTF-8"
                yield Record(start, end, record, cells or [""], error)
        except (_NoMoreLinesError, csv.Error) as stopped:
            if end == len(lines):
                return
            is_open = isinstance(stopped, _NoMoreLinesError)
            if is_open and not last and len(_encoded(lines[end:])) <= max_bytes:
                return
            read = "".join(lines[end : first + reader.line_num])
            start, end = end, end + 1
            one_cell = b'"%b"' % _encoded(lines[start:end]).replace(b'"', b'""')
            yield Record(start, end, one_cell, [], _reason(read, max_bytes, is_open=is_open))


class _NoMoreLinesError(Exception):
    """`csv` asked for another line inside a record: its quote is still open."""


def _lines_from(lines: list[str], first: int) -> Iterator[str]:
    yield from islice(lines, first, None)
    raise _NoMoreLinesError


def _reason(read: str, max_bytes: int, *, is_open: bool) -> str:
    """Why `csv` could not go on after these lines."""
    if LONE_RETURN.search(QUOTED.sub("", read)):
        return "a carriage return in a cell without quotes: lines have to end with LF or CRLF"
    if '"' not in read:
        return f"a cell of more than {max_bytes:,} characters"
    if is_open or len(read) > max_bytes:
        return "a quote is opened and never closed"
    return "text follows the closing quote of a cell: a quote inside a cell is written twice"


def _encoded(lines: list[str]) -> bytes:
    """The lines as they were in the file, without the last line ending."""
    text = "".join(lines).removesuffix("\n").removesuffix("\r")
    return text.encode("utf-8", "surrogateescape")


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
