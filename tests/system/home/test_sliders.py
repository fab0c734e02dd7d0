"""One row on the page to try the model, in a real browser on a real server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Page, Route, expect

from .page import (
    LOOKS,
    SETOSA,
    check_accessibility,
    expect_answer,
    field,
    give_key,
    options_for,
    predict,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.system.conftest import Server

pytestmark = pytest.mark.system


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
def test_sliders_show_the_answer_of_the_api(
    visit: Callable[..., Page], server: Server, size: str, scheme: str, screenshots: Path
) -> None:
    """By keyboard alone, at each width and in each theme, and accessible."""
    page = visit(server, "/", **options_for(size, scheme))
    expect(page.locator("#about")).to_contain_text("petal_width")
    expect(page.locator("#about")).to_contain_text("0 to 10 cm")
    check_accessibility(page)
    give_key(page, server.key)
    expect_answer(page, predict(server, SETOSA))
    row = dict(SETOSA)
    for name, aim in (("petal_length", 4.7), ("petal_width", 1.6)):
        field(page, name).focus()
        page.keyboard.press("Tab")
        while row[name] != aim:
            page.keyboard.press("PageUp" if aim - row[name] > 1 else "ArrowRight")
            row[name] = float(field(page, name).input_value())
            assert row[name] <= aim
    answer = predict(server, row)
    assert answer["confidence"] < 1
    expect_answer(page, answer)
    expect(page.locator("#spoken")).to_contain_text(answer["prediction"])
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    page.screenshot(path=screenshots / f"{size}-{scheme}.png")
    page.get_by_role("button", name="Fill in an example").click()
    page.get_by_role("button", name="Predict").click()
    expect(page.locator("#told")).to_contain_text("rows predicted by model")
    check_accessibility(page)
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=screenshots / f"{size}-{scheme}-whole.png", full_page=True)


def test_the_page_describes_the_model_without_javascript(
    visit: Callable[..., Page], server: Server
) -> None:
    """It shows the features, the classes, a command that works, and links to the reference."""
    page = visit(server, "/", java_script_enabled=False)
    expect(page.locator("h1")).to_have_text("iris")
    expect(page.locator("#door")).to_be_hidden()
    for text in ("sepal_length 0 to 10 cm", "setosa, versicolor, virginica"):
        expect(page.locator("#about")).to_contain_text(text)
    call = page.locator("#about pre").inner_text()
    done = subprocess.run(
        ["sh", "-c", call], capture_output=True, env=os.environ | {"KEY": server.key}, check=True
    )
    assert json.loads(done.stdout) == predict(server, SETOSA)
    expect(page.locator(".note")).to_contain_text("Accept: application/json")
    hrefs = {link.get_attribute("href") for link in page.get_by_role("link").all()}
    assert {"docs", "openapi.json", "drift"} <= hrefs
    expect(page.locator("#opened_page")).to_be_hidden()


def test_pointing_at_the_picture_sets_two_features(opened_page: Page, server: Server) -> None:
    """At first the two that separate the classes best; others can be chosen."""
    assert [opened_page.locator(axis).input_value() for axis in ("#across", "#up")] == ["2", "3"]
    opened_page.get_by_role("combobox", name="Across").select_option("sepal_length")
    opened_page.locator("#scatter").scroll_into_view_if_needed()
    opened_page.locator("#scatter").click(position={"x": 300, "y": 60})
    row = {name: float(field(opened_page, name).input_value()) for name in SETOSA}
    assert {name for name in row if row[name] != SETOSA[name]} == {"sepal_length", "petal_width"}
    expect_answer(opened_page, predict(server, row))
    expect(opened_page.locator("#scatter .points path")).to_have_count(150)


def test_the_answer_follows_a_slider_while_it_is_dragged(opened_page: Page, server: Server) -> None:
    """The number of requests is bounded, and the last answer is that of the final position."""
    asked: list[str] = []
    opened_page.on("request", lambda request: asked.append(request.url))
    slider = opened_page.get_by_label("petal_length, slider", exact=True)
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    assert box
    middle = box["y"] + box["height"] / 2
    opened_page.mouse.move(box["x"] + 40, middle)
    opened_page.mouse.down()
    shown_texts = set()
    began = time.monotonic()
    for step in range(60):
        opened_page.mouse.move(box["x"] + 40 + step * (box["width"] - 60) / 60, middle)
        opened_page.wait_for_timeout(20)
        shown_texts.add(opened_page.locator("#bars").inner_text())
    seconds = time.monotonic() - began
    opened_page.mouse.up()
    assert len(shown_texts) > 3
    length = float(field(opened_page, "petal_length").input_value())
    assert length > SETOSA["petal_length"]
    expect_answer(opened_page, predict(server, SETOSA | {"petal_length": length}))
    assert 5 < len(asked) <= seconds / 0.12 + 3


def test_one_request_is_sent_at_a_time_and_the_last_value_wins(
    opened_page: Page, server: Server
) -> None:
    """While a response is late, values wait; then the last of them is sent."""
    held: list[Route] = []
    asked: list[float] = []

    def hold_the_first(route: Route) -> None:
        row: Any = route.request.post_data_json
        asked.append(row["petal_length"])
        if held:
            route.continue_()
        else:
            held.append(route)

    opened_page.route("**/v1/predict", hold_the_first)
    for length in ("5.1", "4.9", "4.4"):
        field(opened_page, "petal_length").fill(length)
        opened_page.wait_for_timeout(200)
    assert asked == [5.1]
    held[0].continue_()
    expect_answer(opened_page, predict(server, SETOSA | {"petal_length": 4.4}))
    assert asked == [5.1, 4.4]


def test_a_slider_shows_its_range_and_the_allowed_range(opened_page: Page) -> None:
    """The slider spans the training rows; the field takes any allowed number."""
    for i, name in enumerate(SETOSA):
        slider = opened_page.get_by_label(f"{name}, slider", exact=True)
        ends = [slider.get_attribute(end) or "" for end in ("min", "max")]
        expect(opened_page.locator(".ends").nth(i).locator("span")).to_have_text(ends)
        expect(opened_page.locator(f"#feature-{i}-hint")).to_contain_text("allowed: 0 to 10 cm")


def test_a_refused_value_is_explained_beside_its_field(opened_page: Page, server: Server) -> None:
    """In the service's words, also for screen readers; the answer goes and comes back."""
    hint = opened_page.locator("#feature-1-hint")
    assert field(opened_page, "sepal_width").get_attribute("aria-describedby") == "feature-1-hint"
    for refused in ("10.5", "-1", "", "1e400"):
        field(opened_page, "sepal_width").fill(refused)
        expect(hint).to_contain_text("Input should be")
        expect(opened_page.locator("#prediction")).to_have_text("\N{EN DASH}")
        expect(opened_page.locator("#spoken")).to_contain_text("sepal_width: Input should be")
        field(opened_page, "sepal_width").fill("3")
        expect(hint).to_contain_text("0 to 10 cm")
        expect_answer(opened_page, predict(server, SETOSA | {"sepal_width": 3}))


