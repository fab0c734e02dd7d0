"""What the page reads and writes as CSV, run by Node and compared with Python's own."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iris_api.web.pages import STATIC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.system

LOOP = """
import { createInterface } from "node:readline";
import * as csv from "./csv.js";
const call = { ...csv, records: (...given) => [...csv.records(...given)] };
for await (const line of createInterface({ input: process.stdin })) {
  const [name, ...given] = JSON.parse(line);
  let told;
  try { told = { value: call[name](...given) }; } catch (error) { told = { error: error.message }; }
  console.log(JSON.stringify(told));
}
"""


@pytest.fixture(scope="module")
def call(
    needs: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Any]]:
    """Call a function of csv.js."""
    directory: Path = tmp_path_factory.mktemp("csv")
    shutil.copy(STATIC / "csv.js", directory)
    (directory / "package.json").write_text('{"type": "module"}')
    with subprocess.Popen(
        [needs("node"), "--input-type=module", "--eval", LOOP],
        cwd=directory,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as node:
        write, read = node.stdin, node.stdout
        assert write
        assert read

        def call(name: str, *given: Any) -> Any:
            write.write(json.dumps([name, *given]).encode() + b"\n")
            write.flush()
            told = json.loads(read.readline())
            return told["value"] if "value" in told else f"error: {told['error']}"

        yield call


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), max_size=8)
special = st.text(',;\t"\r\n a', max_size=8)
tables = st.integers(2, 4).flatmap(
    lambda width: st.lists(st.lists(cells | special, min_size=width, max_size=width), min_size=1)
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    table=tables, separator=st.sampled_from(",;\t"), ending=st.sampled_from(["\r\n", "\n", "\r"])
)
def test_what_python_writes_is_read_and_what_is_written_python_reads(
    call: Callable[..., Any], table: list[list[str]], separator: str, ending: str
) -> None:
    """Cell by cell, with quotes, line breaks and separators inside; with and without a mark."""
    text = io.StringIO()
    quoting: Any = csv.QUOTE_MINIMAL if ending == "\r\n" else csv.QUOTE_ALL
    writer = csv.writer(text, delimiter=separator, lineterminator=ending, quoting=quoting)
    writer.writerows(table)
    for mark in ("", "\ufeff"):
        found = call("records", mark + text.getvalue(), separator)
        assert [record["cells"] for record in found] == table
    lines = "".join(call("written", row, separator) for row in table)
    assert list(csv.reader(io.StringIO(lines, newline=""), delimiter=separator)) == table


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("\n\n", []),
        ("a", [(1, ["a"])]),
        ("a,", [(1, ["a", ""])]),
        ("a\n\n\nb", [(1, ["a"]), (4, ["b"])]),
        ('"a\nb",1\nc,2', [(1, ["a\nb", "1"]), (3, ["c", "2"])]),
        ('"a"b,c\nd,e', [(1, ['"a"b,c']), (2, ["d", "e"])]),
        ('1,"a\n2,"b"\n3,c', [(1, ['1,"a']), (2, ["2", "b"]), (3, ["3", "c"])]),
        ('a"b,c', [(1, ['a"b', "c"])]),
        ('""""', [(1, ['"'])]),
        ('""', []),
    ],
)
def test_a_record_knows_its_line(
    call: Callable[..., Any], text: str, expected: list[tuple[int, list[str]]]
) -> None:
    """Blank lines are left out and counted; a break inside quotes counts too."""
    found = call("records", text, ",")
    assert [(record["line"], record["cells"]) for record in found] == expected


@pytest.mark.parametrize(
    ("text", "line"), [('x,y\n1,"2\n3,4', 2), ('"', 1), ('x\n"a""', 2), ('"\r\nx,y', 1)]
)
def test_a_quote_that_is_never_closed_costs_its_line_alone(
    call: Callable[..., Any], text: str, line: int
) -> None:
    """What stands before and after it is there."""
    found = call("records", text, ",")
    assert [one["line"] for one in found] == list(range(1, 1 + len(text.splitlines())))
    assert ["never closed" in one.get("wrong", "") for one in found].index(True) == line - 1


@pytest.mark.parametrize(
    ("header", "separator"),
    [
        ("b,x,a", ","),
        ("b;x;a", ";"),
        ("b\tx\ta", "\t"),
        ('b ; a;"x,y,z"', ";"),
        ("\ufeffa,b", ","),
    ],
)
def test_the_separator_is_the_one_that_finds_the_features(
    call: Callable[..., Any], header: str, separator: str
) -> None:
    """In any order, among others, with space around them."""
    found = call("opened", f"{header}\n1{separator}2", ["a", "b"])
    assert found["separator"] == separator
    assert [found["header"][column] for column in found["columns"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "comma"),
    [
        ("a;b\n1;2\n3;4,5\n", True),
        ("a;b\r\n1;2\r\n3;,5\r\n", True),
        ('a;b\n"1,5";2\n', True),
        ("a;b\n1.5;2\n", False),
        ("a;b;note\n1.5;2;1,2,3 or 1,5 apples\n", False),
        ("a,b\n1,5\n", False),
        ("a\tb\n1,5\t2\n", False),
    ],
)
def test_decimals_have_commas_if_those_of_any_row_have(
    call: Callable[..., Any], text: str, comma: bool
) -> None:
    """The first rows may all be whole numbers, and yet no file may come back with both marks."""
    assert call("opened", text, ["a", "b"])["comma"] == comma


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("", "choose a file"),
        (" \n", "choose a file"),
        ("1,2", "a, b"),
        ("a", "there: b"),
        ("a,b,a", "twice: a"),
    ],
)
def test_a_header_that_names_not_all_is_told(
    call: Callable[..., Any], header: str, told: str
) -> None:
    """With what is missing, or there twice."""
    assert told in call("opened", header, ["a", "b"])


@pytest.mark.parametrize(
    ("cell", "separator", "expected"),
    [
        (" 5.1 ", ",", 5.1),
        ("-1e3", ",", -1000),
        (".5", ",", 0.5),
        ("5,1", ";", 5.1),
        ("5,1", "\t", "5,1"),
        ("1,234.5", ";", "1,234.5"),
        ("0x10", ",", "0x10"),
        ("NaN", ",", "NaN"),
        ("", ",", None),
        ("  ", ",", None),
    ],
)
def test_a_cell_is_a_number_or_what_it_says(
    call: Callable[..., Any], cell: str, separator: str, expected: float | str | None
) -> None:
    """Text goes to the service, which says what is wrong with it."""
    assert call("value", cell, separator) == expected
