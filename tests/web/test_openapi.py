from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from openapi_spec_validator import validate

from iris_api import create_app
from iris_api.settings import Settings
from iris_api.web.auth import public
from tests.conftest import FLOWER, ROOT, Key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flask import Flask, Response
    from flask.testing import FlaskClient


def test_the_document_is_openapi_3_1(document: Any) -> None:
    """It is valid by the specification's own schema."""
    assert document["openapi"].startswith("3.1.")
    validate(document)


def test_the_document_has_exactly_the_routes_of_the_application(app: Flask, document: Any) -> None:
    """Each method of a route is an operation with an id, a summary and its need for a key."""
    described = {
        (path, method.upper()): operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }
    rules = {
        (rule.rule.partition("<")[0], method)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {(path.partition("{")[0], method) for path, method in described} == rules
    assert len({operation["operationId"] for operation in described.values()}) == len(described)
    for (path, method), operation in described.items():
        assert operation["summary"]
        with app.test_client().open(path, method=method) as answer:
            guarded = answer.status_code == 401
        assert operation["security"] == ([{"key": []}, {"bearer": []}] if guarded else [])
        assert ("401" in operation["responses"]) == guarded


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    """Each operation, with its path and its method."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def examples(response: Any) -> dict[str, Any]:
    """The example problems of a response by their type; `{"": None}` if it is not a problem."""
    content = response.get("content", {}).get("application/problem+json")
    if content is None:
        return {"": None}
    by_type = {each["value"]["type"]: each["value"] for each in content["examples"].values()}
    assert content["schema"]["properties"]["type"]["enum"] == list(by_type)
    return by_type


NAMES = {"/docs/{name}": "swagger-ui.css", "/static/{name}": "theme.css"}
JSON = {"content_type": "application/json"}
REQUESTS: list[dict[str, Any]] = [
    {"json": FLOWER},
    {"json": FLOWER, "headers": {"If-None-Match": "*"}},
    {"json": FLOWER, "headers": {"X-API-Key": ""}},
    {"json": FLOWER, "headers": {"X-API-Key": "unknown"}},
    {"json": FLOWER, "headers": {"X-Request-Start": "t=1.000"}},
    {"data": b"", **JSON},
    {"data": b"[{}]", **JSON},
    {"data": b"[%s{}]" % (b"{}," * 10_000), **JSON},
    {"data": b" " * (2**21 + 1), **JSON},
    {"data": b"{}", "content_type": "text/plain"},
]
"""A valid request, and one for each mistake that a client can make."""


def answers(client: FlaskClient, path: str, method: str) -> dict[tuple[str, str], Any]:
    """The problems with which an operation answers these requests, by status and type."""
    problems: dict[tuple[str, str], Any] = {}
    for name in {NAMES.get(path, ""), "nothing"}:
        for request in REQUESTS:
            url = path.replace("{name}", name)
            with client.open(url, method=method.upper(), **request) as answer:
                problem = answer.json if answer.mimetype == "application/problem+json" else None
                problems[str(answer.status_code), problem["type"] if problem else ""] = problem
    return problems


def declared(document: Any, operation: Any) -> Iterator[tuple[str, str, Any]]:
    """Status, type and example of each answer that not every operation has."""
    shared = document["components"]["responses"]
    for status, response in operation["responses"].items():
        everywhere = examples(shared[f"Refused{status}"]) if f"Refused{status}" in shared else {}
        own = {} if "$ref" in response else examples(response)
        yield from ((status, kind, own[kind]) for kind in own if kind not in everywhere)


def draining(trained: Path, key: Key) -> FlaskClient:
    """A client with the key, for a server that is about to stop."""
    app = create_app(Settings(model_dir=trained, api_keys=key.entry))
    app.extensions["iris_api"].drain.begin()
    client = app.test_client()
    client.environ_base["HTTP_X_API_KEY"] = key.secret
    return client


def test_each_declared_answer_occurs_and_equals_its_example(
    trained: Path, key: Key, client: FlaskClient, document: Any
) -> None:
    """No operation declares a status or a type of problem that it never answers."""
    stopping = draining(trained, key)
    for path, method, operation in operations(document):
        problems = answers(client, path, method) | answers(stopping, path, method)
        for status, kind, example in declared(document, operation):
            assert (status, kind) in problems, (path, method)
            problem = problems[status, kind]
            assert problem == (example and example | {"request_id": problem["request_id"]})


def test_the_answers_of_the_proxy_are_those_of_its_configuration(document: Any) -> None:
    """The server gives the other statuses that every operation has; its own tests show them."""
    configuration = (ROOT / "deploy" / "nginx.conf").read_text()
    statuses = re.search(r"error_page ([\d ]+) /problem;", configuration)
    details = dict(re.findall(r'(\d{3}|default) +"(Answered by nginx: .*)";', configuration))
    assert statuses
    others = set()
    for name, response in document["components"]["responses"].items():
        ((kind, example),) = examples(response).items()
        status, detail = name.removeprefix("Refused"), example["detail"]
        assert kind == "about:blank"
        if not detail.startswith("Answered by nginx"):
            others.add(status)
            continue
        assert status in statuses[1].split()
        assert detail == details.get(status, details["default"])
    assert others == {"400", "408", "414", "417", "431", "500", "501"}


def test_an_unforeseen_error_is_answered_like_its_example(
    trained: Path, key: Key, document: Any
) -> None:
    """Any exception of a view is a 500."""

    def live() -> Response:
        raise ZeroDivisionError

    app = create_app(Settings(model_dir=trained, api_keys=key.entry))
    app.view_functions["v1.live"] = public(live)
    problem = app.test_client().get("/health/live").json
    (example,) = examples(document["components"]["responses"]["Refused500"]).values()
    assert problem
    assert problem == example | {"request_id": problem["request_id"]}


@pytest.mark.parametrize(
    "request_id", ["order-17", "a" * 128, "a" * 129, "", "two words", "\u00e9"], ids=ascii
)
def test_each_operation_accepts_a_request_id(
    document: Any, client: FlaskClient, request_id: str
) -> None:
    """An id is returned if, and only if, it fits the declared pattern."""
    for _, _, operation in operations(document):
        assert {"$ref": "#/components/parameters/RequestId"} in operation["parameters"]
    parameter = document["components"]["parameters"]["RequestId"]
    answer = client.get("/health", headers={parameter["name"]: request_id})
    is_valid = bool(re.search(parameter["schema"]["pattern"], request_id))
    assert (answer.headers[parameter["name"]] == request_id) == is_valid


def test_the_limits_are_those_of_the_settings(trained: Path, key: Key) -> None:
    """The example of a batch keeps the limit of rows."""
    settings = Settings(model_dir=trained, api_keys=key.entry, max_rows=1, max_body_bytes=777)
    document: Any = create_app(settings).test_client().get("/openapi.json").json
    body = document["paths"]["/v1/predict"]["post"]["requestBody"]
    content = body["content"]["application/json"]
    assert body["x-max-bytes"] == 777
    assert [each["maxItems"] for each in content["schema"]["oneOf"] if "maxItems" in each] == [1]
    assert len(content["examples"]["batch"]["value"]) == 1
    validate(document)
