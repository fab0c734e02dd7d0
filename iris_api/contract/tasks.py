"""The outcome of a prediction: labels, confidences and probabilities."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import TypedDict

from .base import Probability  # noqa: TC001  # Pydantic evaluates the annotation.

if TYPE_CHECKING:
    from numpy.typing import NDArray

DECIMALS = 4
STEPS = 10**DECIMALS


class Prediction(TypedDict):
    """The answer to one row. Confidence and probabilities are rounded to 4 decimals."""

    prediction: str
    confidence: Probability
    probabilities: dict[str, Probability]


class Outcome:
    """The rows of a request and their predictions, as they are answered, counted and logged.

    Properties are computed when they are first used. A single row has its own way, because a small
    array costs more than its numbers.

    Args:
        rows: The rows as the estimator saw them, shape (rows, features).
        raw: Probabilities as the estimator gave them, shape (rows, classes).
        classes: The classes' names, in the order of the columns of `raw`.
        model_version: Version of the bundle that predicted.
    """

    def __init__(
        self,
        rows: NDArray[np.floating[Any]],
        raw: NDArray[np.floating[Any]],
        classes: tuple[str, ...],
        model_version: str,
    ) -> None:
        self.rows = rows
        self._raw = raw
        self.classes = classes
        self.model_version = model_version

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def labels(self) -> NDArray[np.intp]:
        """Index of each row's most probable class; the first one at a tie, as in scikit-learn."""
        labels: NDArray[np.intp] = self._raw.argmax(axis=1)
        return labels

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """Rounded probabilities, shape (rows, classes).

        Raises:
            ArithmeticError: if one is NaN or negative, so that no wrong answer is sent.
        """
        rounded = self._raw.astype(np.float64).round(DECIMALS)
        if not (rounded >= 0).all():
            raise ArithmeticError("the model gave a probability that is no number")
        return rounded

    @cached_property
    def steps(self) -> NDArray[np.intp]:
        """Rounded probabilities as whole multiples of 0.0001, shape (rows, classes)."""
        steps: NDArray[np.intp] = np.rint(self.probabilities * STEPS).astype(np.intp)
        return steps

    @cached_property
    def first(self) -> Prediction:
        """The prediction of the first row, rounded as NumPy rounds."""
        raw: list[float] = self._raw[0].tolist()
        label = raw.index(max(raw))
        rounded = [round(value * STEPS) / STEPS for value in raw]
        return {
            "prediction": self.classes[label],
            "confidence": rounded[label],
            "probabilities": dict(zip(self.classes, rounded)),
        }

    @cached_property
    def confidences(self) -> NDArray[np.float64]:
        """Probability of each row's predicted class, shape (rows,)."""
        return self.probabilities[np.arange(len(self)), self.labels]

    def mean_confidence(self) -> float:
        """Mean of the confidences, rounded to 4 decimals."""
        if len(self) == 1:
            return self.first["confidence"]
        return round(float(self.confidences.mean()), DECIMALS)

    @cached_property
    def class_counts(self) -> list[int]:
        """Number of rows predicted as each class."""
        counts: list[int] = np.bincount(self.labels, minlength=len(self.classes)).tolist()
        return counts
