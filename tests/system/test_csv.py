"""The page's CSV module, run by Node and compared with Python's."""

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
const call = { ...csv, records: (...args) => [...csv.records(...args)] };
for await (const line of createInterface({ input: process.stdin })) {
  const [name, ...args] = JSON.parse(line);
  let result;
  try { result = { value: call[name](...args) }; }
  catch (error) { result = { error: error.message }; }
  console.log(JSON.stringify(result));
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

        def call(name: str, *args: Any) -> Any:
            write.write(json.dumps([name, *args]).encode() + b"\n")
            write.flush()
            result = json.loads(read.readline())
            return result["value"] if "value" in result else f"error: {result['error']}"

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
def test_csv_of_python_and_of_the_page_agree(
    call: Callable[..., Any], table: list[list[str]], separator: str, ending: str
) -> None:
    """Cell by cell, with quotes, line breaks and separators in cells, with and without a BOM."""
    text = io.StringIO()
    quoting: Any = csv.QUOTE_MINIMAL if ending == "\r\n" else csv.QUOTE_ALL
    writer = csv.writer(text, delimiter=separator, lineterminator=ending, quoting=quoting)
    writer.writerows(table)
    for mark in ("", "\ufeff"):
        result = call("records", mark + text.getvalue(), separator)
        assert [record["cells"] for record in result] == table
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
    """Blank lines are skipped but counted; line breaks in quotes count too."""
    result = call("records", text, ",")
    assert [(record["line"], record["cells"]) for record in result] == expected


@pytest.mark.parametrize(
    ("text", "line"), [('x,y\n1,"2\n3,4', 2), ('"', 1), ('x\n"a""', 2), ('"\r\nx,y', 1)]
)
def test_an_unclosed_quote_costs_only_its_line(
    call: Callable[..., Any], text: str, line: int
) -> None:
    """The records before and after it are read."""
    result = call("records", text, ",")
    assert [one["line"] for one in result] == list(range(1, 1 + len(text.splitlines())))
    assert ["never closed" in one.get("wrong", "") for one in result].index(True) == line - 1


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
    """In any order, among other columns, with spaces around them."""
    result = call("opened", f"{header}\n1{separator}2", ["a", "b"])
    assert result["separator"] == separator
    assert [result["header"][column] for column in result["columns"]] == ["a", "b"]


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
def test_one_decimal_comma_decides_for_the_file(
    call: Callable[..., Any], text: str, comma: bool
) -> None:
    """The first rows can be integers, and no file may mix commas and points."""
    assert call("opened", text, ["a", "b"])["comma"] == comma


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("", "choose a file"),
        (" \n", "choose a file"),
        ("1,2", "a, b"),
        ("a", "there: b"),
        ("a,b,a", "twice: a"),
    ],
)
def test_a_header_that_lacks_a_feature_is_an_error(
    call: Callable[..., Any], header: str, message: str
) -> None:
    """The message names what is missing or there twice."""
    assert message in call("opened", header, ["a", "b"])


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
def test_a_cell_is_a_number_or_its_text(
    call: Callable[..., Any], cell: str, separator: str, expected: float | str | None
) -> None:
    """Text goes to the service, which says what is wrong with it."""
    assert call("value", cell, separator) == expected
