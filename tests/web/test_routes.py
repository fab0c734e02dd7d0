from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iris_api import create_app
from iris_api.settings import Settings
from tests.conftest import FLOWER, Key

if TYPE_CHECKING:
    from pathlib import Path

    from flask import Flask
    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

PROBLEM = "application/problem+json"


def post(client: FlaskClient, body: bytes | str, **headers: str) -> TestResponse:
    return client.post(
        "/v1/predict", data=body, headers={"Content-Type": "application/json"} | headers
    )


@pytest.mark.parametrize("path", ["/v1/predict", "/predict"])
def test_an_object_is_answered_with_one_prediction(client: FlaskClient, path: str) -> None:
    """The alias answers as the versioned route does."""
    answer = client.post(path, json=FLOWER)
    assert answer.status_code == 200
    assert answer.mimetype == "application/json"
    assert answer.json
    assert answer.json.keys() == {
        "prediction",
        "confidence",
        "probabilities",
        "input",
        "model_version",
    }
    assert answer.json["prediction"] == "virginica"
    assert answer.json["confidence"] == answer.json["probabilities"]["virginica"]
    assert answer.json["input"] == FLOWER


def test_an_array_is_answered_with_as_many_predictions(client: FlaskClient) -> None:
    """A request may have 10,000 rows."""
    answer = client.post("/v1/predict", json=[FLOWER] * 10_000)
    assert answer.json
    assert answer.json.keys() == {"predictions", "count", "model_version"}
    assert answer.json["count"] == len(answer.json["predictions"]) == 10_000
    assert answer.json["predictions"][0].keys() == {"prediction", "confidence", "probabilities"}


def test_the_index_lists_features_and_links(stranger: FlaskClient) -> None:
    """Each link leads to a route."""
    index = stranger.get("/").json
    assert index
    assert index["features"] == list(FLOWER)
    for link in index["links"].values():
        answer = stranger.get(link)
        assert answer.status_code in {200, 401, 405}
        answer.close()


def test_the_card_has_the_contract_and_the_evaluation(client: FlaskClient) -> None:
    """It has what a caller needs, and no golden rows."""
    card = client.get("/v1/model").json
    assert card
    assert [feature["unit"] for feature in card["features"]] == ["cm"] * 4
    assert card["classes"] == ["setosa", "versicolor", "virginica"]
    assert card["evaluation"]["accuracy"] > 0.9
    assert card["runtime"] == "onnxruntime"
    assert "golden" not in card


@pytest.mark.parametrize("path", ["/health", "/health/ready"])
def test_readiness_names_the_model(stranger: FlaskClient, path: str) -> None:
    """It needs no key."""
    answer = stranger.get(path)
    assert answer.status_code == 200
    assert answer.json
    assert (answer.json["status"], answer.json["model"]) == ("healthy", "loaded")


def test_without_a_model_the_process_is_alive_and_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: Key
) -> None:
    """The answer is 503 with Retry-After, without details for the operator."""
    monkeypatch.setenv("FLASK_RUN_FROM_CLI", "true")
    client = create_app(Settings(model_dir=tmp_path, api_keys=key.entry)).test_client()
    assert client.get("/health/live").status_code == 200
    for path in ("/health", "/health/ready"):
        answer = client.get(path)
        assert (answer.status_code, answer.mimetype) == (503, PROBLEM)
        assert answer.headers["Retry-After"] == "10"
        assert str(tmp_path) not in answer.text
    assert client.post("/predict", json=FLOWER, headers=key.headers).status_code == 503


VALID_BODY = json.dumps(FLOWER)
REFUSED: dict[str, tuple[bytes, int]] = {
    "empty body": (b"", 400),
    "white space": (b"\r\n", 400),
    "empty array": (b"[]", 422),
    "empty object": (b"{}", 422),
    "null": (b"null", 422),
    "string": (b'"setosa"', 422),
    "10,001 rows": (json.dumps([FLOWER] * 10_001).encode(), 413),
    "1e400": (VALID_BODY.replace("2.3", "1e400").encode(), 422),
    "NaN": (VALID_BODY.replace("2.3", "NaN").encode(), 422),
    "true": (VALID_BODY.replace("2.3", "true").encode(), 422),
    '"5.1"': (VALID_BODY.replace("2.3", '"5.1"').encode(), 422),
    "unknown field": (json.dumps(FLOWER | {"colour": 1}).encode(), 422),
    "deep nesting": (b"[" * 500_000, 400),
    "deep objects": (b'{"a":' * 300_000, 400),
    "invalid UTF-8": (b'{"\xff": 1}', 400),
    "UTF-16": (VALID_BODY.encode("utf-16"), 400),
    "array in array": (b"[[1, 2, 3, 4]]", 422),
}


