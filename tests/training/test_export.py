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
from iris_api.training.convert import drop_zero_weights
from iris_api.training.export import export, random_rows
from iris_api.training.reference import SAMPLE_ROWS, reference, sample

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
    """The caller's parameters are pickled, not ours."""
    estimator = RandomForestClassifier(10, n_jobs=2).fit(ROWS, LABELS)
    export(estimator, train.CONTRACT, rows=ROWS, name="iris")
    assert estimator.n_jobs == 2


def leaf_weights(exported: Export) -> tuple[set[tuple[int, int]], list[float]]:
    """The leaves that have a weight, and all their weights."""
    (node,) = onnx.load_from_string(exported.artefacts[0].content).graph.node[:1]
    held = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
    leaves = zip(held["class_treeids"], held["class_nodeids"], strict=True)
    return set(leaves), held["class_weights"]


def test_a_forest_adds_up_no_zeros() -> None:
    """Each leaf has a weight for each class that was in it, and none for others."""
    forest = RandomForestClassifier(10, random_state=42).fit(ROWS, LABELS)
    leaves, weights = leaf_weights(export(forest, train.CONTRACT, rows=ROWS, name="iris"))
    assert len(leaves) == sum(tree.get_n_leaves() for tree in forest.estimators_)
    assert len(weights) == sum(
        int((tree.tree_.value[tree.tree_.children_left < 0] > 0).sum())
        for tree in forest.estimators_
    )
    assert 0 not in weights


def test_a_leaf_that_has_no_other_weight_keeps_its_zero() -> None:
    """ONNX Runtime has to find something in each leaf."""
    ensemble = onnx.helper.make_node(
        "TreeEnsembleClassifier",
        ["rows"],
        ["labels", "probabilities"],
        class_treeids=[0, 0, 0, 1],
        class_nodeids=[1, 1, 2, 0],
        class_ids=[0, 1, 0, 0],
        class_weights=[0.0, 0.5, 0.25, 0.0],
    )
    drop_zero_weights(ensemble)
    left = {one.name: onnx.helper.get_attribute_value(one) for one in ensemble.attribute}
    assert left == {
        "class_treeids": [0, 0, 1],
        "class_nodeids": [1, 2, 0],
        "class_ids": [1, 0, 0],
        "class_weights": [0.5, 0.25, 0.0],
    }


@pytest.mark.parametrize(
    "estimator",
    [
        make_pipeline(FunctionTransformer(squared), LogisticRegression(max_iter=5000)),
        KNeighborsClassifier(5, weights="distance"),
    ],
    ids=["converts not", "agrees not"],
)
def test_what_onnx_can_not_do_exactly_is_left_to_scikit_learn(estimator: Any) -> None:
    """A step without a converter, or a conversion that answers otherwise, is no ONNX artefact."""
    exported = export(estimator.fit(ROWS, LABELS), train.CONTRACT, rows=ROWS, name="iris")
    assert [file.runtime for file in exported.artefacts] == ["scikit-learn"]
    assert exported.refusal
    assert "\n" not in exported.refusal


class Contrary(LogisticRegression):
    """Predicts another class than its probabilities say, as an SVC may."""

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
def test_an_estimator_whose_probabilities_can_not_be_served_is_refused(
    estimator: Any, reason: str
) -> None:
    """The refusal names the mend."""
    with pytest.raises(ExportError, match=reason):
        export(estimator.fit(ROWS, LABELS), train.CONTRACT, rows=ROWS, name="iris")


def test_an_estimator_must_fit_its_contract() -> None:
    """Features and classes are counted on both sides."""
    narrow = LogisticRegression(max_iter=500).fit(ROWS[:, :3], LABELS)
    with pytest.raises(ExportError, match="has 3 features and 3 classes, the contract has 4 and 3"):
        export(narrow, train.CONTRACT, rows=ROWS[:, :3], name="iris")


def test_training_rows_must_keep_the_contract() -> None:
    """Bounds that the model's own rows break would refuse its own users."""
    estimator = LogisticRegression(max_iter=500).fit(ROWS * 2, LABELS)
    with pytest.raises(
        ExportError, match=r"sepal_length is 8\.6 to 15\.8 in the training rows, 0 to"
    ):
        export(estimator, train.CONTRACT, rows=ROWS * 2, name="iris")


def test_an_estimator_that_was_fitted_on_a_data_frame_is_refused() -> None:
    """Serving has no pandas, and columns by name need it."""
    estimator = LogisticRegression(max_iter=500).fit(ROWS, LABELS)
    estimator.feature_names_in_ = np.array(["a", "b", "c", "d"])
    with pytest.raises(ExportError, match="fit the estimator on an array"):
        export(estimator, train.CONTRACT, rows=ROWS, name="iris")


