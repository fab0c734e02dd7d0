"""How a test uses the page to try the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Page, expect

if TYPE_CHECKING:
    from tests.system.conftest import Server

SIZES = {"phone": (360, 740), "desktop": (1440, 940)}


LOOKS = [(size, scheme) for size in SIZES for scheme in ("light", "dark")]


SETOSA = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}


def options_for(size: str, scheme: str) -> dict[str, Any]:
    """Options of a browser context with this size and color scheme."""
    width, height = SIZES[size]
    return {"viewport": {"width": width, "height": height}, "color_scheme": scheme}


def give_key(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.keyboard.press("Enter")


def predict(server: Server, row: Any) -> Any:
    status, _, body = server.ask("POST", "/v1/predict", json.dumps(row).encode())
    assert status == 200, body
    return json.loads(body)


def field(page: Page, name: str) -> Any:
    """The number field of a feature."""
    return page.get_by_label(name, exact=True)


def expect_answer(page: Page, answer: Any) -> None:
    """The page shows what the API answered, for every class."""
    expect(page.locator("#prediction")).to_have_text(answer["prediction"])
    figures = [f"{100 * share:.1f}\u00a0%" for share in answer["probabilities"].values()]
    expect(page.locator("#bars .figure")).to_have_text(figures)
    expect(page.locator("#confidence")).to_have_text(
        f"{100 * answer['confidence']:.1f}\u00a0% confident"
    )


def check_accessibility(page: Page) -> None:
    """axe-core finds no fault of any level, and nothing is wider than the screen."""
    faults = Axe().run(page).response["violations"]
    assert [(fault["id"], fault["nodes"][0]["html"]) for fault in faults] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def upload(page: Page, content: bytes) -> None:
    file: Any = {"name": "flowers.csv", "mimeType": "text/csv", "buffer": content}
    page.locator("#file").set_input_files(file)


def download(page: Page) -> bytes:
    with page.expect_download() as started:
        page.get_by_role("button", name="Download").click()
    assert started.value.suggested_filename == "flowers-predicted.csv"
    return Path(started.value.path()).read_bytes()


def flowers(count: int) -> bytes:
    """A CSV file with this many rows."""
    lines = (f"{i % 50 / 10 + 2},{i % 40 / 10},{i % 70 / 10},{i % 25 / 10}" for i in range(count))
    return "\n".join([",".join(SETOSA), *lines]).encode()
