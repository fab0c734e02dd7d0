"""What comes out: the answers, made from probabilities.

They are typed dictionaries: for a batch, objects would cost as much as predicting does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import TypedDict

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Prediction(TypedDict):
    """One row's answer. Confidence and probabilities are rounded to 4 decimals."""

    prediction: str
    confidence: float
    probabilities: dict[str, float]


class SinglePrediction(Prediction):
    """The answer to one object, with the input as it was understood."""

    input: dict[str, float]
    model_version: str


class BatchPrediction(TypedDict):
    """The answers to an array, in its order."""

    predictions: list[Prediction]
    count: int
    model_version: str


def predictions(
    probabilities: NDArray[np.floating[Any]], classes: tuple[str, ...]
) -> list[Prediction]:
    """Name the likeliest class of each row; the first of equals wins, as in scikit-learn.

    Args:
        probabilities: Shape (rows, classes).
        classes: The classes' names, in the columns' order.
    """
    # No strict zip in the loop: the golden rows have shown the shapes, and it costs a third more.
    labels = probabilities.argmax(axis=1).tolist()
    rounded = probabilities.astype(np.float64).round(4).tolist()
    return [
        {
            "prediction": classes[label],
            "confidence": row[label],
            "probabilities": dict(zip(classes, row)),
        }
        for label, row in zip(labels, rounded)
    ]
