"""Summaries of the training rows that a manifest keeps: the drift reference and a sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from iris_api.contract.reference import Histogram, Reference, Sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

BINS = 5
SAMPLE_ROWS = 150


def reference(rows: NDArray[Any], predicted: NDArray[Any], classes: int) -> Reference:
    """Histograms of the training rows in about five quantile bins, and rows per predicted class.

    Args:
        rows: Shape (rows, features).
        predicted: Index of the class that an estimator predicts which was not fitted on the row,
            shape (rows,). Live predictions are compared with these. Compared with the true classes,
            an estimator that favours one class would seem to drift at once.
        classes: Number of classes.
    """
    return Reference(
        features=tuple(_histogram(column) for column in rows.T),
        classes=tuple(np.bincount(predicted, minlength=classes).tolist()),
    )


def sample(rows: NDArray[Any], labels: NDArray[Any]) -> Sample:
    """Training rows to show beside a caller's own: all of them, or 150.

    The rows with the smallest and the largest value of each feature are among them, so that a
    reader sees the range of the training rows. The rest is drawn at random.

    Args:
        rows: Shape (rows, features).
        labels: Index of each row's class, shape (rows,).
    """
    extremes = np.unique([rows.argmin(axis=0), rows.argmax(axis=0)])[:SAMPLE_ROWS]
    others = np.setdiff1d(np.arange(len(rows)), extremes)
    count = min(len(rows), SAMPLE_ROWS) - len(extremes)
    rest = np.random.default_rng(0).choice(others, count, replace=False)
    chosen = np.sort(np.concatenate([extremes, rest]))
    return Sample(
        rows=tuple(map(tuple, rows[chosen].tolist())), classes=tuple(labels[chosen].tolist())
    )


def _histogram(column: NDArray[Any]) -> Histogram:
    """Edges lie midway between two observed values, so that rounding to float32 moves no row.

    A constant column has one bin and no edge, and therefore never drifts.
    """
    values = np.unique(column)
    quantiles = np.quantile(column, np.arange(1, BINS) / BINS)
    above = np.searchsorted(values, quantiles, side="right")
    # Where most rows share the largest value, the edge below it still tells them from the rest.
    above = np.unique(np.minimum(above, len(values) - 1))
    above = above[above > 0]
    edges = (values[above - 1] + values[above]) / 2
    bins = np.searchsorted(edges, column, side="right")
    counts = np.bincount(bins, minlength=len(edges) + 1)
    return Histogram(edges=tuple(edges.tolist()), counts=tuple(counts.tolist()))
