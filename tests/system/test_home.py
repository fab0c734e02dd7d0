"""The page to try the model, in a real browser on a real server."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Page, Route, expect

from iris_api.web.keys import digest_of, new_key
from iris_api.web.pages import allowed
from tests.conftest import reseal

from . import hostile_bundle
from .conftest import Server, free_port, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.system

SIZES = {"phone": (360, 740), "desktop": (1440, 940)}
LOOKS = [(size, scheme) for size in SIZES for scheme in ("light", "dark")]
SETOSA = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}


@pytest.fixture(scope="module")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures of the page are kept: SCREENSHOTS, or a temporary directory."""
    directory = Path(os.environ.get("SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def look(size: str, scheme: str) -> dict[str, Any]:
    width, height = SIZES[size]
    return {"viewport": {"width": width, "height": height}, "color_scheme": scheme}


def give_key(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.keyboard.press("Enter")


@pytest.fixture
def tried(visit: Callable[..., Page], server: Server) -> Page:
    """The page with its key given and its first answer there."""
    page = visit(server, "/")
    give_key(page, server.key)
    expect(page.locator("#prediction")).to_have_text("setosa")
    return page


def predicted(server: Server, row: Any) -> Any:
    status, _, body = server.ask("POST", "/v1/predict", json.dumps(row).encode())
    assert status == 200, body
    return json.loads(body)


def field(page: Page, name: str) -> Any:
    return page.get_by_label(name, exact=True)


def expect_answer(page: Page, answer: Any) -> None:
    """What is shown is what the API says, for every class."""
    expect(page.locator("#prediction")).to_have_text(answer["prediction"])
    figures = [f"{100 * share:.1f}\u00a0%" for share in answer["probabilities"].values()]
    expect(page.locator("#bars .figure")).to_have_text(figures)
    expect(page.locator("#confidence")).to_have_text(
        f"{100 * answer['confidence']:.1f}\u00a0% confident"
    )


def accessible(page: Page) -> None:
    """Nothing that axe-core knows as a fault, at any level, and nothing beside the screen."""
    found = Axe().run(page).response["violations"]
    assert [(fault["id"], fault["nodes"][0]["html"]) for fault in found] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
def test_sliders_give_the_answer_of_the_api(
    visit: Callable[..., Page], server: Server, size: str, scheme: str, screenshots: Path
) -> None:
    """By keyboard alone, at this width and in this theme, and open to screen readers."""
    page = visit(server, "/", **look(size, scheme))
    expect(page.locator("#about")).to_contain_text("petal_width")
    expect(page.locator("#about")).to_contain_text("0 to 10 cm")
    accessible(page)
    give_key(page, server.key)
    expect_answer(page, predicted(server, SETOSA))
    row = dict(SETOSA)
    for name, aim in (("petal_length", 4.7), ("petal_width", 1.6)):
        field(page, name).focus()
        page.keyboard.press("Tab")
        while row[name] != aim:
            page.keyboard.press("PageUp" if aim - row[name] > 1 else "ArrowRight")
            row[name] = float(field(page, name).input_value())
            assert row[name] <= aim
    answer = predicted(server, row)
    assert answer["confidence"] < 1
    expect_answer(page, answer)
    expect(page.locator("#spoken")).to_contain_text(answer["prediction"])
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    page.screenshot(path=screenshots / f"{size}-{scheme}.png")
    page.get_by_role("button", name="Fill in an example").click()
    page.get_by_role("button", name="Predict").click()
    expect(page.locator("#told")).to_contain_text("rows predicted by model")
    accessible(page)
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=screenshots / f"{size}-{scheme}-whole.png", full_page=True)


def test_the_page_says_what_it_is_without_javascript(
    visit: Callable[..., Page], server: Server
) -> None:
    """The model, its features and classes, a call to paste, and where the reference is."""
    page = visit(server, "/", java_script_enabled=False)
    expect(page.locator("h1")).to_have_text("iris")
    expect(page.locator("#door")).to_be_hidden()
    for told in ("sepal_length 0 to 10 cm", "setosa, versicolor, virginica"):
        expect(page.locator("#about")).to_contain_text(told)
    call = page.locator("#about pre").inner_text()
    done = subprocess.run(
        ["sh", "-c", call], capture_output=True, env=os.environ | {"KEY": server.key}, check=True
    )
    assert json.loads(done.stdout) == predicted(server, SETOSA)
    expect(page.locator(".note")).to_contain_text("Accept: application/json")
    hrefs = {link.get_attribute("href") for link in page.get_by_role("link").all()}
    assert {"docs", "openapi.json", "drift"} <= hrefs
    expect(page.locator("#tried")).to_be_hidden()


def test_pointing_at_the_picture_sets_two_features(tried: Page, server: Server) -> None:
    """The two that tell the classes apart best, to begin with; others can be chosen."""
    assert [tried.locator(axis).input_value() for axis in ("#across", "#up")] == ["2", "3"]
    tried.get_by_role("combobox", name="Across").select_option("sepal_length")
    tried.locator("#scatter").scroll_into_view_if_needed()
    tried.locator("#scatter").click(position={"x": 300, "y": 60})
    row = {name: float(field(tried, name).input_value()) for name in SETOSA}
    assert {name for name in row if row[name] != SETOSA[name]} == {"sepal_length", "petal_width"}
    expect_answer(tried, predicted(server, row))
    expect(tried.locator("#scatter .points path")).to_have_count(150)


def test_the_answer_follows_a_slider_while_it_is_dragged(tried: Page, server: Server) -> None:
    """With a bounded number of requests, and at last the answer to where it is let go."""
    asked: list[str] = []
    tried.on("request", lambda request: asked.append(request.url))
    slider = tried.get_by_label("petal_length, slider", exact=True)
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    assert box
    middle = box["y"] + box["height"] / 2
    tried.mouse.move(box["x"] + 40, middle)
    tried.mouse.down()
    shown = set()
    began = time.monotonic()
    for step in range(60):
        tried.mouse.move(box["x"] + 40 + step * (box["width"] - 60) / 60, middle)
        tried.wait_for_timeout(20)
        shown.add(tried.locator("#bars").inner_text())
    seconds = time.monotonic() - began
    tried.mouse.up()
    assert len(shown) > 3
    length = float(field(tried, "petal_length").input_value())
    assert length > SETOSA["petal_length"]
    expect_answer(tried, predicted(server, SETOSA | {"petal_length": length}))
    assert 5 < len(asked) <= seconds / 0.12 + 3


def test_the_last_answer_wins_and_one_is_asked_for_at_a_time(tried: Page, server: Server) -> None:
    """While an answer is late, other values wait; of those the last are asked for."""
    held: list[Route] = []
    asked: list[float] = []

    def hold_the_first(route: Route) -> None:
        row: Any = route.request.post_data_json
        asked.append(row["petal_length"])
        if held:
            route.continue_()
        else:
            held.append(route)

    tried.route("**/v1/predict", hold_the_first)
    for length in ("5.1", "4.9", "4.4"):
        field(tried, "petal_length").fill(length)
        tried.wait_for_timeout(200)
    assert asked == [5.1]
    held[0].continue_()
    expect_answer(tried, predicted(server, SETOSA | {"petal_length": 4.4}))
    assert asked == [5.1, 4.4]


def test_a_slider_tells_its_ends_and_beside_them_what_is_allowed(tried: Page) -> None:
    """It spans the training rows; a number in the field may lie beyond."""
    for i, name in enumerate(SETOSA):
        slider = tried.get_by_label(f"{name}, slider", exact=True)
        ends = [slider.get_attribute(end) or "" for end in ("min", "max")]
        expect(tried.locator(".ends").nth(i).locator("span")).to_have_text(ends)
        expect(tried.locator(f"#feature-{i}-hint")).to_contain_text("allowed: 0 to 10 cm")


def test_a_value_that_is_refused_is_told_beside_its_field(tried: Page, server: Server) -> None:
    """In the service's words, also aloud; the answer is taken away, and comes back."""
    hint = tried.locator("#feature-1-hint")
    assert field(tried, "sepal_width").get_attribute("aria-describedby") == "feature-1-hint"
    for refused in ("10.5", "-1", "", "1e400"):
        field(tried, "sepal_width").fill(refused)
        expect(hint).to_contain_text("Input should be")
        expect(tried.locator("#prediction")).to_have_text("\N{EN DASH}")
        expect(tried.locator("#spoken")).to_contain_text("sepal_width: Input should be")
        field(tried, "sepal_width").fill("3")
        expect(hint).to_contain_text("0 to 10 cm")
        expect_answer(tried, predicted(server, SETOSA | {"sepal_width": 3}))


def test_a_wrong_key_is_told_and_asked_for_again(
    visit: Callable[..., Page], server: Server
) -> None:
    """By its field; it is kept for the tab once it is right, until it is to be forgotten."""
    page = visit(server, "/")
    give_key(page, "schlüssel 🔑")
    expect(page.locator("#door").get_by_role("alert")).to_contain_text("does not know this key")
    expect(page.locator("#message")).to_be_hidden()
    expect(page.get_by_label("API key")).to_have_accessible_description(re.compile("not know"))
    expect(page.get_by_label("API key")).to_be_focused()
    expect(page.get_by_label("API key")).to_have_attribute("aria-invalid", "true")
    assert page.evaluate("sessionStorage.length") == 0
    give_key(page, server.key)
    expect(page.locator("#door")).to_be_hidden()
    expect_answer(page, predicted(server, SETOSA))
    page.reload()
    expect_answer(page, predicted(server, SETOSA))
    page.get_by_role("button", name="Forget the key").click()
    expect(page.get_by_label("API key")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0


def test_an_overload_is_told_and_waited_for(tried: Page, server: Server) -> None:
    """A 503 says when to come back: so does the page, and it comes."""
    tried.context.set_extra_http_headers({"X-Request-Start": "t=1000.000"})
    field(tried, "petal_length").fill("5.2")
    expect(tried.get_by_role("alert")).to_contain_text("busier than it can be")
    expect(tried.get_by_role("alert")).to_contain_text("tries again in 1 s")
    tried.context.set_extra_http_headers({})
    expect_answer(tried, predicted(server, SETOSA | {"petal_length": 5.2}))
    expect(tried.get_by_role("alert")).to_be_hidden()


def test_nothing_jumps_as_the_page_comes(visit: Callable[..., Page], server: Server) -> None:
    """Neither where a key is asked for, nor where there is one."""
    page = visit(server, "/")
    page.add_init_script("""
        window.jumped = 0;
        const add = (list) => list.getEntries().forEach(({ value }) => (jumped += value));
        new PerformanceObserver(add).observe({ type: "layout-shift", buffered: true });
    """)
    page.reload()
    page.wait_for_timeout(500)
    assert page.evaluate("jumped") < 0.01
    give_key(page, server.key)
    expect_answer(page, predicted(server, SETOSA))
    page.reload()
    expect(page.locator("#door")).to_be_hidden()
    expect_answer(page, predicted(server, SETOSA))
    assert page.evaluate("jumped") < 0.01


def test_on_a_phone_nothing_jumps_or_hides_under_the_answer(
    visit: Callable[..., Page], server: Server
) -> None:
    """A refusal moves no field, and what has the focus is in sight, also on the way back up."""
    page = visit(server, "/", **look("phone", "light"))
    give_key(page, server.key)
    expect(page.locator("#prediction")).to_have_text("setosa")

    def places() -> list[float]:
        tops: list[float] = page.evaluate(
            "[...document.querySelectorAll('.feature')].map((one) => one.offsetTop)"
        )
        return tops

    before = places()
    field(page, "sepal_length").fill("10.5")
    expect(page.locator("#feature-0-hint")).to_contain_text("Input should be")
    assert places() == before
    field(page, "sepal_length").fill("5")
    field(page, "petal_width").focus()
    page.evaluate("scrollBy(0, 400)")
    for _ in range(8):
        covered = page.evaluate("""(() => {
          const held = document.activeElement.getBoundingClientRect();
          return held.top < document.getElementById("answer").getBoundingClientRect().bottom;
        })()""")
        focused = page.evaluate("document.activeElement.id || document.activeElement.ariaLabel")
        page.keyboard.press("Shift+Tab")
        if focused != "feature-3":
            assert not covered, focused


def uploaded(page: Page, content: bytes) -> None:
    file: Any = {"name": "flowers.csv", "mimeType": "text/csv", "buffer": content}
    page.locator("#file").set_input_files(file)


def downloaded(page: Page) -> bytes:
    with page.expect_download() as started:
        page.get_by_role("button", name="Download").click()
    assert started.value.suggested_filename == "flowers-predicted.csv"
    return Path(started.value.path()).read_bytes()


FILES = {
    "comma": (",", "utf-8", "\n"),
    "semicolon, mark": (";", "utf-8-sig", "\r\n"),
    "tab": ("\t", "utf-16", "\r"),
    "Western": (";", "cp1252", "\r\n"),
}


@pytest.mark.parametrize(("separator", "encoding", "ending"), FILES.values(), ids=FILES)
def test_a_file_comes_back_with_its_predictions(
    tried: Page, server: Server, separator: str, encoding: str, ending: str
) -> None:
    """Columns in any order, others carried through as they are, wrong rows told by line."""
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
    uploaded(tried, text.getvalue().encode(encoding))
    expect(tried.locator("#told")).to_contain_text("3 rows predicted by model")
    wrong = tried.locator("#bad li")
    expect(wrong).to_have_text(
        [
            re.compile("^Line 5: .*sepal_length: Input should be .*; petal_length: .*10"),
            re.compile("^Line 7: petal_length: .*; petal_width: |^Line 7: .*petal_width"),
            re.compile("^Line 8: 2 cells where the first line has 6"),
        ]
    )
    content = downloaded(tried)
    assert content.startswith("\ufeff".encode()) is (encoding != "utf-8")
    found = list(
        csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), delimiter=separator)
    )
    classes = [f"probability_{name}" for name in ("setosa", "versicolor", "virginica")]
    assert found[0] == [*header, "prediction_", "confidence", *classes, "error"]
    for given, back in zip(rows, found[1:], strict=True):
        assert back[: len(given)] == given
        if given in (rows[2], rows[4], rows[5]):
            assert back[len(given) : -1] == [""] * (len(found[0]) - len(given) - 1)
            assert "Input should be" in back[-1] or "2 cells where" in back[-1]
            continue
        answer = predicted(server, {name: float(given[header.index(name)]) for name in SETOSA})
        shares = [answer["confidence"], *answer["probabilities"].values()]
        assert back[len(given)] == answer["prediction"]
        assert [float(share) for share in back[len(given) + 1 : -1]] == shares
        assert back[-1] == ""
    assert tried.locator("tbody tr").count() == 3


def test_a_text_that_is_no_table_is_told(tried: Page) -> None:
    """And there is nothing to download, also where there was something before."""
    header = ",".join(SETOSA)
    told = {
        f"{header}\n1,1,1,1": "1 row predicted",
        "": "choose a file",
        "a,b\n1,2": "Not there: sepal_length",
        header: "There are no rows",
        f"{header},sepal_width\n1,1,1,1,1": "twice: sepal_width",
    }
    for text, sentence in told.items():
        tried.locator("#pasted").fill(text)
        tried.get_by_role("button", name="Predict").click()
        expect(tried.locator("#told")).to_contain_text(sentence)
        downloadable = expect(tried.get_by_role("button", name="Download"))
        downloadable.to_be_visible(visible="predicted" in sentence)


def test_rows_that_break_the_contract_are_not_sent(tried: Page) -> None:
    """5,000 of them cost no request, and beside good ones they go nowhere."""
    sent: list[Any] = []
    tried.on("request", lambda request: sent.append(request.post_data_json))
    header = ",".join(SETOSA)
    uploaded(tried, f"{header}\n{'99,1,1,1' + chr(10)}".encode() + b"1,x,1,1\n" * 4_999)
    expect(tried.locator("#told")).to_contain_text("Wrong: 5,000 rows")
    assert sent == []
    uploaded(tried, f"{header}\n1,1,1,1\n1,,1,1\n-1,1,1,10.5\n1,1,1,1e999\n".encode())
    expect(tried.locator("#told")).to_contain_text("1 row predicted")
    assert sent == [[dict.fromkeys(SETOSA, 1)]]


def test_a_refusal_of_the_page_is_in_the_words_of_the_service(tried: Page, server: Server) -> None:
    """For each kind of value that a cell may have."""
    cells = {"": None, "x": "x", "-0.5": -0.5, "10.5": 10.5}
    rows = [f"{cell},1,1,1" for cell in cells]
    uploaded(tried, "\n".join([",".join(SETOSA), *rows]).encode())
    told = []
    for value in cells.values():
        row = dict.fromkeys(SETOSA, 1) | {"sepal_length": value}
        problem = json.loads(server.ask("POST", "/v1/predict", json.dumps(row).encode())[2])
        told.append(problem["errors"][0]["message"])
    lines = [f"Line {i + 2}: sepal_length: {message}" for i, message in enumerate(told)]
    expect(tried.locator("#bad li")).to_have_text(lines)


def test_the_table_begins_with_the_answer(tried: Page) -> None:
    """Then comes the reader's own first column, by which a row is known."""
    uploaded(tried, f"{','.join(SETOSA)},id,note\n5.1,3.5,1.4,0.2,no. 7,x\n".encode())
    head = ["line", "prediction", "confidence", "id", *SETOSA]
    expect(tried.locator("#table th")).to_have_text(head)
    row: Any = ["2", "setosa", re.compile("%"), "no. 7", "5.1", "3.5", "1.4", "0.2"]
    expect(tried.locator("#table td")).to_have_text(row)


def test_a_row_with_too_many_cells_comes_back_whole(tried: Page) -> None:
    """What is too much stands in the last column of the file, and the error in its own."""
    uploaded(tried, f"{','.join(SETOSA)}\n1,2,3,4,5,6\n".encode())
    found = list(csv.reader(io.StringIO(downloaded(tried).decode())))
    assert found[1][:4] == ["1", "2", "3", "4,5,6"]
    assert len(found[1]) == len(found[0])
    assert found[1][-1] == "6 cells where the first line has 4"


def test_decimal_commas_are_kept(tried: Page) -> None:
    """A spreadsheet that writes them reads them."""
    uploaded(tried, (";".join(SETOSA) + "\n5,1;3,5;4,9;1,4\n").encode())
    expect(tried.locator("#told")).to_contain_text("1 row predicted")
    shares = downloaded(tried).decode().splitlines()[1].split(";")[5:-1]
    assert all(re.fullmatch(r"[01](,\d+)?", share) for share in shares)
    assert any("," in share for share in shares)


def flowers(count: int) -> bytes:
    lines = (f"{i % 50 / 10 + 2},{i % 40 / 10},{i % 70 / 10},{i % 25 / 10}" for i in range(count))
    return "\n".join([",".join(SETOSA), *lines]).encode()


def test_a_hundred_thousand_rows_come_back(tried: Page) -> None:
    """With progress, the first hundred shown; cancelled, what was predicted is there.

    More rows are wrong than one answer can list, and no good one is lost for them.
    """
    uploaded(tried, flowers(100_000))
    expect(tried.locator("#sofar")).to_contain_text("rows so far")
    tried.get_by_role("button", name="Cancel").click()
    expect(tried.locator("#told")).to_contain_text("Cancelled.")
    some = downloaded(tried).count(b"\n")
    assert 1 < some < 100_001
    uploaded(tried, flowers(99_500) + b"\n99,1,1,1" * 500)
    expect(tried.locator("#told")).to_contain_text("99,500 rows predicted", timeout=60_000)
    expect(tried.locator("#told")).to_contain_text("the first 100 shown. Wrong: 500 rows")
    expect(tried.locator("tbody tr")).to_have_count(100)
    expect(tried.locator("#bad li")).to_have_count(100)
    expect(tried.locator("#bad li").first).to_contain_text("Line 99502: sepal_length")
    accessible(tried)
    lines = [line.split(",") for line in downloaded(tried).decode().splitlines()]
    assert len(lines) == 100_001
    assert {len(line) for line in lines} == {10}
    assert [line[:5] for line in lines if line[-1]][1:] == [["99", "1", "1", "1", ""]] * 500


def test_what_is_dropped_or_pasted_is_read(tried: Page) -> None:
    """A file that falls anywhere on the page; a long text without going through the field."""
    hand_over = """([kind, text]) => {
      const data = new DataTransfer();
      if (kind === "drop") data.items.add(new File([text], "flowers.csv"));
      else data.setData("text", text);
      const more = { bubbles: true, cancelable: true, dataTransfer: data, clipboardData: data };
      const made = kind === "drop" ? new DragEvent(kind, more) : new ClipboardEvent(kind, more);
      document.getElementById("pasted").dispatchEvent(made);
    }"""
    tried.evaluate(hand_over, ["drop", flowers(7).decode()])
    expect(tried.locator("#told")).to_contain_text("7 rows predicted")
    assert downloaded(tried).count(b"\n") == 8
    tried.evaluate(hand_over, ["paste", flowers(20_000).decode()])
    expect(tried.locator("#told")).to_contain_text("20,000 rows predicted", timeout=30_000)
    expect(tried.locator("#pasted")).to_have_value("")


def test_a_model_that_answers_with_a_number_is_shown(
    visit: Callable[..., Page], server: Server
) -> None:
    """No classes, no confidence, no bars; the page asks for none of them."""
    page = visit(server, "/")

    def without_classes(route: Route) -> None:
        answer = route.fetch()
        content = answer.json()
        for part in ("classes", "sample", "evaluation", "confidence", "probabilities"):
            content.pop(part, None)
        if "prediction" in content:
            content["prediction"] = 12.5
        for row in content.get("predictions", []):
            row.clear()
            row["prediction"] = 12.5
        route.fulfill(response=answer, json=content)

    page.route("**/v1/*", without_classes)
    give_key(page, server.key)
    expect(page.locator("#prediction")).to_have_text("12.5")
    expect(page.locator("#bars li")).to_have_count(0)
    expect(page.locator("#picture")).to_be_hidden()
    uploaded(page, flowers(2))
    expect(page.locator("#told")).to_contain_text("2 rows predicted")
    header, first, _ = downloaded(page).decode().splitlines()
    assert header == ",".join([*SETOSA, "prediction", "error"])
    assert first.endswith(",12.5,")


def test_a_server_that_goes_away_and_comes_back_with_other_keys_loses_nothing(
    visit: Callable[..., Page], start: Callable[..., Server]
) -> None:
    """Killed in the middle of a file: the page says so, and goes on; the key is asked for anew.

    Batches are made smaller where the service takes no large ones.
    """
    port = str(free_port())
    settings = {"PORT": port, "WEB_CONCURRENCY": "1", "IRIS_MAX_BODY_BYTES": "30000"}
    gone = start(**settings)
    page = visit(gone, "/")
    give_key(page, gone.key)
    expect(page.locator("#prediction")).to_have_text("setosa")
    page.locator("#pasted").fill("kept")
    uploaded(page, flowers(20_000))
    expect(page.locator("#sofar")).to_contain_text("rows so far")
    workers = gone.workers()
    gone.process.kill()
    gone.process.wait()
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    field(page, "petal_length").fill("5.2")
    expect(page.get_by_role("alert")).to_contain_text("can't be reached")
    other = new_key()
    back = start(**settings, IRIS_API_KEYS=f"other:{digest_of(other)}")
    refused = page.locator("#door").get_by_role("alert")
    expect(refused).to_contain_text("does not know this key", timeout=15_000)
    expect(page.get_by_label("API key")).to_be_focused()
    expect(page.locator("#pasted")).to_have_value("kept")
    give_key(page, other)
    back.key = other
    expect_answer(page, predicted(back, SETOSA | {"petal_length": 5.2}))
    expect(page.locator("#told")).to_contain_text("20,000 rows predicted", timeout=60_000)
    assert downloaded(page).count(b"\n") == 20_001
    back.stop()


PROGRAMS = {"curl": "sh", "Python": sys.executable, "PHP": "php", "JavaScript (Node)": "node"}


def run(program: str, text: str, key: str, directory: Path) -> str:
    """What a snippet prints, run as it stands."""
    file = directory / "snippet.mjs"
    file.write_text(text)
    environment = os.environ | {"KEY": key}
    done = subprocess.run(
        [program, str(file)], capture_output=True, env=environment, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_another_bundle_is_right_without_a_change(
    visit: Callable[..., Page],
    start: Callable[..., Server],
    needs: Callable[[str], str],
    tmp_path: Path,
    screenshots: Path,
) -> None:
    """Thirty features of two types, hostile names, no sample; and its snippets run.

    A version that takes its place while the page is open is told.
    """
    bundle = hostile_bundle.save(tmp_path / "odd")
    server = start(IRIS_MODEL_DIR=str(bundle.directory), WEB_CONCURRENCY="1")
    page = visit(server, "/", **look("phone", "light"))
    give_key(page, server.key)
    features = bundle.manifest.contract.features
    row = {one.name: int(one.example) if one.type == "int" else one.example for one in features}
    expect_answer(page, predicted(server, row))
    expect(page.locator("#picture")).to_be_hidden()
    for i, feature in enumerate(features):
        hint = page.locator(f"#feature-{i}-hint")
        expect(hint).to_contain_text(f"allowed: {allowed(feature)}")
    expect(page.locator(".feature label")).to_have_text(list(row))
    tight, edges, seen = page.evaluate("""(() => {
      const fields = [...document.querySelectorAll(".named input")];
      const bottom = (one) => one.getBoundingClientRect().bottom;
      const list = document.getElementById("bars");
      return [
        fields.filter((one) => one.scrollWidth > one.clientWidth).length,
        new Set(fields.map((one) => one.getBoundingClientRect().right)).size,
        [...list.children].filter((one) => bottom(one) <= bottom(list)).length,
      ];
    })()""")
    assert (tight, edges) == (0, 1)
    assert seen > 3
    assert page.title() == "<b>odd</b> & 'other' · Iris API"
    page.locator("#feature-0").fill("-1")
    row[hostile_bundle.NAMES[0]] = -1
    answer = predicted(server, row)
    expect_answer(page, answer)
    page.locator("#feature-1").fill("0.5")
    expect(page.locator("#feature-1-hint")).to_contain_text("integer")
    page.locator("#feature-1").fill(str(int(row[hostile_bundle.NAMES[1]])))
    expect_answer(page, answer)
    accessible(page)
    page.screenshot(path=screenshots / "another-phone.png")
    page.set_viewport_size({"width": 1440, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.screenshot(path=screenshots / "another-desktop.png", full_page=True)
    for language, program in PROGRAMS.items():
        page.get_by_role("tab", name=language, exact=True).click()
        text = page.locator("#snippet").inner_text()
        assert server.key not in text
        needs("curl" if language == "curl" else program)
        printed = run(program, text, server.key, tmp_path)
        told = json.loads(printed)["prediction"] if language == "curl" else printed
        assert told == answer["prediction"]
    page.get_by_role("button", name="Fill in an example").click()
    page.get_by_role("button", name="Predict").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    version = reseal(bundle.directory, name="even").manifest.version
    wait_for(lambda: predicted(server, row)["model_version"] == version, "the other version")
    page.locator("#feature-0").fill("-2")
    expect(page.get_by_role("alert")).to_contain_text("Another model answers by now")


def test_the_languages_are_tabs(tried: Page) -> None:
    """Arrow keys choose, the snippet follows the sliders, and a click copies it."""
    tried.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tried.get_by_role("tab", name="curl").focus()
    tried.keyboard.press("ArrowLeft")
    expect(tried.get_by_role("tab", name="JavaScript (Node)")).to_be_focused()
    field(tried, "petal_width").fill("")
    expect(tried.locator("#snippet")).to_contain_text('"petal_width": 0.2')
    expect(tried.locator("#instead")).to_contain_text("the example's stands here: petal_width")
    field(tried, "petal_width").fill("2.25")
    expect(tried.locator("#snippet")).to_contain_text('"petal_width": 2.25')
    expect(tried.locator("#instead")).to_have_text("")
    tried.get_by_role("button", name="Copy").click()
    expect(tried.get_by_role("button", name="Copied")).to_be_visible()
    copied = tried.evaluate("navigator.clipboard.readText()")
    assert copied.strip() == (tried.locator("#snippet").text_content() or "").strip()