@pytest.mark.parametrize(("body", "status"), REFUSED.values(), ids=REFUSED.keys())
def test_a_bad_body_is_a_problem_of_the_documented_status(
    client: FlaskClient, body: bytes, status: int
) -> None:
    """The next valid request is answered."""
    answer = post(client, body)
    assert (answer.status_code, answer.mimetype) == (status, PROBLEM)
    assert answer.json
    assert {"type", "title", "status", "detail", "request_id"} <= answer.json.keys()
    assert answer.json["status"] == status
    assert post(client, VALID_BODY).status_code == 200


@pytest.mark.parametrize(
    "media_type",
    [
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain",
        "text/json",
        "",
        "application/jsonp",
        "nonsense",
    ],
)
def test_another_media_type_is_refused(client: FlaskClient, media_type: str) -> None:
    """The 415 names the media type to send, whatever the body is."""
    answer = post(client, VALID_BODY, **{"Content-Type": media_type})
    assert answer.status_code == 415
    assert answer.json
    assert "application/json" in answer.json["detail"]
    assert answer.headers["Accept-Post"] == "application/json"


@pytest.mark.parametrize("media_type", ["application/json; charset=utf-8", "Application/JSON"])
def test_parameters_and_case_of_the_media_type_do_not_matter(
    client: FlaskClient, media_type: str
) -> None:
    """Clients differ in both."""
    assert post(client, VALID_BODY, **{"Content-Type": media_type}).status_code == 200


def test_a_compressed_body_is_refused(client: FlaskClient) -> None:
    """The 415 names the reason; an error about JSON would not."""
    answer = post(client, b"\x1f\x8b", **{"Content-Encoding": "gzip"})
    assert answer.status_code == 415
    assert answer.json
    assert "Content-Encoding" in answer.json["detail"]


def test_a_body_may_have_as_many_bytes_as_the_limit(trained: Path, key: Key) -> None:
    """One byte more is a 413 that names the limit."""
    body = VALID_BODY.encode()
    limit = len(body) + 10
    app = create_app(Settings(model_dir=trained, api_keys=key.entry, max_body_bytes=limit))
    client = app.test_client()
    for length, status in ((limit, 200), (limit + 1, 413), (limit * 100, 413)):
        answer = post(client, body.ljust(length), **key.headers)
        assert answer.status_code == status
    assert answer.json
    assert f"{limit} bytes" in answer.json["detail"]


def test_a_batch_keeps_its_order(client: FlaskClient) -> None:
    """Each row gets the answer that it gets alone."""
    rows = [{name: float(i % 11) for name in FLOWER} for i in range(500)]
    batch = client.post("/predict", json=rows).json
    assert batch
    for row, prediction in list(zip(rows, batch["predictions"], strict=True))[::37]:
        single = client.post("/predict", json=row).json
        assert single
        assert single["probabilities"] == prediction["probabilities"]


numbers = st.floats() | st.integers() | st.floats(0, 10)
scalars = st.none() | st.booleans() | numbers | st.text(max_size=20)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=20,
)
nearly = st.dictionaries(st.sampled_from([*FLOWER, "x"]), scalars | st.floats(0, 10), max_size=5)


def checked_answer(
    app: Flask, key: Key, body: bytes, content_type: str = "application/json"
) -> Any:
    """The answer to a body, after a check that it is a prediction or a problem, in JSON."""
    answer = app.test_client().post(
        "/predict", data=body, headers=key.headers | {"Content-Type": content_type}
    )
    assert answer.status_code == 200 or 400 <= answer.status_code < 500
    assert answer.mimetype == ("application/json" if answer.status_code == 200 else PROBLEM)
    assert json.loads(answer.data, parse_constant=pytest.fail)
    return answer


fuzzed = settings(
    deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@fuzzed
@given(value=anything | nearly | st.lists(nearly, max_size=4))
def test_any_json_value_is_answered_or_refused(app: Flask, key: Key, value: Any) -> None:
    """The answer is a 200 or a 4xx problem, never a 500, and always valid JSON."""
    checked_answer(app, key, json.dumps(value).encode())


@fuzzed
@given(row=st.fixed_dictionaries(dict.fromkeys(FLOWER, st.floats(0, 10) | st.integers(0, 10))))
def test_any_row_in_bounds_is_answered(app: Flask, key: Key, row: dict[str, float]) -> None:
    """The probabilities sum to one, and the confidence is the largest of them."""
    answer = checked_answer(app, key, json.dumps(row).encode())
    assert answer.status_code == 200
    probabilities = answer.json["probabilities"]
    assert sum(probabilities.values()) == pytest.approx(1, abs=2e-4)
    assert answer.json["confidence"] == max(probabilities.values())


@fuzzed
@given(body=st.binary(max_size=200), content_type=st.sampled_from(["application/json", "a/b", ""]))
def test_random_bytes_are_refused(app: Flask, key: Key, body: bytes, content_type: str) -> None:
    """A body that is not JSON is a 4xx problem."""
    assert checked_answer(app, key, body, content_type).status_code != 200
