from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iris_api.errors import TableError
from iris_api.scoring import table
from iris_api.scoring.scorer import quoted
from iris_api.scoring.table import Place, Table

if TYPE_CHECKING:
    from collections.abc import Callable

CELLS = st.text(st.sampled_from('ab",\r\n é\ufeff\x1f\u2028'), max_size=5)


def read(
    content: bytes, columns: tuple[int, ...] = (0,)
) -> tuple[list[bytes], list[int], list[bytes]]:
    """Records, the lines they start in, and the cells of the first of these columns."""
    chunks = list(Table(io.BytesIO(content), "t.csv").chunks(columns))
    return (
        [record for chunk in chunks for record in chunk.records],
        [line for chunk in chunks for line in chunk.lines],
        [cell for chunk in chunks for cell in chunk.cells.columns[0]],
    )


@given(
    rows=st.lists(st.tuples(CELLS, CELLS), max_size=8),
    end=st.sampled_from(["\n", "\r\n"]),
    quote=st.sampled_from([quoted, lambda cell: '"' + cell.replace('"', '""') + '"']),
    size=st.integers(3, 40),
)
def test_written_records_are_read_back(
    rows: list[tuple[str, str]], end: str, quote: Callable[[str], str], size: int
) -> None:
    """For any text in the cells, and wherever a chunk ends."""
    written = [f"{quote(first)},{quote(second)}{end}" for first, second in rows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "CHUNK_BYTES", size)
        records, lines, cells = read("".join([f"a,b{end}", *written]).encode())
    assert cells == [first.encode() for first, _ in rows]
    assert [one.decode() + end for one in records] == written
    assert lines == [2 + "".join(written[:row]).count("\n") for row in range(len(rows))]


@pytest.mark.parametrize(
    ("lines", "line", "reasons"),
    [
        (b"1,2\n3\n5,6\n", 3, "1 cell where the header has 2"),
        (b"1,2\n3,4,5\n5,6\n", 3, "3 cells where the header has 2"),
        (b'1,"\n\n"\n3\n5,6\n', 5, "1 cell where the header has 2"),
        (b"1,2\n3,\xff\n5,6\n", 3, "not UTF-8"),
        (b'1,2\n3,"x"y\n5,6\n', 3, "text follows the closing quote of a cell"),
        (b'1,2\n3,"x"y"\n5,6\n', 3, "text follows the closing quote of a cell"),
        (b'1,2\n3,"x\n5,6\n', 3, "a quote is opened and never closed"),
        (b'1,2\n3,"\r","x\n5,6\n', 3, "a quote is opened and never closed"),
        (b"1,2\n3,\r4\n5,6\n", 3, "a carriage return in a cell without quotes: lines have to"),
    ],
)
def test_a_broken_record_is_rejected_and_the_others_are_read(
    lines: bytes, line: int, reasons: str
) -> None:
    """Its line number is the one in an editor, also after line endings inside cells."""
    (chunk,) = Table(io.BytesIO(b"a,b\n" + lines), "t.csv").chunks([0])
    (rejected,) = chunk.rejected
    assert rejected.line == line
    assert rejected.reasons.startswith(reasons)
    assert chunk.cells.columns == [[b"1", b"5"]]


def test_blank_lines_are_skipped_and_the_last_line_needs_no_ending() -> None:
    """In a table of one column, a blank line is an empty cell."""
    assert read(b"a,b\n\n1,2\n\r\n\n3,4") == ([b"1,2", b"3,4"], [3, 6], [b"1", b"3"])
    assert read(b"a\n1\n\n2")[2] == [b"1", b"", b"2"]
    assert read(b'a\n"1"\n\n2')[2] == [b"1", b"", b"2"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_the_header_is_kept_unchanged(end: bytes) -> None:
    """Names lose the blanks around them; line ending and byte order mark are recognised."""
    csv_table = Table(io.BytesIO(b'\xef\xbb\xbf a ,"b\n""c"' + end + b"1,2" + end), "t.csv")
    assert csv_table.names == ["a", 'b\n"c']
    assert (csv_table.byte_order_mark, csv_table.header) == (b"\xef\xbb\xbf", b' a ,"b\n""c"')
    assert csv_table.line_ending == end
    (chunk,) = csv_table.chunks([1])
    assert (chunk.records, list(chunk.lines), chunk.cells.columns) == ([b"1,2"], [3], [[b"2"]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b'"a,b\n' + b"x" * 200_000, "header can't be read: a quote is opened and never closed"),
        (b'"a,b\n' + b"x\n" * 999_999, "header can't be read: a quote is opened and never closed"),
        (b"\xff,b\n", "header can't be read: not UTF-8"),
        (b"\n\na,b\n1,2\n", "line 1 is blank: the header has to be there"),
        (b"\r\na,b\r\n", "line 1 is blank: the header has to be there"),
        (b"a,b\r1,2\r", "the lines end with CR alone: save the file with LF or CRLF line endings"),
        (
            b"a,b\r" * 1_000_000,
            "the lines end with CR alone: save the file with LF or CRLF line endings",
        ),
        (b"x" * 3_000_000, "there is no header"),
        (b"a\n" + b"x" * 3_000_000, "line 2 begins a record of more than 1,048,576 bytes"),
    ],
)
def test_a_file_that_is_not_a_table_is_refused(content: bytes, message: str) -> None:
    """It is refused before it fills the memory, with a message that says what is wrong."""
    with pytest.raises(TableError, match=message):
        list(Table(io.BytesIO(content), "t.csv").chunks([0]))


def test_a_place_is_where_the_next_record_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second reader resumes at the end of any chunk, and reads exactly the rest."""
    monkeypatch.setattr(table, "CHUNK_BYTES", 16)
    content = b"\xef\xbb\xbfa,b\r\n" + b'1,"x\r\ny"\r\n2,z\r\n' * 9 + b"3,end"
    whole = Table(io.BytesIO(content), "t.csv")
    ends = [Place(12, 2), *(chunk.end for chunk in whole.chunks([0]))]
    assert ends[-1].offset == len(content)
    for end in ends[1:]:
        again = Table(io.BytesIO(content), "t.csv")
        again.resume(end)
        rest = [record + b"\r\n" for chunk in again.chunks([0]) for record in chunk.records]
        assert b"".join(rest).removesuffix(b"\r\n") == content[end.offset :]


def test_a_cell_that_is_too_long_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it has no quote, or a quote that is never closed and takes the lines after it."""
    monkeypatch.setattr(table, "MAX_RECORD_BYTES", 1000)
    long, filler = b"x" * 1001, b"5,6\n" * 300
    content = b"a,b\n1," + long + b'\n1,"y\n' + filler
    chunks = Table(io.BytesIO(content), "t.csv").chunks([0])
    rejected = [one for chunk in chunks for one in chunk.rejected]
    assert [(one.line, one.reasons) for one in rejected] == [
        (2, "a cell of more than 1,000 characters"),
        (3, "a quote is opened and never closed"),
    ]
