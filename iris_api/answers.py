"""What comes out: the answers, made from probabilities.

They are typed dictionaries: for a batch, objects would cost as much as predicting does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import TypedDict

from .manifest import Probability  # noqa: TC001  # Pydantic asks for it

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Prediction(TypedDict):
    """One row's answer. Confidence and probabilities are rounded to 4 decimals."""

    prediction: str
    confidence: Probability
    probabilities: dict[str, Probability]


class SinglePrediction(Prediction):
    """The answer to one object, with the input as it was understood."""

    input: dict[str, float]
    model_version: str


class BatchPrediction(TypedDict):
    """The answers to an array, in its order."""

    predictions: list[Prediction]
    count: int
    model_version: str


@dataclass(eq=False)
class Outcome:
    """A request's rows and what became of them, as it is counted and logged.

    It holds arrays, and of the answers only the first: ten thousand would outlive their response.
    """

    rows: NDArray[np.floating[Any]]
    """As the estimator saw them, shape (rows, features)."""
    labels: NDArray[np.intp]
    """Index of each row's class, shape (rows,)."""
    probabilities: NDArray[np.float64]
    """As they are answered, shape (rows, classes)."""
    first: Prediction
    model_version: str
    classes: tuple[str, ...]
    """Names of the classes, in the order of the labels' indices."""

    @cached_property
    def confidences(self) -> NDArray[np.float64]:
        """Probability of each row's class, shape (rows,)."""
        return self.probabilities[np.arange(len(self.labels)), self.labels]

    def mean_confidence(self) -> float:
        """Mean of them, to four decimals."""
        if len(self.labels) == 1:
            return self.first["confidence"]
        return round(float(self.confidences.mean()), 4)

    @cached_property
    def class_counts(self) -> list[int]:
        """Rows of each class."""
        counts: list[int] = np.bincount(self.labels, minlength=len(self.classes)).tolist()
        return counts


def outcome(
    rows: NDArray[np.floating[Any]],
    probabilities: NDArray[np.floating[Any]],
    classes: tuple[str, ...],
    model_version: str,
) -> tuple[list[Prediction], Outcome]:
    """Name the likeliest class of each row; the first of equals wins, as in scikit-learn.

    Args:
        rows: Shape (rows, features).
        probabilities: Shape (rows, classes).
        classes: The classes' names, in the columns' order.
        model_version: Version of the bundle that predicted them.

    Returns:
        The answer to each row, and the outcome of all.
    """
    # No strict zip in the loop: the golden rows have shown the shapes, and it costs a third more.
    labels = _likeliest(probabilities)
    rounded = probabilities.astype(np.float64).round(4)
    made: list[Prediction] = [
        {
            "prediction": classes[label],
            "confidence": row[label],
            "probabilities": dict(zip(classes, row)),
        }
        for label, row in zip(labels.tolist(), rounded.tolist())
    ]
    return made, Outcome(rows, labels, rounded, made[0], model_version, classes)


def _likeliest(probabilities: NDArray[np.floating[Any]]) -> NDArray[np.intp]:
    """Index of the first of the largest in each row."""
    if len(probabilities) > 1:
        labels: NDArray[np.intp] = probabilities.argmax(axis=1)
        return labels
    # NumPy lets go of the interpreter for it, which wakes a thread that then waits all the same.
    row = probabilities[0].tolist()
    return np.array([row.index(max(row))])
