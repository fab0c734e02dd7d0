from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC, LinearSVC

import train
from iris_api.contract.columns import FeatureSpec
from iris_api.contract.contract import Contract
from iris_api.errors import ExportError
from iris_api.training.export import export, random_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from iris_api.training.export import Export

ROWS, LABELS = load_iris(return_X_y=True)


def squared(rows: NDArray[Any]) -> NDArray[Any]:
    return rows**2


def test_the_same_training_gives_the_same_bytes() -> None:
    """Two fits of one recipe export to equal artefacts, so to one version."""

    def fitted() -> RandomForestClassifier:
        return RandomForestClassifier(10, random_state=42).fit(ROWS, LABELS)

    one, other = (export(fitted(), train.CONTRACT, rows=ROWS, name="iris") for _ in range(2))
    assert one == other


def test_exporting_leaves_the_estimator_as_it_was() -> None:
    """The pickle has the caller's parameters."""
    estimator = RandomForestClassifier(10, n_jobs=2).fit(ROWS, LABELS)
    export(estimator, train.CONTRACT, rows=ROWS, name="iris")
    assert estimator.n_jobs == 2


def leaf_weights(exported: Export) -> tuple[set[tuple[int, int]], list[float]]:
    """The leaves that have a weight, and all their weights."""
    (node,) = onnx.load_from_string(exported.artefacts[0].content).graph.node[:1]
    values = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    leaves = zip(values["class_treeids"], values["class_nodeids"], strict=True)
    return set(leaves), values["class_weights"]


def test_leaves_of_an_exported_forest_have_no_zero_weights() -> None:
    """Each leaf has one weight for each class of its training rows, and no other."""
    forest = RandomForestClassifier(10, random_state=42).fit(ROWS, LABELS)
    leaves, weights = leaf_weights(export(forest, train.CONTRACT, rows=ROWS, name="iris"))
    assert len(leaves) == sum(tree.get_n_leaves() for tree in forest.estimators_)
    assert len(weights) == sum(
        int((tree.tree_.value[tree.tree_.children_left < 0] > 0).sum())
        for tree in forest.estimators_
    )
    assert 0 not in weights


@pytest.mark.parametrize(
    "estimator",
    [
        make_pipeline(FunctionTransformer(squared), LogisticRegression(max_iter=5000)),
        KNeighborsClassifier(5, weights="distance"),
    ],
    ids=["no converter", "other probabilities"],
)
def test_without_an_equal_conversion_scikit_learn_serves(estimator: Any) -> None:
    """An estimator without a converter, or whose conversion differs, gets no ONNX artefact."""
    exported = export(estimator.fit(ROWS, LABELS), train.CONTRACT, rows=ROWS, name="iris")
    assert [file.runtime for file in exported.artefacts] == ["scikit-learn"]
    assert exported.refusal
    assert "\n" not in exported.refusal


class Contrary(LogisticRegression):
    """Predicts other classes than the most probable ones, as an SVC may."""

    def predict(self, X: NDArray[Any]) -> NDArray[Any]:  # noqa: N803 - scikit-learn's own name
        predicted: NDArray[Any] = super().predict(X)
        return np.roll(predicted, 1)


@pytest.mark.parametrize(
    ("estimator", "reason"),
    [
        (LinearSVC(), "has no predict_proba: wrap it"),
        (SVC(), "has no predict_proba: wrap it"),
        (Contrary(max_iter=500), "predicts other classes than its probabilities say"),
    ],
)
def test_an_estimator_without_usable_probabilities_is_refused(estimator: Any, reason: str) -> None:
    """The message says what to do about it."""
    with pytest.raises(ExportError, match=reason):
        export(estimator.fit(ROWS, LABELS), train.CONTRACT, rows=ROWS, name="iris")


def test_an_estimator_must_fit_its_contract() -> None:
    """It must have as many features and classes as the contract."""
    narrow = LogisticRegression(max_iter=500).fit(ROWS[:, :3], LABELS)
    with pytest.raises(ExportError, match="has 3 features and 3 classes, the contract has 4 and 3"):
        export(narrow, train.CONTRACT, rows=ROWS[:, :3], name="iris")


def test_training_rows_must_keep_the_contract() -> None:
    """A service whose bounds exclude training rows would refuse ordinary requests."""
    estimator = LogisticRegression(max_iter=500).fit(ROWS * 2, LABELS)
    with pytest.raises(
        ExportError, match=r"sepal_length is 8\.6 to 15\.8 in the training rows, 0 to"
    ):
        export(estimator, train.CONTRACT, rows=ROWS * 2, name="iris")


def test_an_estimator_that_was_fitted_on_a_data_frame_is_refused() -> None:
    """It selects columns by name, and a server has no pandas."""
    estimator = LogisticRegression(max_iter=500).fit(ROWS, LABELS)
    estimator.feature_names_in_ = np.array(["a", "b", "c", "d"])
    with pytest.raises(ExportError, match="fit the estimator on an array"):
        export(estimator, train.CONTRACT, rows=ROWS, name="iris")


def test_swapped_classes_are_refused() -> None:
    """Text classes of the estimator must equal those of the contract, in the same order."""
    names = np.array(["virginica", "setosa", "versicolor"])[LABELS]
    estimator = LogisticRegression(max_iter=500).fit(ROWS, names)
    named = export(estimator, train.CONTRACT, rows=ROWS, name="iris")
    assert named.golden.rows
    swapped = train.CONTRACT.model_copy(update={"classes": train.CONTRACT.classes[::-1]})
    with pytest.raises(ExportError, match="classes are setosa, versicolor, virginica"):
        export(estimator, swapped, rows=ROWS, name="iris")


def test_golden_rows_are_training_rows_and_random_rows() -> None:
    """Their values are not rounded, and the probabilities are the estimator's own."""
    estimator = RandomForestClassifier(10, random_state=1).fit(ROWS, LABELS)
    golden = export(estimator, train.CONTRACT, rows=ROWS, name="iris").golden
    rows = np.array(golden.rows)
    assert len(rows) == 40
    assert (rows[:20, None] == ROWS[None]).all(axis=2).any(axis=1).all()
    np.testing.assert_array_equal(estimator.predict_proba(rows), golden.probabilities)


def test_random_rows_keep_bounds_and_types() -> None:
    """Without a bound, values reach one data range beyond the rows; integers stay whole."""
    contract = Contract(
        features=(
            FeatureSpec(name="closed", minimum=0, maximum=1, example=0),
            FeatureSpec(name="open", example=0),
            FeatureSpec(name="whole", type="int", minimum=0, maximum=9, example=0),
        ),
        classes=("a", "b"),
    )
    drawn = random_rows(contract, np.array([[0.0, 10.0, 1.0], [1.0, 20.0, 2.0]]), 2000)
    assert (drawn.min(axis=0) >= [0, 0, 0]).all()
    assert (drawn.max(axis=0) <= [1, 30, 9]).all()
    assert drawn[:, 1].max() > 25
    np.testing.assert_array_equal(drawn[:, 2], drawn[:, 2].round())
