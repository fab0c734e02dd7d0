from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_iris

from iris_api.training.reference import SAMPLE_ROWS, reference, sample

ROWS, LABELS = load_iris(return_X_y=True)


def test_the_reference_counts_every_training_row() -> None:
    """A feature has about five bins, and each row is in one of them."""
    counts = reference(ROWS, LABELS, 3)
    assert counts.classes == (50, 50, 50)
    for histogram in counts.features:
        assert sum(histogram.counts) == len(ROWS)
        assert 4 <= len(histogram.counts) <= 5
        assert min(histogram.counts) > 0


def test_no_training_row_changes_its_bin_by_rounding_to_float32() -> None:
    """Edges lie between two observed values, never on one."""
    for column, histogram in zip(ROWS.T, reference(ROWS, LABELS, 3).features, strict=True):
        exact = np.searchsorted(histogram.edges, column, side="right")
        rounded = np.searchsorted(histogram.edges, column.astype(np.float32), side="right")
        np.testing.assert_array_equal(exact, rounded)


def test_a_constant_feature_has_one_bin() -> None:
    """There is no edge between its values."""
    counts = reference(np.full((10, 1), 3.0), np.zeros(10, dtype=int), 2)
    assert counts.features[0].edges == ()
    assert counts.features[0].counts == (10,)
    assert counts.classes == (10, 0)


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
    """Without it, a flag that is mostly set could never drift."""
    rows = np.array(column, float)[:, None]
    (histogram,) = reference(rows, np.zeros(100, int), 2).features
    assert histogram.edges == edges


def test_a_sample_has_whole_rows_with_their_classes() -> None:
    """It has all rows of a small set in their order, and 150 of a large one, always the same."""
    assert sample(ROWS, LABELS).rows == tuple(map(tuple, ROWS.tolist()))
    assert sample(ROWS, LABELS).classes == tuple(LABELS.tolist())
    rows = np.arange(2000.0).reshape(1000, 2)
    drawn = sample(rows, rows[:, 0].astype(int))
    assert len(set(drawn.rows)) == SAMPLE_ROWS
    assert [row[0] for row in drawn.rows] == list(drawn.classes)
    assert drawn == sample(rows, rows[:, 0].astype(int))


def test_a_sample_has_the_extremes_of_each_feature() -> None:
    """It does not exceed 150 rows, even if more rows are extreme."""
    rows = np.random.default_rng(1).normal(size=(1000, 4))
    chosen = np.array(sample(rows, np.zeros(1000, int)).rows)
    assert (chosen.min(axis=0) == rows.min(axis=0)).all()
    assert (chosen.max(axis=0) == rows.max(axis=0)).all()
    wide = np.random.default_rng(1).normal(size=(1000, 100))
    assert len(sample(wide, np.zeros(1000, int)).rows) == SAMPLE_ROWS
