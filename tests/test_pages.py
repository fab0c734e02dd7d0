from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from iris_api.pages import STATIC

if TYPE_CHECKING:
    from flask.testing import FlaskClient


@pytest.mark.parametrize("name", ["drift.js", "page.css", "icon.svg"])
def test_a_page_asks_no_other_host(stranger: FlaskClient, name: str) -> None:
    """Its policy says so, and none of its files names one."""
    with stranger.get("/drift") as page, stranger.get(f"/static/{name}") as file:
        assert (page.status_code, file.status_code) == (200, 200)
        for answer in (page, file):
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'; script-src 'self'" in policy
            assert "unsafe" not in policy
        assert f"static/{name}" in page.get_data(as_text=True)
        assert "http" not in file.get_data(as_text=True).replace("http://www.w3.org/", "")


@pytest.mark.parametrize("path", ["../app.py", "%2e%2e/app.py", "/etc/passwd", "", "none.js"])
def test_no_other_file_is_served(stranger: FlaskClient, path: str) -> None:
    """However it is asked for."""
    assert stranger.get(f"/static/{path}").status_code == 404


def test_pages_are_small() -> None:
    """Scripts and styles of all pages together."""
    assert sum(path.stat().st_size for path in STATIC.iterdir()) < 60_000
