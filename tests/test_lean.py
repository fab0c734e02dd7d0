from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from flask import session, url_for

if TYPE_CHECKING:
    from flask import Flask
    from flask.testing import FlaskClient


def test_a_path_is_matched_whatever_the_host_says(client: FlaskClient) -> None:
    """No host header, sane or not, changes where a request goes."""
    for host in ("localhost", "evil.example:99999", "a b", "", "[::1]"):
        assert client.get("/health", headers={"Host": host}).status_code == 200


def test_an_empty_path_is_the_index(client: FlaskClient) -> None:
    """As in `GET http://host HTTP/1.1`: no redirect, which would have an HTML body."""
    assert client.get("/", environ_overrides={"PATH_INFO": ""}).status_code == 200


def test_urls_are_built_as_paths(app: Flask) -> None:
    """What the index links to."""
    with app.test_request_context("/"):
        assert url_for("v1.predict") == "/v1/predict"


def test_there_is_no_session_to_write_to(app: Flask) -> None:
    """A view that tries is told."""
    with app.test_request_context("/"), pytest.raises(RuntimeError, match="no secret key"):
        session["user"] = "me"


@pytest.mark.parametrize("path", ["/health", "/nowhere", "/v1/model"])
def test_a_head_has_the_headers_of_its_get(client: FlaskClient, path: str) -> None:
    """And no body."""
    got, head = client.get(path), client.head(path)
    assert head.data == b""
    assert head.content_length == got.content_length == len(got.data)
    assert head.content_type == got.content_type
