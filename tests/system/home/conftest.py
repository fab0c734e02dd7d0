"""Fixtures: the page, opened with a key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, expect

from .page import give_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.system.conftest import Server


@pytest.fixture
def opened_page(visit: Callable[..., Page], server: Server) -> Page:
    """The page after the key is entered and the first answer is there."""
    page = visit(server, "/")
    give_key(page, server.key)
    expect(page.locator("#prediction")).to_have_text("setosa")
    return page
