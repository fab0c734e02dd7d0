from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier

from iris_api.bundle.model import Model
from iris_api.dialects import native
from iris_api.errors import BundleError
from tests.conftest import FLOWER

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from iris_api.bundle.store import Bundle


@pytest.fixture(scope="module")
def model(trained: Path) -> Model:
    """The iris model."""
    return Model.load(trained, max_rows=100)


def answer_to(model: Model, body: Any) -> Any:
    """The model's answer to a JSON body in the native dialect."""
    rows = native.decode(json.dumps(body).encode(), model.schema)
    return json.loads(native.encode(model.predict(rows.values), rows))


def test_an_object_gets_one_answer_with_its_input(
    model: Model, forest: RandomForestClassifier
) -> None:
    """Class, confidence and probabilities are the estimator's, rounded to four decimals."""
    answer: Any = answer_to(model, FLOWER)
    expected = forest.predict_proba([list(FLOWER.values())])[0]
    assert list(answer["probabilities"].values()) == expected.round(4).tolist()
    assert answer["prediction"] == ("setosa", "versicolor", "virginica")[expected.argmax()]
    assert answer["confidence"] == max(answer["probabilities"].values())
    assert (answer["input"], answer["model_version"]) == (FLOWER, model.version)


def test_the_predictions_of_a_batch_are_in_its_order(model: Model) -> None:
    """Each row gets the answer that it gets alone."""
    rows = [dict(zip(FLOWER, values, strict=True)) for values in np.eye(4) * 7 + 1]
    answer: Any = answer_to(model, rows)
    assert answer["count"] == 4
    for row, prediction in zip(rows, answer["predictions"], strict=True):
        single: Any = answer_to(model, row)
        assert single["probabilities"] == prediction["probabilities"]


def test_another_model_is_served_without_a_code_change(save: Callable[..., Bundle]) -> None:
    """A wine model has its own 13 features, bounds and classes."""
    rows, labels = load_wine(return_X_y=True)
    forest = RandomForestClassifier(30, random_state=1).fit(rows, labels)
    model = Model.load(save(forest, rows, labels, minimum=-1, maximum=5000).directory, max_rows=200)
    names = model.manifest.contract.feature_names
    body = [dict(zip(names, row.tolist(), strict=True)) for row in rows]
    answer: Any = answer_to(model, body)
    predicted = [int(each["prediction"].removeprefix("class ")) for each in answer["predictions"]]
    assert predicted == forest.predict(rows).tolist()


def test_a_broken_bundle_is_not_loaded(model_dir: Path) -> None:
    """Loading a model verifies its bundle."""
    (model_dir / "manifest.json").unlink()
    with pytest.raises(BundleError):
        Model.load(model_dir, max_rows=1)
