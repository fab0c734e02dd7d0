from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from iris_api.web.auth import is_public
from tests.conftest import FLOWER, Key

if TYPE_CHECKING:
    from flask import Flask
    from flask.testing import FlaskClient

DOCS_FILE = '/docs/<any("swagger-ui.css", "swagger-ui-bundle.js"):name>'
PUBLIC = {
    "/",
    "/docs",
    DOCS_FILE,
    "/drift",
    "/health",
    "/health/live",
    "/health/ready",
    "/openapi.json",
    "/static/<path:name>",
}


def test_every_route_is_guarded_or_on_the_public_list(app: Flask) -> None:
    """Deny by default: a route that nobody thought of asks for a key."""
    asked = 0
    for rule in app.url_map.iter_rules():
        assert is_public(app, rule.endpoint) == (rule.rule in PUBLIC), rule
        for method in (rule.methods or set()) - {"OPTIONS"}:
            path = rule.rule.replace("<path:name>", "drift.js").replace(
                DOCS_FILE, "/docs/swagger-ui.css"
            )
            answer = app.test_client().open(path, method=method)
            assert (answer.status_code == 401) == (rule.rule not in PUBLIC), (method, rule)
            answer.close()
            asked += 1
    assert asked > len(PUBLIC)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": ""},
        {"X-API-Key": "wrong"},
        {"X-API-Key": "é"},
        {"X-API-Key": "x" * 10_000},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic c2hvcDprZXk="},
        {"Authorization": "nonsense"},
        {"Authorization": "Basic \xff"},
        {"Authorization": "Bearer \xff"},
        {"Authorization": "Digest \xff=\xff"},
        {"Authorization": ""},
    ],
)
def test_without_a_valid_key_there_is_no_answer(
    stranger: FlaskClient, headers: dict[str, str]
) -> None:
    """401 with the two ways to send a key, as a problem."""
    answer = stranger.post("/v1/predict", json=FLOWER, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="iris-api"'
    assert answer.json
    assert "X-API-Key" in answer.json["detail"]


def test_a_key_may_come_in_either_header(stranger: FlaskClient, key: Key) -> None:
    """Both ways open the same door."""
    bearer = ({"Authorization": f"{scheme} {key.secret}"} for scheme in ("Bearer", "bearer"))
    for headers in (*bearer, key.headers):
        assert stranger.post("/v1/predict", json=FLOWER, headers=headers).status_code == 200


def test_a_wrong_key_is_told_before_a_wrong_body(stranger: FlaskClient) -> None:
    """What a stranger sends is not judged."""
    answer = stranger.post("/v1/predict", data=b"nonsense")
    assert answer.status_code == 401


def test_what_is_not_there_is_404_for_strangers_too(stranger: FlaskClient) -> None:
    """A wrong path is told as such, key or not."""
    assert stranger.get("/nowhere").status_code == 404
    assert stranger.delete("/v1/predict").status_code == 405
