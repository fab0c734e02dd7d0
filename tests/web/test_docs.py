from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from openapi_spec_validator import validate
from sklearn.linear_model import LogisticRegression

from iris_api import create_app
from iris_api.bundle.model import Model
from iris_api.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from flask.testing import FlaskClient

    from iris_api.bundle.store import Bundle
    from tests.conftest import Key


def test_the_document_follows_the_served_model(
    trained: Path, key: Key, save: Callable[..., Bundle]
) -> None:
    """After a swap it has the new features, classes and version, and another ETag."""
    app = create_app(Settings(model_dir=trained, api_keys=key.entry))
    client = app.test_client()
    before = client.get("/openapi.json")
    rows = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0]])
    bundle = save(LogisticRegression().fit(rows, [0, 1, 0, 1]), rows, np.array([0, 1, 0, 1]))
    app.extensions["iris_api"].serve(Model.of(bundle, max_rows=5))
    after = client.get("/openapi.json", headers={"If-None-Match": before.headers["ETag"]})
    assert after.status_code == 200
    assert after.json
    schemas = after.json["components"]["schemas"]
    assert schemas["Row"]["required"] == ["a", "b"]
    assert schemas["Class"]["enum"] == ["class 0", "class 1"]
    assert after.json["info"]["version"] == bundle.manifest.version
    validate(after.json)


ENCODINGS = {
    "gzip": True,
    "gzip, deflate, br": True,
    "*": True,
    "identity;q=0.5, GZIP": True,
    "": False,
    "br": False,
    "identity": False,
    "gzip;q=0": False,
    "gzip;q=0, *": False,
    "gzip;q=0.1, identity": False,
    "gzip;q=nonsense": False,
    '";=,\xff' * 1000: False,
}


@pytest.mark.parametrize(
    ("accepted", "is_compressed"), ENCODINGS.items(), ids=lambda x: str(x)[:20]
)
def test_the_document_is_compressed_for_clients_that_accept_gzip(
    stranger: FlaskClient, accepted: str, is_compressed: bool
) -> None:
    """Its content is the same for all clients."""
    answer = stranger.get("/openapi.json", headers={"Accept-Encoding": accepted})
    assert answer.headers["Vary"] == "Accept-Encoding"
    assert (answer.headers.get("Content-Encoding") == "gzip") == is_compressed
    assert len(answer.data) == int(answer.headers["Content-Length"])
    body = gzip.decompress(answer.data) if is_compressed else answer.data
    assert json.loads(body)["paths"]
    assert not is_compressed or len(answer.data) < len(body) / 4


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_an_unchanged_document_is_not_sent_again(stranger: FlaskClient, encoding: str) -> None:
    """A matching ETag, alone or in a list, gets a 304; any other gets the document."""
    headers = {"Accept-Encoding": encoding}
    tag = stranger.get("/openapi.json", headers=headers).headers["ETag"]
    for condition in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = stranger.get("/openapi.json", headers=headers | {"If-None-Match": condition})
        assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", tag)
    for condition in ('"other"', tag[:-2] + '"', '"' * 8000, "\xff, W/", ""):
        again = stranger.get("/openapi.json", headers=headers | {"If-None-Match": condition})
        assert again.status_code == 200


def test_each_encoding_has_its_own_strong_etag(stranger: FlaskClient) -> None:
    """A strong ETag identifies the bytes of an answer."""
    tags = {
        stranger.get("/openapi.json", headers={"Accept-Encoding": each}).headers["ETag"]
        for each in ("gzip", "identity")
    }
    assert len(tags) == 2
    assert not [tag for tag in tags if tag.startswith("W/")]


@pytest.mark.parametrize("name", ["swagger-ui.css", "swagger-ui-bundle.js"])
def test_swagger_ui_is_served_by_this_host(stranger: FlaskClient, name: str) -> None:
    """The page loads this file, and its policy allows no script from elsewhere."""
    with stranger.get("/docs") as page:
        policy = page.headers["Content-Security-Policy"]
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert f'"docs/{name}"' in page.get_data(as_text=True)
        assert "<script>" not in page.get_data(as_text=True)
    answer = stranger.get(f"/docs/{name}", headers={"Accept-Encoding": "gzip"})
    assert answer.status_code == 200
    assert len(gzip.decompress(answer.data)) > 100_000


@pytest.mark.parametrize("name", ["swagger-ui.js", "../app.py", "", "LICENSE", "%2e%2e/VERSION"])
def test_no_other_file_of_swagger_ui_is_served(stranger: FlaskClient, name: str) -> None:
    """The page needs only two of them."""
    assert stranger.get(f"/docs/{name}").status_code == 404
