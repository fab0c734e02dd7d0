from __future__ import annotations

import json
import re
from html import unescape
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iris_api import create_app
from iris_api.bundle.store import Bundle
from iris_api.contract.columns import FeatureSpec
from iris_api.settings import Settings
from iris_api.web.pages import STATIC, allowed
from tests.conftest import reseal

if TYPE_CHECKING:
    from pathlib import Path

    from flask.testing import FlaskClient

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.mark.parametrize("name", sorted(path.name for path in STATIC.iterdir()))
def test_a_page_loads_nothing_from_other_hosts(stranger: FlaskClient, name: str) -> None:
    """Its policy forbids it, and none of its files has the URL of another host."""
    with stranger.get("/drift") as page, stranger.get(f"/static/{name}") as file:
        assert (page.status_code, file.status_code) == (200, 200)
        for answer in (page, file):
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'; script-src 'self'" in policy
            assert "unsafe" not in policy
        assert "http:" not in file.get_data(as_text=True).replace("http://www.w3.org/", "")
        assert "https:" not in file.get_data(as_text=True)


@pytest.mark.parametrize("path", ["../app.py", "%2e%2e/app.py", "/etc/passwd", "", "none.js"])
def test_no_other_file_is_served(stranger: FlaskClient, path: str) -> None:
    """No path leaves the directory of static files."""
    assert stranger.get(f"/static/{path}").status_code == 404


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        (BROWSER, True),
        ("text/html", True),
        ("text/*", True),
        ("text/html;q=0.5, application/json;q=0.4", True),
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("application/json, text/html", False),
        ("text/html;q=0.4, application/json;q=0.5", False),
        ("text/html;q=0", False),
        ("image/png", False),
    ],
)
def test_a_browser_gets_a_page_and_a_program_json(
    stranger: FlaskClient, accept: str, page: bool
) -> None:
    """HTML is sent only to clients that prefer it to JSON, and caches keep the two apart."""
    answer = stranger.get("/", headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer.mimetype == ("text/html" if page else "application/json")
    assert answer.headers["Vary"] == "Accept"
    assert ("Content-Security-Policy" in answer.headers) is page


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    accept=st.text(st.characters(max_codepoint=0xFF, exclude_characters="\r\n"))
    | st.lists(
        st.sampled_from(["text/html", "*/html", "a/b/c", "text", ";", "q=", ";q=1e9", ";q=-1", '"'])
    ).map("".join)
)
def test_no_accept_header_is_an_error(stranger: FlaskClient, accept: str) -> None:
    """Whatever the header contains, the index is HTML or JSON."""
    answer = stranger.get("/", headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer.mimetype in {"text/html", "application/json"}


def test_the_page_of_a_hostile_model_is_text(model_dir: Path) -> None:
    """Names are escaped. Descriptions, which need a key, are not in the page."""
    original = reseal(model_dir).manifest.contract
    bad = "<script>alert('1')</script>"
    contract = original.model_copy(update={"classes": (bad, *original.classes[1:])})
    reseal(model_dir, name=bad, contract=contract)
    client = create_app(Settings(model_dir=model_dir)).test_client()
    page = client.get("/", headers={"Accept": BROWSER}).text
    assert "alert(" in page
    assert bad not in page
    assert original.features[0].description not in page


def test_without_a_key_the_page_shows_only_what_is_public(
    model_dir: Path, stranger: FlaskClient
) -> None:
    """It shows features with bounds, classes and a call, and nothing from the training rows."""
    manifest = Bundle.load(model_dir).manifest
    page = stranger.get("/", headers={"Accept": BROWSER}).text
    for text in ("sepal_width", "0 to 10\N{NO-BREAK SPACE}cm", "virginica", "localhost/v1/predict"):
        assert text in page
    assert json.dumps(manifest.contract.example) in unescape(page)
    edges = [str(edge) for each in manifest.reference.features for edge in each.edges]
    assert manifest.sample
    for secret in (*edges, str(manifest.evaluation.accuracy), manifest.evaluation.method):
        assert secret not in page


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "any number"),
        ({"unit": "cm"}, "any number in\N{NO-BREAK SPACE}cm"),
        ({"minimum": -1e6, "maximum": 0.25}, "-1,000,000 to 0.25"),
        ({"minimum": 0, "unit": "g/l"}, "from 0\N{NO-BREAK SPACE}g/l"),
        ({"maximum": 100, "type": "int"}, "whole, up to 100"),
    ],
)
def test_bounds_and_unit_are_described_in_words(fields: dict[str, Any], words: str) -> None:
    """Only the bounds that are set are mentioned."""
    assert allowed(FeatureSpec(name="x", example=0, **fields)) == words


def test_the_home_page_is_small(stranger: FlaskClient) -> None:
    """With all files that it loads, and without compression, it has less than 60 KB."""
    page = stranger.get("/", headers={"Accept": BROWSER}).data
    names = set(re.findall(rb'static/([\w.]+)"', page))
    loaded: dict[bytes, bytes] = {}
    while missing := names - loaded.keys():
        for name in missing:
            loaded[name] = (STATIC / name.decode()).read_bytes()
            names |= set(re.findall(rb'from "\./([\w.]+)"', loaded[name]))
    assert {b"home.js", b"key.js", b"csv.js", b"page.css", b"icon.svg"} <= loaded.keys()
    assert len(page) + sum(map(len, loaded.values())) < 60_000
