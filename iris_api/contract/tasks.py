"""What comes out: the answers, made from probabilities, as JSON."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from typing_extensions import TypedDict

from iris_api.bundle.manifest import Probability  # noqa: TC001  # Pydantic asks for it
from iris_api.bundle.ordering import unique_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray


DECIMALS = 4
_ALL = [n / 10**DECIMALS for n in range(10**DECIMALS + 1)]
FIGURES = np.array(orjson.dumps(_ALL)[1:-1].split(b","), object)
"""Each probability that can be answered, as JSON."""
ROWS_AT_ONCE = 1000


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


class Outcome:
    """A request's rows and what became of them, as it is answered, counted and logged.

    What is asked of one row is worked out of one row: a small array costs more than its numbers.

    Args:
        rows: As the estimator saw them, shape (rows, features).
        given: Probabilities as the estimator gave them, shape (rows, classes).
        classes: The classes' names, in the columns' order.
        model_version: Version of the bundle that predicted them.
    """

    def __init__(
        self,
        rows: NDArray[np.floating[Any]],
        given: NDArray[np.floating[Any]],
        classes: tuple[str, ...],
        model_version: str,
    ) -> None:
        self.rows = rows
        self._given = given
        self.classes = classes
        self.model_version = model_version

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def labels(self) -> NDArray[np.intp]:
        """Index of each row's likeliest class: of equals the first, as in scikit-learn."""
        labels: NDArray[np.intp] = self._given.argmax(axis=1)
        return labels

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """As they are answered, shape (rows, classes).

        Raises:
            ArithmeticError: if one is no number: then the model can't be asked that.
        """
        rounded = self._given.astype(np.float64).round(DECIMALS)
        if not (rounded >= 0).all():
            raise ArithmeticError("the model gave a probability that is no number")
        return rounded

    @cached_property
    def steps(self) -> NDArray[np.intp]:
        """The same as whole numbers of steps of the last decimal: indices of `FIGURES`."""
        steps: NDArray[np.intp] = np.rint(self.probabilities * 10**DECIMALS).astype(np.intp)
        return steps

    @cached_property
    def first(self) -> Prediction:
        """The answer to the first row, rounded as NumPy does it."""
        given: list[float] = self._given[0].tolist()
        label = given.index(max(given))
        steps = 10**DECIMALS
        row = [round(one * steps) / steps for one in given]
        return {
            "prediction": self.classes[label],
            "confidence": row[label],
            "probabilities": dict(zip(self.classes, row)),
        }

    @cached_property
    def confidences(self) -> NDArray[np.float64]:
        """Probability of each row's class, shape (rows,)."""
        return self.probabilities[np.arange(len(self)), self.labels]

    def mean_confidence(self) -> float:
        """Mean of them, to four decimals."""
        if len(self) == 1:
            return self.first["confidence"]
        return round(float(self.confidences.mean()), DECIMALS)

    @cached_property
    def class_counts(self) -> list[int]:
        """Rows of each class."""
        counts: list[int] = np.bincount(self.labels, minlength=len(self.classes)).tolist()
        return counts


def single(found: Outcome, given: dict[str, float]) -> bytes:
    """A `SinglePrediction` as JSON."""
    made: SinglePrediction = {
        **found.first,
        "input": given,
        "model_version": found.model_version,
    }
    return orjson.dumps(made, option=orjson.OPT_APPEND_NEWLINE)


def batch(found: Outcome) -> bytes:
    """A `BatchPrediction` as JSON: what orjson would make of it, in less than half of the time."""
    answers = np.column_stack([found.labels, found.steps])
    written = _several(answers, found.classes) or _written(answers, found.classes)
    return b'{"predictions":[%b}}],"count":%d,"model_version":%b}\n' % (
        b"}},".join(written),
        len(written),
        orjson.dumps(found.model_version),
    )


def _several(answers: NDArray[np.intp], classes: tuple[str, ...]) -> list[bytes]:
    """The same as `_written`, which makes each answer once; nothing where few are the same."""
    if len(answers) < ROWS_AT_ONCE:
        return []
    first, places = unique_rows(answers, np.lexsort(answers.astype(np.uint16).T))
    if 2 * len(first) > len(answers):
        return []
    made: list[bytes] = np.array(_written(answers[first], classes), object)[places].tolist()
    return made


def _written(answers: NDArray[np.intp], classes: tuple[str, ...]) -> list[bytes]:
    """Each as JSON, but for its end. Rows are a label and the probabilities in steps.

    Of an answer only its figures differ. They are taken from a table of all there are, an array at
    a time: a dictionary for each costs more than ONNX Runtime does.
    """
    names = [orjson.dumps(name) for name in classes]
    heads = np.array([b'{"prediction":%b,"confidence":' % name for name in names], object)
    before = [b',"probabilities":{', *[b","] * (len(names) - 1)]
    pieces: list[bytes] = []
    for start in range(0, len(answers), ROWS_AT_ONCE):
        part = answers[start : start + ROWS_AT_ONCE]
        labels, figures = part[:, 0], part[:, 1:]
        cells = np.empty((len(part), 2 + 2 * len(names)), object)
        cells[:, 0] = heads[labels]
        cells[:, 1] = FIGURES[figures[np.arange(len(part)), labels]]
        for column, name in enumerate(names):
            cells[:, 2 + 2 * column] = before[column] + name + b":"
        cells[:, 3::2] = FIGURES[figures]
        pieces += map(b"".join, cells.tolist())
    return pieces