def test_a_wrong_key_is_refused_and_asked_for_again(
    visit: Callable[..., Page], server: Server
) -> None:
    """A right key is kept for the tab until the user forgets it."""
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
    expect_answer(page, predict(server, SETOSA))
    page.reload()
    expect_answer(page, predict(server, SETOSA))
    page.get_by_role("button", name="Forget the key").click()
    expect(page.get_by_label("API key")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0


def test_the_page_waits_out_an_overload(opened_page: Page, server: Server) -> None:
    """It shows when a 503 allows the next request, and sends it then."""
    opened_page.context.set_extra_http_headers({"X-Request-Start": "t=1000.000"})
    field(opened_page, "petal_length").fill("5.2")
    expect(opened_page.get_by_role("alert")).to_contain_text("The service is overloaded")
    expect(opened_page.get_by_role("alert")).to_contain_text("tries again in 1 s")
    opened_page.context.set_extra_http_headers({})
    expect_answer(opened_page, predict(server, SETOSA | {"petal_length": 5.2}))
    expect(opened_page.get_by_role("alert")).to_be_hidden()


def test_the_layout_does_not_shift_while_the_page_loads(
    visit: Callable[..., Page], server: Server
) -> None:
    """Neither with a stored key nor without one."""
    page = visit(server, "/")
    page.add_init_script("""
        window.layoutShift = 0;
        const add = (list) => list.getEntries().forEach(({ value }) => (layoutShift += value));
        new PerformanceObserver(add).observe({ type: "layout-shift", buffered: true });
    """)
    page.reload()
    page.wait_for_timeout(500)
    assert page.evaluate("layoutShift") < 0.01
    give_key(page, server.key)
    expect_answer(page, predict(server, SETOSA))
    page.reload()
    expect(page.locator("#door")).to_be_hidden()
    expect_answer(page, predict(server, SETOSA))
    assert page.evaluate("layoutShift") < 0.01


def test_on_a_phone_no_field_moves_or_hides_under_the_answer(
    visit: Callable[..., Page], server: Server
) -> None:
    """A refusal moves no field, and the focused field is visible, also when tabbing backwards."""
    page = visit(server, "/", **options_for("phone", "light"))
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
