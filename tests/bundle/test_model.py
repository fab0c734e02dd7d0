from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier

from iris_api.bundle.model import MANY, MAX_SORTED_FEATURES, Model
from iris_api.errors import BundleError
from tests.conftest import FLOWER

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from iris_api.bundle.store import Bundle


@pytest.fixture(scope="module")
def model(trained: Path) -> Model:
    """The shipped model."""
    return Model.load(trained, max_rows=100)


def answered(model: Model, body: Any) -> Any:
    """What the model answers to a JSON body."""
    return json.loads(model.answer(json.dumps(body).encode())[0])


def test_one_object_has_one_answer_with_its_input(
    model: Model, forest: RandomForestClassifier
) -> None:
    """Class, confidence and probabilities are the estimator's, to four places."""
    answer: Any = answered(model, FLOWER)
    expected = forest.predict_proba([list(FLOWER.values())])[0]
    assert list(answer["probabilities"].values()) == expected.round(4).tolist()
    assert answer["prediction"] == ("setosa", "versicolor", "virginica")[expected.argmax()]
    assert answer["confidence"] == max(answer["probabilities"].values())
    assert (answer["input"], answer["model_version"]) == (FLOWER, model.version)


def test_a_batch_is_answered_in_its_order(model: Model) -> None:
    """Row by row the same as asked singly."""
    rows = [dict(zip(FLOWER, values, strict=True)) for values in np.eye(4) * 7 + 1]
    answer: Any = answered(model, rows)
    assert answer["count"] == 4
    for row, given in zip(rows, answer["predictions"], strict=True):
        single: Any = answered(model, row)
        assert single["probabilities"] == given["probabilities"]


def test_another_bundle_is_served_without_a_change(save: Callable[..., Bundle]) -> None:
    """13 features of wine: its names, its bounds, its classes."""
    rows, labels = load_wine(return_X_y=True)
    forest = RandomForestClassifier(30, random_state=1).fit(rows, labels)
    model = Model.load(save(forest, rows, labels, minimum=-1, maximum=5000).directory, max_rows=200)
    names = model.manifest.contract.feature_names
    body = [dict(zip(names, row.tolist(), strict=True)) for row in rows]
    answer: Any = answered(model, body)
    predicted = [int(given["prediction"].removeprefix("class ")) for given in answer["predictions"]]
    assert predicted == forest.predict(rows).tolist()


def test_a_model_that_can_not_be_trusted_is_not_loaded(model_dir: Path) -> None:
    """Loading is verifying."""
    (model_dir / "manifest.json").unlink()
    with pytest.raises(BundleError):
        Model.load(model_dir, max_rows=1)


@pytest.mark.parametrize(("features", "sorts"), [(MAX_SORTED_FEATURES, True), (13, False)])
def test_only_narrow_rows_are_sorted(model: Model, features: int, *, sorts: bool) -> None:
    """Wide ones reach the runtime as they came: to sort them would cost more than it saves."""
    seen: list[Any] = []

    def predict(rows: Any) -> Any:
        seen.append(rows)
        return np.zeros((len(rows), 3), np.float32)

    patched = replace(model, runtime=SimpleNamespace(probabilities=predict))
    rows = np.random.default_rng(6).uniform(0, 10, (MANY, features)).astype(np.float32)
    patched.probabilities(rows)
    assert (seen[0].tolist() != rows.tolist()) is sorts
    assert sorted(seen[0].tolist()) == sorted(rows.tolist())


def test_many_rows_are_answered_in_their_order(model: Model) -> None:
    """Like ones are predicted together; each has the answer that it has alone."""
    rows = np.random.default_rng(5).uniform(0, 10, (MANY + 1, 4)).astype(np.float32)
    rows[::9] = rows[0]
    alone = [model.runtime.probabilities(row[None])[0] for row in rows]
    np.testing.assert_array_equal(model.probabilities(rows), alone)