def test_swapped_classes_are_refused() -> None:
    """Names that the estimator knows itself must be the contract's, in its order."""
    names = np.array(["virginica", "setosa", "versicolor"])[LABELS]
    estimator = LogisticRegression(max_iter=500).fit(ROWS, names)
    named = export(estimator, train.CONTRACT, rows=ROWS, name="iris")
    assert named.golden.rows
    swapped = train.CONTRACT.model_copy(update={"classes": train.CONTRACT.classes[::-1]})
    with pytest.raises(ExportError, match="classes are setosa, versicolor, virginica"):
        export(estimator, swapped, rows=ROWS, name="iris")


def test_golden_rows_are_among_those_that_were_compared() -> None:
    """Training rows and random ones, unrounded, with the estimator's own probabilities."""
    estimator = RandomForestClassifier(10, random_state=1).fit(ROWS, LABELS)
    golden = export(estimator, train.CONTRACT, rows=ROWS, name="iris").golden
    rows = np.array(golden.rows)
    assert len(rows) == 40
    assert (rows[:20, None] == ROWS[None]).all(axis=2).any(axis=1).all()
    np.testing.assert_array_equal(estimator.predict_proba(rows), golden.probabilities)


def test_random_rows_keep_bounds_and_types() -> None:
    """A closed bound is kept; an open one reaches one data range beyond; an int stays whole."""
    contract = Contract(
        features=(
            FeatureSpec(name="closed", minimum=0, maximum=1, example=0),
            FeatureSpec(name="open", example=0),
            FeatureSpec(name="whole", type="int", minimum=0, maximum=9, example=0),
        ),
        classes=("a", "b"),
    )
    made = random_rows(contract, np.array([[0.0, 10.0, 1.0], [1.0, 20.0, 2.0]]), 2000)
    assert (made.min(axis=0) >= [0, 0, 0]).all()
    assert (made.max(axis=0) <= [1, 30, 9]).all()
    assert made[:, 1].max() > 25
    np.testing.assert_array_equal(made[:, 2], made[:, 2].round())


def test_the_reference_counts_every_training_row() -> None:
    """About five bins a feature, each row in one of them, and all classes counted."""
    made = reference(ROWS, LABELS, 3)
    assert made.classes == (50, 50, 50)
    for histogram in made.features:
        assert sum(histogram.counts) == len(ROWS)
        assert 4 <= len(histogram.counts) <= 5
        assert min(histogram.counts) > 0


def test_no_training_row_changes_its_bin_by_rounding_to_float32() -> None:
    """Edges lie between observed values, never on one."""
    for column, histogram in zip(ROWS.T, reference(ROWS, LABELS, 3).features, strict=True):
        as_given = np.searchsorted(histogram.edges, column, side="right")
        as_served = np.searchsorted(histogram.edges, column.astype(np.float32), side="right")
        np.testing.assert_array_equal(as_given, as_served)


def test_a_constant_feature_has_one_bin() -> None:
    """There is nothing to part."""
    made = reference(np.full((10, 1), 3.0), np.zeros(10, dtype=int), 2)
    assert made.features[0].edges == ()
    assert made.features[0].counts == (10,)
    assert made.classes == (10, 0)


@pytest.mark.parametrize(
    ("column", "edges"),
    [
        ([0] * 10 + [1] * 90, (0.5,)),
        ([0] * 90 + [1] * 10, (0.5,)),
        ([0] * 50 + [1] * 50, (0.5,)),
        ([3] * 100, ()),
    ],
)
def test_a_feature_of_few_values_keeps_an_edge_between_them(
    column: list[int], edges: tuple[float, ...]
) -> None:
    """Or a flag that is mostly set could never be seen to drift."""
    rows = np.array(column, float)[:, None]
    (histogram,) = reference(rows, np.zeros(100, int), 2).features
    assert histogram.edges == edges


def test_a_sample_is_whole_rows_with_their_classes() -> None:
    """All of a small set in its order, and at most 150 of a large one, the same each time."""
    assert sample(ROWS, LABELS).rows == tuple(map(tuple, ROWS.tolist()))
    assert sample(ROWS, LABELS).classes == tuple(LABELS.tolist())
    rows = np.arange(2000.0).reshape(1000, 2)
    some = sample(rows, rows[:, 0].astype(int))
    assert len(set(some.rows)) == SAMPLE_ROWS
    assert [row[0] for row in some.rows] == list(some.classes)
    assert some == sample(rows, rows[:, 0].astype(int))


def test_a_sample_reaches_as_far_as_the_rows() -> None:
    """In each feature; if there are too many features for that, it is no larger for it."""
    rows = np.random.default_rng(1).normal(size=(1000, 4))
    shown = np.array(sample(rows, np.zeros(1000, int)).rows)
    assert (shown.min(axis=0) == rows.min(axis=0)).all()
    assert (shown.max(axis=0) == rows.max(axis=0)).all()
    wide = np.random.default_rng(1).normal(size=(1000, 100))
    assert len(sample(wide, np.zeros(1000, int)).rows) == SAMPLE_ROWS
