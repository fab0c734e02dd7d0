from __future__ import annotations

import copy
import gzip
import json
import re
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import numpy as np
import pytest
from openapi_spec_validator import validate
from sklearn.linear_model import LogisticRegression

from iris_api import create_app
from iris_api.bundle.model import Model
from iris_api.bundle.store import Bundle
from iris_api.settings import Settings
from iris_api.web import routes
from iris_api.web.auth import public
from tests.api_document import ApiDocument as Described
from tests.conftest import FLOWER, ROOT, Key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from flask import Flask, Response
    from flask.testing import FlaskClient


@pytest.fixture
def document(stranger: FlaskClient) -> Any:
    """As anyone gets it."""
    return stranger.get("/openapi.json").json


def test_it_is_openapi_3_1(document: Any) -> None:
    """Valid by the specification's own schema."""
    assert document["openapi"].startswith("3.1.")
    validate(document)


def test_each_route_is_in_it_with_its_methods_and_its_key(app: Flask, document: Any) -> None:
    """And nothing that is not in the URL map; each operation has an id of its own."""
    told = {
        (path, method.upper()): operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }
    rules = {
        (rule.rule.partition("<")[0], method)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {(path.partition("{")[0], method) for path, method in told} == rules
    assert len({operation["operationId"] for operation in told.values()}) == len(told)
    for (path, method), operation in told.items():
        assert operation["summary"]
        with app.test_client().open(path, method=method) as answer:
            guarded = answer.status_code == 401
        assert operation["security"] == ([{"key": []}, {"bearer": []}] if guarded else [])
        assert ("401" in operation["responses"]) == guarded


def test_the_examples_are_answers_of_the_served_model(client: FlaskClient, document: Any) -> None:
    """Sent again, each request of the examples gets the answer that stands there."""
    predict = document["paths"]["/v1/predict"]["post"]
    sent = predict["requestBody"]["content"]["application/json"]["examples"]
    answers = predict["responses"]["200"]["content"]["application/json"]["examples"]
    for request, answer in (("row", "SinglePrediction"), ("batch", "BatchPrediction")):
        made = client.post("/v1/predict", json=sent[request]["value"])
        assert made.json == answers[answer]["value"]
    shown = [each["prediction"] for each in answers["BatchPrediction"]["value"]["predictions"]]
    assert shown == ["setosa", "versicolor", "virginica"]


def test_no_example_shows_what_only_a_key_opens(document: Any, trained: Path) -> None:
    """Neither a training row, nor the model's card."""
    manifest = Bundle.load(trained).manifest
    assert manifest.sample
    names = manifest.contract.feature_names
    known = [dict(zip(names, row, strict=True)) for row in manifest.sample.rows]
    predict = document["paths"]["/v1/predict"]["post"]
    sent = predict["requestBody"]["content"]["application/json"]["examples"]["batch"]["value"]
    assert not [row for row in sent if row in known]
    card = document["paths"]["/v1/model"]["get"]["responses"]["200"]["content"]
    assert "examples" not in card["application/json"]


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    """Each with its path and its method."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def examples(response: Any) -> dict[str, Any]:
    """The problems that a response shows, by their type; for others, nothing by no type."""
    content = response.get("content", {}).get("application/problem+json")
    if content is None:
        return {"": None}
    shown = {each["value"]["type"]: each["value"] for each in content["examples"].values()}
    assert content["schema"]["properties"]["type"]["enum"] == list(shown)
    return shown


NAMES = {"/docs/{name}": "swagger-ui.css", "/static/{name}": "theme.css"}
JSON = {"content_type": "application/json"}
WAYS: list[dict[str, Any]] = [
    {"json": FLOWER},
    {"json": FLOWER, "headers": {"If-None-Match": "*"}},
    {"json": FLOWER, "headers": {"X-API-Key": ""}},
    {"json": FLOWER, "headers": {"X-API-Key": "nobody's"}},
    {"json": FLOWER, "headers": {"X-Request-Start": "t=1.000"}},
    {"data": b"", **JSON},
    {"data": b"[{}]", **JSON},
    {"data": b"[%s{}]" % (b"{}," * 10_000), **JSON},
    {"data": b" " * (2**21 + 1), **JSON},
    {"data": b"{}", "content_type": "text/plain"},
]
"""To ask for something: rightly, and with all wrong that a program can have wrong."""


def asked(client: FlaskClient, path: str, method: str) -> dict[tuple[str, str], Any]:
    """What an operation answers in all these ways: problems by their status and type."""
    seen: dict[tuple[str, str], Any] = {}
    for name in {NAMES.get(path, ""), "nothing"}:
        for way in WAYS:
            with client.open(path.replace("{name}", name), method=method.upper(), **way) as answer:
                problem = answer.json if answer.mimetype == "application/problem+json" else None
                seen[str(answer.status_code), problem["type"] if problem else ""] = problem
    return seen


def own(document: Any, operation: Any) -> Iterator[tuple[str, str, Any]]:
    """Statuses of an operation, types of problems and their examples, but for those of them all."""
    shared = document["components"]["responses"]
    for status, response in operation["responses"].items():
        everywhere = examples(shared[f"Refused{status}"]) if f"Refused{status}" in shared else {}
        found = {} if "$ref" in response else examples(response)
        yield from ((status, kind, found[kind]) for kind in found if kind not in everywhere)


def draining(trained: Path, key: Key) -> FlaskClient:
    """A client with the key, of a server that is about to stop."""
    app = create_app(Settings(model_dir=trained, api_keys=key.entry))
    app.extensions["iris_api"].drain.begin()
    client = app.test_client()
    client.environ_base["HTTP_X_API_KEY"] = key.secret
    return client


def test_what_is_declared_can_happen_and_its_example_is_what_is_said(
    trained: Path, key: Key, client: FlaskClient, document: Any
) -> None:
    """Each status of each operation, and each kind of problem; nothing is told that never comes."""
    leaving = draining(trained, key)
    for path, method, operation in operations(document):
        seen = asked(client, path, method) | asked(leaving, path, method)
        for status, kind, example in own(document, operation):
            assert (status, kind) in seen, (path, method)
            told = seen[status, kind]
            assert told == (example and example | {"request_id": told["request_id"]})


def test_what_the_proxy_may_answer_is_what_its_configuration_says(document: Any) -> None:
    """Of what stands before every view; the tests of a real server ask for the other statuses."""
    configuration = (ROOT / "deploy" / "nginx.conf").read_text()
    rendered = re.search(r"error_page ([\d ]+) /problem;", configuration)
    details = dict(re.findall(r'(\d{3}|default) +"(Answered by nginx: .*)";', configuration))
    assert rendered
    others = set()
    for name, response in document["components"]["responses"].items():
        ((kind, example),) = examples(response).items()
        status, detail = name.removeprefix("Refused"), example["detail"]
        assert kind == "about:blank"
        if not detail.startswith("Answered by nginx"):
            others.add(status)
            continue
        assert status in rendered[1].split()
        assert detail == details.get(status, details["default"])
    assert others == {"400", "408", "414", "417", "431", "500", "501"}


def test_what_nobody_foresaw_is_answered_as_its_example(
    trained: Path, key: Key, document: Any
) -> None:
    """Whatever a view fails with."""

    def live() -> Response:
        raise ZeroDivisionError

    app = create_app(Settings(model_dir=trained, api_keys=key.entry))
    app.view_functions["v1.live"] = public(live)
    told = app.test_client().get("/health/live").json
    (example,) = examples(document["components"]["responses"]["Refused500"]).values()
    assert told
    assert told == example | {"request_id": told["request_id"]}


def test_each_operation_takes_an_id_of_the_caller(document: Any, client: FlaskClient) -> None:
    """One that fits the pattern that is told comes back, and another one does not."""
    told = document["components"]["parameters"]["RequestId"]
    sane = re.compile(told["schema"]["pattern"])
    for _, _, operation in operations(document):
        assert {"$ref": "#/components/parameters/RequestId"} in operation["parameters"]
    for given in ("order-17", "a" * 128, "a" * 129, "", "two words", "\u00e9"):
        answer = client.get("/health", headers={told["name"]: given})
        assert (answer.headers[told["name"]] == given) == bool(sane.search(given)), given


def test_a_row_is_described_by_the_contract(document: Any) -> None:
    """Each feature with its bounds, its unit and an example."""
    row = document["components"]["schemas"]["Row"]
    assert row["required"] == list(FLOWER)
    assert row["additionalProperties"] is False
    assert row["properties"]["petal_width"] == {
        "type": "number",
        "minimum": 0.0,
        "maximum": 10.0,
        "description": "Petal width of the flower, in cm",
        "examples": [0.2],
    }


def test_limits_are_those_of_the_settings(trained: Path, key: Key) -> None:
    """Rows and bytes; and the example of a batch keeps them."""
    settings = Settings(model_dir=trained, api_keys=key.entry, max_rows=1, max_body_bytes=777)
    document: Any = create_app(settings).test_client().get("/openapi.json").json
    body = document["paths"]["/v1/predict"]["post"]["requestBody"]
    content = body["content"]["application/json"]
    assert body["x-max-bytes"] == 777
    assert [each["maxItems"] for each in content["schema"]["oneOf"] if "maxItems" in each] == [1]
    assert len(content["examples"]["batch"]["value"]) == 1
    validate(document)


def test_it_follows_the_model_that_is_served(
    trained: Path, key: Key, save: Callable[..., Bundle]
) -> None:
    """Another model has other features and classes, and the document another ETag."""
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


def test_whole_features_have_whole_examples(key: Key, save: Callable[..., Bundle]) -> None:
    """A row that the contract would refuse is no example, and must not stop the start."""
    rows = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0]])
    fitted = LogisticRegression().fit(rows, [0, 1, 0, 1])
    bundle = save(fitted, rows, np.array([0, 1, 0, 1]), type="int", minimum=0, maximum=9)
    app = create_app(Settings(model_dir=bundle.directory, api_keys=key.entry))
    document: Any = app.test_client().get("/openapi.json").json
    body = document["paths"]["/v1/predict"]["post"]["requestBody"]["content"]["application/json"]
    for example in body["examples"].values():
        answer = app.test_client().post("/v1/predict", json=example["value"], headers=key.headers)
        assert answer.status_code == 200


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


@pytest.mark.parametrize(("accepted", "packed"), ENCODINGS.items(), ids=lambda x: str(x)[:20])
def test_it_is_compressed_for_whoever_takes_that(
    stranger: FlaskClient, accepted: str, packed: bool
) -> None:
    """And is the same for all."""
    answer = stranger.get("/openapi.json", headers={"Accept-Encoding": accepted})
    assert answer.headers["Vary"] == "Accept-Encoding"
    assert (answer.headers.get("Content-Encoding") == "gzip") == packed
    assert len(answer.data) == int(answer.headers["Content-Length"])
    body = gzip.decompress(answer.data) if packed else answer.data
    assert json.loads(body)["paths"]
    assert not packed or len(answer.data) < len(body) / 4


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_who_has_it_is_not_sent_it_again(stranger: FlaskClient, encoding: str) -> None:
    """By its strong ETag, alone or among others; each encoding has one of its own."""
    headers = {"Accept-Encoding": encoding}
    tag = stranger.get("/openapi.json", headers=headers).headers["ETag"]
    for given in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = stranger.get("/openapi.json", headers=headers | {"If-None-Match": given})
        assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", tag)
    for given in ('"other"', tag[:-2] + '"', '"' * 8000, "\xff, W/", ""):
        again = stranger.get("/openapi.json", headers=headers | {"If-None-Match": given})
        assert again.status_code == 200


def test_the_tags_of_the_encodings_differ(stranger: FlaskClient) -> None:
    """A strong ETag stands for bytes."""
    tags = {
        stranger.get("/openapi.json", headers={"Accept-Encoding": each}).headers["ETag"]
        for each in ("gzip", "identity")
    }
    assert len(tags) == 2
    assert not [tag for tag in tags if tag.startswith("W/")]


@pytest.mark.parametrize("name", ["swagger-ui.css", "swagger-ui-bundle.js"])
def test_swagger_ui_is_served_from_here(stranger: FlaskClient, name: str) -> None:
    """Its page allows no script but files of this host, and names this file."""
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
def test_nothing_else_of_the_package_is_served(stranger: FlaskClient, name: str) -> None:
    """The page needs two files of it."""
    assert stranger.get(f"/docs/{name}").status_code == 404


def test_the_client_of_these_tests_looks_at_each_answer(trained: Path, key: Key) -> None:
    """Also at its body: a service that says something else fails the test that asks."""

    def live() -> Response:
        return routes.answer({"status": "alive", "mood": "good"})

    app = create_app(Settings(model_dir=trained, api_keys=key.entry))
    app.view_functions["v1.live"] = public(live)
    with pytest.raises(jsonschema_rs.ValidationError, match="mood"):
        app.test_client().get("/health/live")


def without(document: Any, *path: str) -> Described:
    """What the document would be if it left something out."""
    changed = copy.deepcopy(document)
    at = changed
    for name in path[:-1]:
        at = at[name]
    del at[path[-1]]
    return Described(changed)


LEFT_OUT = [
    ("paths", "/v1/predict"),
    ("paths", "/v1/predict", "post", "responses", "200"),
    ("paths", "/v1/predict", "post", "responses", "200", "content", "application/json"),
    ("components", "schemas", "SinglePrediction", "properties", "model_version"),
]


@pytest.mark.parametrize("path", LEFT_OUT, ids=lambda path: path[-1])
def test_an_answer_that_is_not_described_fails_its_test(
    client: FlaskClient, document: Any, path: tuple[str, ...]
) -> None:
    """What holds every answer of these tests against the document does find what is missing."""
    answer = client.post("/v1/predict", json=FLOWER)
    seen = ("POST", "/v1/predict", 200, dict(answer.headers), answer.data)
    Described(document).check(*seen)
    with pytest.raises((AssertionError, jsonschema_rs.ValidationError)):
        without(document, *path).check(*seen)


def test_a_problem_of_another_kind_fails_its_test(client: FlaskClient, document: Any) -> None:
    """What is told of a status is all that it can be for."""
    answer = client.post("/v1/predict", json=FLOWER, headers={"X-API-Key": "nobody's"})
    seen = ("POST", "/v1/predict", 401, dict(answer.headers), answer.data)
    Described(document).check(*seen)
    content = document["paths"]["/v1/predict"]["post"]["responses"]["401"]["content"]
    types = content["application/problem+json"]["schema"]["properties"]["type"]["enum"]
    types.remove("urn:iris-api:problem:wrong-key")
    with pytest.raises(jsonschema_rs.ValidationError, match="wrong-key"):
        Described(document).check(*seen)
