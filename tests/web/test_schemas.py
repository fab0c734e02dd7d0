from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from iris_api import create_app
from iris_api.bundle.store import Bundle
from iris_api.settings import Settings
from tests.conftest import FLOWER, Key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from flask.testing import FlaskClient


def test_the_schema_of_a_row_is_the_contract(document: Any) -> None:
    """Each feature has its bounds, its unit and an example."""
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


def test_the_examples_are_answers_of_the_served_model(client: FlaskClient, document: Any) -> None:
    """Each example request gets the example answer, and the batch shows each class."""
    predict = document["paths"]["/v1/predict"]["post"]
    requests = predict["requestBody"]["content"]["application/json"]["examples"]
    answers = predict["responses"]["200"]["content"]["application/json"]["examples"]
    for request, answer in (("row", "SinglePrediction"), ("batch", "BatchPrediction")):
        actual = client.post("/v1/predict", json=requests[request]["value"])
        assert actual.json == answers[answer]["value"]
    batch = answers["BatchPrediction"]["value"]["predictions"]
    assert [each["prediction"] for each in batch] == ["setosa", "versicolor", "virginica"]


def test_no_example_shows_what_needs_a_key(document: Any, trained: Path) -> None:
    """There is no training row and no card of the model."""
    manifest = Bundle.load(trained).manifest
    assert manifest.sample
    names = manifest.contract.feature_names
    training_rows = [dict(zip(names, row, strict=True)) for row in manifest.sample.rows]
    predict = document["paths"]["/v1/predict"]["post"]
    batch = predict["requestBody"]["content"]["application/json"]["examples"]["batch"]["value"]
    assert not [row for row in batch if row in training_rows]
    card = document["paths"]["/v1/model"]["get"]["responses"]["200"]["content"]
    assert "examples" not in card["application/json"]


def test_whole_features_have_whole_examples(key: Key, save: Callable[..., Bundle]) -> None:
    """An example with a fraction would be refused, and would stop the start of the service."""
    rows = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0]])
    fitted = LogisticRegression().fit(rows, [0, 1, 0, 1])
    bundle = save(fitted, rows, np.array([0, 1, 0, 1]), type="int", minimum=0, maximum=9)
    app = create_app(Settings(model_dir=bundle.directory, api_keys=key.entry))
    document: Any = app.test_client().get("/openapi.json").json
    body = document["paths"]["/v1/predict"]["post"]["requestBody"]["content"]["application/json"]
    for example in body["examples"].values():
        answer = app.test_client().post("/v1/predict", json=example["value"], headers=key.headers)
        assert answer.status_code == 200
