from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest

from iris_api import create_app
from iris_api.settings import Settings
from iris_api.web import routes
from iris_api.web.auth import public
from tests.api_document import ApiDocument
from tests.constants import FLOWER

if TYPE_CHECKING:
    from pathlib import Path

    from flask import Response
    from flask.testing import FlaskClient

    from tests.conftest import Key


@pytest.fixture
def document(api_document: ApiDocument) -> Any:
    """The OpenAPI document, which a test may change."""
    return copy.deepcopy(api_document.document)


def test_the_test_client_checks_each_answer(trained: Path, key: Key) -> None:
    """A body that the document does not describe fails the test that requested it."""

    def live() -> Response:
        return routes.answer({"status": "alive", "mood": "good"})

    app = create_app(Settings(model_dir=trained, api_keys=key.entry))
    app.view_functions["v1.live"] = public(live)
    with pytest.raises(jsonschema_rs.ValidationError, match="mood"):
        app.test_client().get("/health/live")


PARTS = [
    ("paths", "/v1/predict"),
    ("paths", "/v1/predict", "post", "responses", "200"),
    ("paths", "/v1/predict", "post", "responses", "200", "content", "application/json"),
    ("components", "schemas", "SinglePrediction", "properties", "model_version"),
]


@pytest.mark.parametrize("path", PARTS, ids=lambda path: path[-1])
def test_an_undescribed_answer_fails_its_test(
    client: FlaskClient, document: Any, path: tuple[str, ...]
) -> None:
    """The check notices a path, a status, a media type or a member that the document lacks."""
    answer = client.post("/v1/predict", json=FLOWER)
    exchange = ("POST", "/v1/predict", 200, dict(answer.headers), answer.data)
    ApiDocument(document).check(*exchange)
    part = document
    for name in path[:-1]:
        part = part[name]
    del part[path[-1]]
    with pytest.raises((AssertionError, jsonschema_rs.ValidationError)):
        ApiDocument(document).check(*exchange)


def test_an_undescribed_type_of_problem_fails_its_test(client: FlaskClient, document: Any) -> None:
    """A status has only the types of problems that the document lists for it."""
    answer = client.post("/v1/predict", json=FLOWER, headers={"X-API-Key": "unknown"})
    exchange = ("POST", "/v1/predict", 401, dict(answer.headers), answer.data)
    ApiDocument(document).check(*exchange)
    content = document["paths"]["/v1/predict"]["post"]["responses"]["401"]["content"]
    types = content["application/problem+json"]["schema"]["properties"]["type"]["enum"]
    types.remove("urn:iris-api:problem:wrong-key")
    with pytest.raises(jsonschema_rs.ValidationError, match="wrong-key"):
        ApiDocument(document).check(*exchange)
