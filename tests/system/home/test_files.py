"""Files on the page to try the model, in a real browser on a real server."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Page, expect

from .page import (
    SETOSA,
    check_accessibility,
    download,
    flowers,
    predict,
    upload,
)

if TYPE_CHECKING:
    from tests.system.conftest import Server

pytestmark = pytest.mark.system

FILES = {
    "comma": (",", "utf-8", "\n"),
    "semicolon, mark": (";", "utf-8-sig", "\r\n"),
    "tab": ("\t", "utf-16", "\r"),
    "Western": (";", "cp1252", "\r\n"),
}


@pytest.mark.parametrize(("separator", "encoding", "ending"), FILES.values(), ids=FILES)
def test_a_file_comes_back_with_its_predictions(
    opened_page: Page, server: Server, separator: str, encoding: str, ending: str
) -> None:
    """Columns may come in any order, other columns stay as they are, faults name their line."""
    header = ["petal_width", "note", "sepal_length", "prediction", "petal_length", "sepal_width"]
    rows = [
        ["0.2", 'says "ä,;\tb"', "5.1", "=1+1", "1.4", "3.5"],
        ["2.3", "two\nlines", "6.7", "", "5.2", "3.0"],
        ["2.3", "", "sixty", "", "52", "3.0"],
        ["1.4", " ", "6.1", "x", "4.9", "2.5"],
        ["", "", "6.1", "", "", "2.5"],
        ["1", "short"],
    ]
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator=ending, quoting=csv.QUOTE_ALL)
    writer.writerows([header, *rows])
    upload(opened_page, text.getvalue().encode(encoding))
    expect(opened_page.locator("#told")).to_contain_text("3 rows predicted by model")
    wrong = opened_page.locator("#bad li")
    expect(wrong).to_have_text(
        [
            re.compile("^Line 5: .*sepal_length: Input should be .*; petal_length: .*10"),
            re.compile("^Line 7: petal_length: .*; petal_width: |^Line 7: .*petal_width"),
            re.compile("^Line 8: 2 cells where the first line has 6"),
        ]
    )
    content = download(opened_page)
    assert content.startswith("\ufeff".encode()) is (encoding != "utf-8")
    result = list(
        csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), delimiter=separator)
    )
    classes = [f"probability_{name}" for name in ("setosa", "versicolor", "virginica")]
    assert result[0] == [*header, "prediction_", "confidence", *classes, "error"]
    for row, back in zip(rows, result[1:], strict=True):
        assert back[: len(row)] == row
        if row in (rows[2], rows[4], rows[5]):
            assert back[len(row) : -1] == [""] * (len(result[0]) - len(row) - 1)
            assert "Input should be" in back[-1] or "2 cells where" in back[-1]
            continue
        answer = predict(server, {name: float(row[header.index(name)]) for name in SETOSA})
        shares = [answer["confidence"], *answer["probabilities"].values()]
        assert back[len(row)] == answer["prediction"]
        assert [float(share) for share in back[len(row) + 1 : -1]] == shares
        assert back[-1] == ""
    assert opened_page.locator("tbody tr").count() == 3


def test_a_text_that_is_no_table_gets_a_message(opened_page: Page) -> None:
    """Nothing can be downloaded then, also if something could before."""
    header = ",".join(SETOSA)
    messages = {
        f"{header}\n1,1,1,1": "1 row predicted",
        "": "choose a file",
        "a,b\n1,2": "Not there: sepal_length",
        header: "There are no rows",
        f"{header},sepal_width\n1,1,1,1,1": "twice: sepal_width",
    }
    for text, sentence in messages.items():
        opened_page.locator("#pasted").fill(text)
        opened_page.get_by_role("button", name="Predict").click()
        expect(opened_page.locator("#told")).to_contain_text(sentence)
        downloadable = expect(opened_page.get_by_role("button", name="Download"))
        downloadable.to_be_visible(visible="predicted" in sentence)


def test_rows_that_break_the_contract_are_not_sent(opened_page: Page) -> None:
    """5,000 wrong rows cost no request; of a mixed file only the good rows are sent."""
    sent: list[Any] = []
    opened_page.on("request", lambda request: sent.append(request.post_data_json))
    header = ",".join(SETOSA)
    upload(opened_page, f"{header}\n{'99,1,1,1' + chr(10)}".encode() + b"1,x,1,1\n" * 4_999)
    expect(opened_page.locator("#told")).to_contain_text("Wrong: 5,000 rows")
    assert sent == []
    upload(opened_page, f"{header}\n1,1,1,1\n1,,1,1\n-1,1,1,10.5\n1,1,1,1e999\n".encode())
    expect(opened_page.locator("#told")).to_contain_text("1 row predicted")
    assert sent == [[dict.fromkeys(SETOSA, 1)]]


def test_the_page_refuses_a_cell_in_the_words_of_the_service(
    opened_page: Page, server: Server
) -> None:
    """For each kind of value that a cell can hold."""
    cells = {"": None, "x": "x", "-0.5": -0.5, "10.5": 10.5}
    rows = [f"{cell},1,1,1" for cell in cells]
    upload(opened_page, "\n".join([",".join(SETOSA), *rows]).encode())
    messages = []
    for value in cells.values():
        row = dict.fromkeys(SETOSA, 1) | {"sepal_length": value}
        problem = json.loads(server.ask("POST", "/v1/predict", json.dumps(row).encode())[2])
        messages.append(problem["errors"][0]["message"])
    lines = [f"Line {i + 2}: sepal_length: {message}" for i, message in enumerate(messages)]
    expect(opened_page.locator("#bad li")).to_have_text(lines)


def test_the_table_begins_with_the_prediction(opened_page: Page) -> None:
    """The first extra column of the file follows, by which people know a row."""
    upload(opened_page, f"{','.join(SETOSA)},id,note\n5.1,3.5,1.4,0.2,no. 7,x\n".encode())
    head = ["line", "prediction", "confidence", "id", *SETOSA]
    expect(opened_page.locator("#table th")).to_have_text(head)
    row: Any = ["2", "setosa", re.compile("%"), "no. 7", "5.1", "3.5", "1.4", "0.2"]
    expect(opened_page.locator("#table td")).to_have_text(row)


def test_a_row_with_too_many_cells_comes_back_whole(opened_page: Page) -> None:
    """The surplus cells stand in the last column of the file, the error in a column of its own."""
    upload(opened_page, f"{','.join(SETOSA)}\n1,2,3,4,5,6\n".encode())
    result = list(csv.reader(io.StringIO(download(opened_page).decode())))
    assert result[1][:4] == ["1", "2", "3", "4,5,6"]
    assert len(result[1]) == len(result[0])
    assert result[1][-1] == "6 cells where the first line has 4"


def test_decimal_commas_are_kept(opened_page: Page) -> None:
    """A file with decimal commas comes back with decimal commas."""
    upload(opened_page, (";".join(SETOSA) + "\n5,1;3,5;4,9;1,4\n").encode())
    expect(opened_page.locator("#told")).to_contain_text("1 row predicted")
    shares = download(opened_page).decode().splitlines()[1].split(";")[5:-1]
    assert all(re.fullmatch(r"[01](,\d+)?", share) for share in shares)
    assert any("," in share for share in shares)


def test_a_hundred_thousand_rows_come_back(opened_page: Page) -> None:
    """The page shows progress and the first hundred rows; after a cancel the rest is kept.

    More rows are wrong than one answer lists, and no good row is lost.
    """
    upload(opened_page, flowers(100_000))
    expect(opened_page.locator("#sofar")).to_contain_text("rows so far")
    opened_page.get_by_role("button", name="Cancel").click()
    expect(opened_page.locator("#told")).to_contain_text("Cancelled.")
    some = download(opened_page).count(b"\n")
    assert 1 < some < 100_001
    upload(opened_page, flowers(99_500) + b"\n99,1,1,1" * 500)
    expect(opened_page.locator("#told")).to_contain_text("99,500 rows predicted", timeout=60_000)
    expect(opened_page.locator("#told")).to_contain_text("the first 100 shown. Wrong: 500 rows")
    expect(opened_page.locator("tbody tr")).to_have_count(100)
    expect(opened_page.locator("#bad li")).to_have_count(100)
    expect(opened_page.locator("#bad li").first).to_contain_text("Line 99502: sepal_length")
    check_accessibility(opened_page)
    lines = [line.split(",") for line in download(opened_page).decode().splitlines()]
    assert len(lines) == 100_001
    assert {len(line) for line in lines} == {10}
    assert [line[:5] for line in lines if line[-1]][1:] == [["99", "1", "1", "1", ""]] * 500


def test_dropped_files_and_pasted_text_are_read(opened_page: Page) -> None:
    """A file dropped anywhere on the page; a long text without passing through the field."""
    hand_over = """([kind, text]) => {
      const data = new DataTransfer();
      if (kind === "drop") data.items.add(new File([text], "flowers.csv"));
      else data.setData("text", text);
      const more = { bubbles: true, cancelable: true, dataTransfer: data, clipboardData: data };
      const event = kind === "drop" ? new DragEvent(kind, more) : new ClipboardEvent(kind, more);
      document.getElementById("pasted").dispatchEvent(event);
    }"""
    opened_page.evaluate(hand_over, ["drop", flowers(7).decode()])
    expect(opened_page.locator("#told")).to_contain_text("7 rows predicted")
    assert download(opened_page).count(b"\n") == 8
    opened_page.evaluate(hand_over, ["paste", flowers(20_000).decode()])
    expect(opened_page.locator("#told")).to_contain_text("20,000 rows predicted", timeout=30_000)
    expect(opened_page.locator("#pasted")).to_have_value("")
