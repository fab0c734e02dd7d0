"""The pages in a real browser."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Page, Route, expect

from iris_api.web.pages import STATIC
from tests.constants import FLOWER

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Server

pytestmark = pytest.mark.system

SIZES = {"phone": (360, 740), "desktop": (1440, 900)}


@pytest.fixture(params=[(size, scheme) for size in SIZES for scheme in ("light", "dark")], ids=str)
def page(visit: Callable[..., Page], request: pytest.FixtureRequest, server: Server) -> Page:
    """The drift page, at this width and in this theme."""
    size, scheme = request.param
    width, height = SIZES[size]
    viewport = {"width": width, "height": height}
    return visit(server, "/drift", viewport=viewport, color_scheme=scheme)


def open_with_key(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.keyboard.press("Enter")


def test_the_drift_page_shows_the_report(page: Page, server: Server) -> None:
    """A chart for each feature and one for the classes, at any width, by keyboard alone."""
    body = json.dumps([FLOWER] * 150).encode()
    assert server.ask("POST", "/v1/predict", body)[0] == 200
    open_with_key(page, server.key)
    expect(page.locator("article")).to_have_count(5)
    report: Any = json.loads(server.ask("GET", "/v1/drift")[2])
    expect(page.locator("dl .verdict")).to_have_text(report["verdict"])
    for feature, card in zip(report["features"], page.locator("article").all(), strict=False):
        expect(card).to_contain_text(feature["feature"])
        expect(card).to_contain_text(f"PSI {feature['psi']:.3f}")
        expect(card.locator(".verdict")).to_have_text(feature["verdict"])
        expect(card.locator("rect")).to_have_count(2 * len(feature["live"]))
        tall = [float(bar.get_attribute("height") or 0) for bar in card.locator("rect").all()]
        shares = [
            count / sum(counts)
            for pair in zip(feature["reference"], feature["live"], strict=True)
            for count, counts in zip(pair, (feature["reference"], feature["live"]), strict=True)
        ]
        scale = max(tall) / max(shares)
        assert scale > 50
        assert tall == pytest.approx([share * scale for share in shares], abs=0.5)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.reload()
    expect(page.locator("article")).to_have_count(5)


def test_a_screen_reader_announces_only_a_new_verdict(
    visit: Callable[..., Page], server: Server
) -> None:
    """The page redraws the report again and again."""
    page = visit(server, "/drift")
    verdicts = ["ok", "ok", "drifted"]

    def judged(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json=answer.json() | {"verdict": verdicts.pop(0)})

    page.route("**/v1/drift", judged)
    page.evaluate("""
        window.heard = [];
        const live = document.querySelectorAll("[aria-live], [role=status]");
        const note = () => heard.push([...live].map((one) => one.textContent).join());
        for (const one of live) new MutationObserver(note).observe(one, {
          childList: true, subtree: true, characterData: true });
    """)
    open_with_key(page, server.key)
    expect(page.locator("article")).to_have_count(5)
    for _ in range(2):
        with page.expect_response("**/v1/drift"):
            page.evaluate("import(`/static/drift.js?${Math.random()}`)")
        page.wait_for_timeout(200)
    assert page.evaluate("heard") == ["Verdict: ok", "Verdict: drifted"]


def test_a_wrong_key_is_refused_and_asked_for_again(page: Page) -> None:
    """The message stands at the field; the key is not kept."""
    open_with_key(page, "wrong")
    expect(page.get_by_role("alert")).to_contain_text("does not know this key")
    expect(page.get_by_label("API key")).to_have_accessible_description(re.compile("not know"))
    assert page.evaluate("sessionStorage.length") == 0


def test_the_page_says_that_the_service_does_not_answer(page: Page, server: Server) -> None:
    """The last report stays."""
    open_with_key(page, server.key)
    expect(page.locator("article")).to_have_count(5)
    page.route("**/v1/drift", lambda route: route.abort())
    page.evaluate("import('/static/drift.js?again')")
    expect(page.get_by_role("alert")).to_contain_text("does not answer")
    expect(page.locator("article")).to_have_count(5)


def test_each_static_file_is_complete(server: Server) -> None:
    """On a new connection each time, which the event loop answers from memory."""
    for _ in range(30):
        status, _, body = server.ask("GET", "/static/page.css", headers={"X-API-Key": ""})
        assert (status, body) == (200, (STATIC / "page.css").read_bytes())
