"""The page with other models, other servers, and its code examples."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, Route, expect

from iris_api.web.keys import digest_of, new_key
from iris_api.web.pages import allowed
from tests.bundles import reseal
from tests.system import hostile_bundle
from tests.system.conftest import Server, free_port, wait_for

from .page import (
    SETOSA,
    check_accessibility,
    download,
    expect_answer,
    field,
    flowers,
    give_key,
    options_for,
    predict,
    upload,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.system


def test_a_model_without_classes_is_shown(visit: Callable[..., Page], server: Server) -> None:
    """The page works with a model that predicts a number and has no probabilities."""
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
    upload(page, flowers(2))
    expect(page.locator("#told")).to_contain_text("2 rows predicted")
    header, first, _ = download(page).decode().splitlines()
    assert header == ",".join([*SETOSA, "prediction", "error"])
    assert first.endswith(",12.5,")


def test_a_server_that_restarts_with_other_keys_loses_nothing(
    visit: Callable[..., Page], start: Callable[..., Server]
) -> None:
    """Killed in the middle of a file: the page says so, asks for the key again and goes on.

    It sends smaller batches if the service refuses large ones.
    """
    port = str(free_port())
    settings = {"PORT": port, "WEB_CONCURRENCY": "1", "IRIS_MAX_BODY_BYTES": "30000"}
    first = start(**settings)
    page = visit(first, "/")
    give_key(page, first.key)
    expect(page.locator("#prediction")).to_have_text("setosa")
    page.locator("#pasted").fill("kept")
    upload(page, flowers(20_000))
    expect(page.locator("#sofar")).to_contain_text("rows so far")
    workers = first.workers()
    first.process.kill()
    first.process.wait()
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
    expect_answer(page, predict(back, SETOSA | {"petal_length": 5.2}))
    expect(page.locator("#told")).to_contain_text("20,000 rows predicted", timeout=60_000)
    assert download(page).count(b"\n") == 20_001
    back.stop()


PROGRAMS = {"curl": "sh", "Python": sys.executable, "PHP": "php", "JavaScript (Node)": "node"}


def run(program: str, text: str, key: str, directory: Path) -> str:
    """The output of a code example, run as it stands."""
    file = directory / "snippet.mjs"
    file.write_text(text)
    environment = os.environ | {"KEY": key}
    done = subprocess.run(
        [program, str(file)], capture_output=True, env=environment, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_hostile_bundle_is_shown_as_it_is(
    visit: Callable[..., Page],
    start: Callable[..., Server],
    needs: Callable[[str], str],
    tmp_path: Path,
    screenshots: Path,
) -> None:
    """Thirty features of two types with hostile names and no sample; the code examples run.

    The page says when another version replaces the model.
    """
    bundle = hostile_bundle.save(tmp_path / "odd")
    server = start(IRIS_MODEL_DIR=str(bundle.directory), WEB_CONCURRENCY="1")
    page = visit(server, "/", **options_for("phone", "light"))
    give_key(page, server.key)
    features = bundle.manifest.contract.features
    row = {one.name: int(one.example) if one.type == "int" else one.example for one in features}
    expect_answer(page, predict(server, row))
    expect(page.locator("#picture")).to_be_hidden()
    for i, feature in enumerate(features):
        hint = page.locator(f"#feature-{i}-hint")
        expect(hint).to_contain_text(f"allowed: {allowed(feature)}")
    expect(page.locator(".feature label")).to_have_text(list(row))
    tight, edges, visible = page.evaluate("""(() => {
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
    assert visible > 3
    assert page.title() == "<b>odd</b> & 'other' · Iris API"
    page.locator("#feature-0").fill("-1")
    row[hostile_bundle.NAMES[0]] = -1
    answer = predict(server, row)
    expect_answer(page, answer)
    page.locator("#feature-1").fill("0.5")
    expect(page.locator("#feature-1-hint")).to_contain_text("integer")
    page.locator("#feature-1").fill(str(int(row[hostile_bundle.NAMES[1]])))
    expect_answer(page, answer)
    check_accessibility(page)
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
        prediction = json.loads(printed)["prediction"] if language == "curl" else printed
        assert prediction == answer["prediction"]
    page.get_by_role("button", name="Fill in an example").click()
    page.get_by_role("button", name="Predict").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    version = reseal(bundle.directory, name="even").manifest.version
    wait_for(lambda: predict(server, row)["model_version"] == version, "the other version")
    page.locator("#feature-0").fill("-2")
    expect(page.get_by_role("alert")).to_contain_text("Another model answers by now")


def test_the_languages_are_tabs(opened_page: Page) -> None:
    """Arrow keys choose a language, the example follows the sliders, and a click copies it."""
    opened_page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened_page.get_by_role("tab", name="curl").focus()
    opened_page.keyboard.press("ArrowLeft")
    expect(opened_page.get_by_role("tab", name="JavaScript (Node)")).to_be_focused()
    field(opened_page, "petal_width").fill("")
    expect(opened_page.locator("#snippet")).to_contain_text('"petal_width": 0.2')
    expect(opened_page.locator("#instead")).to_contain_text(
        "the example's stands here: petal_width"
    )
    field(opened_page, "petal_width").fill("2.25")
    expect(opened_page.locator("#snippet")).to_contain_text('"petal_width": 2.25')
    expect(opened_page.locator("#instead")).to_have_text("")
    opened_page.get_by_role("button", name="Copy").click()
    expect(opened_page.get_by_role("button", name="Copied")).to_be_visible()
    copied = opened_page.evaluate("navigator.clipboard.readText()")
    assert copied.strip() == (opened_page.locator("#snippet").text_content() or "").strip()
