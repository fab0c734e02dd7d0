"""The pages in a real browser."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.conftest import FLOWER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .conftest import Server

pytestmark = pytest.mark.system

SIZES = {"phone": (360, 740), "desktop": (1440, 900)}


@pytest.fixture(scope="module")
def browser(needs: Callable[[str], str]) -> Iterator[Browser]:
    """Debian's Chromium: Playwright's own can't be fetched everywhere."""
    path = needs("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=[(size, scheme) for size in SIZES for scheme in ("light", "dark")], ids=str)
def page(browser: Browser, request: pytest.FixtureRequest, server: Server) -> Iterator[Page]:
    """A page that may ask this server and no other host, and whose scripts do not fail."""
    size, scheme = request.param
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, base_url=server.url
    )
    page = context.new_page()
    asked: list[str] = []
    failed: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    yield page
    assert failed == []
    assert [url for url in asked if not url.startswith(server.url)] == []
    context.close()


def open_with_key(page: Page, key: str) -> None:
    page.goto("/drift")
    page.get_by_label("API key").fill(key)
    page.keyboard.press("Enter")


def test_the_drift_page_shows_what_the_route_says(page: Page, server: Server) -> None:
    """A picture for each feature and one for the classes, at any width, by keyboard alone."""
    body = json.dumps([FLOWER] * 150).encode()
    assert server.ask("POST", "/v1/predict", body)[0] == 200
    open_with_key(page, server.key)
    expect(page.locator("article")).to_have_count(5)
    told: Any = json.loads(server.ask("GET", "/v1/drift")[2])
    expect(page.locator("dl .verdict")).to_have_text(told["verdict"])
    for feature, card in zip(told["features"], page.locator("article").all(), strict=False):
        expect(card).to_contain_text(feature["feature"].replace("_", " "))
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


def test_a_wrong_key_is_said_and_asked_for_again(page: Page) -> None:
    """With the problem's own words; the key is not kept."""
    open_with_key(page, "wrong")
    expect(page.get_by_role("alert")).to_contain_text("API key not known")
    expect(page.get_by_label("API key")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0


def test_a_service_that_went_away_is_said(page: Page, server: Server) -> None:
    """What was shown before stays."""
    open_with_key(page, server.key)
    expect(page.locator("article")).to_have_count(5)
    page.route("**/v1/drift", lambda route: route.abort())
    page.evaluate("import('/static/drift.js?again')")
    expect(page.get_by_role("alert")).to_contain_text("does not answer")
    expect(page.locator("article")).to_have_count(5)
