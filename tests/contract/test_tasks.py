from __future__ import annotations

import json

import numpy as np
import orjson
import pytest

from iris_api.contract.tasks import ROWS_AT_ONCE, Outcome
from iris_api.dialects.native import batch, single

RNG = np.random.default_rng(3)


def test_the_first_of_equal_probabilities_is_the_label() -> None:
    """As in scikit-learn; and figures are rounded to four places, as doubles."""
    rows = np.zeros((2, 1))
    given = np.array([[0.5, 0.5], [0.33333, 0.66667]])
    found = Outcome(rows, given, ("a", "b"), "v1")
    assert json.loads(batch(found)) == {
        "predictions": [
            {"prediction": "a", "confidence": 0.5, "probabilities": {"a": 0.5, "b": 0.5}},
            {"prediction": "b", "confidence": 0.6667, "probabilities": {"a": 0.3333, "b": 0.6667}},
        ],
        "count": 2,
        "model_version": "v1",
    }
    assert found.labels.tolist() == [0, 1]
    assert found.confidences.tolist() == [0.5, 0.6667]
    assert found.class_counts == [1, 1]


def rows_of(found: Outcome) -> list[Outcome]:
    """Each row for itself."""
    return [
        Outcome(found.rows[n : n + 1], found.probabilities[n : n + 1], found.classes, "v")
        for n in range(len(found))
    ]


def test_what_is_answered_to_several_rows_is_the_same_each_time() -> None:
    """A large batch of few answers is what its rows say, too, in their order."""
    some = RNG.dirichlet([0.3] * 3, 40)
    found = Outcome(np.zeros((3000, 1)), some[RNG.integers(0, 40, 3000)], ("a", "b", "c"), "v")
    answers = [orjson.loads(single(row, {})) for row in rows_of(found)]
    kept = ("prediction", "confidence", "probabilities")
    expected = [{name: answer[name] for name in kept} for answer in answers]
    assert json.loads(batch(found))["predictions"] == expected


@pytest.mark.parametrize("rows", [1, 3, 3000])
def test_a_probability_that_is_no_number_is_never_answered(rows: int) -> None:
    """As a linear model may give for inputs of 1e38: it would be counted, too."""
    found = Outcome(np.zeros((rows, 1)), np.full((rows, 2), np.nan), ("a", "b"), "v")
    with pytest.raises(ArithmeticError):
        batch(found)
    with pytest.raises(ArithmeticError):
        _ = found.probabilities
    with pytest.raises(ValueError, match="NaN"):
        single(found, {})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [("a", "b"), ('"', "\\%b", "ü\u202e", "</script>")])
@pytest.mark.parametrize("rows", [1, 2, ROWS_AT_ONCE, ROWS_AT_ONCE + 1])
def test_a_batch_says_what_its_rows_say(rows: int, classes: tuple[str, ...], dtype: type) -> None:
    """Byte for byte what orjson makes of the same; ties, zeros and ones among them."""
    given = RNG.dirichlet([0.3] * len(classes), rows)
    given[::7] = 1 / len(classes)
    given[::5] = np.eye(len(classes))[0]
    found = Outcome(np.zeros((rows, 1)), given.astype(dtype), classes, "v")
    answers = [orjson.loads(single(row, {"x": 0.0})) for row in rows_of(found)]
    for answer in answers:
        assert answer.pop("input") == {"x": 0.0}
        assert answer.pop("model_version") == "v"
    whole = {"predictions": answers, "count": rows, "model_version": "v"}
    assert batch(found) == orjson.dumps(whole, option=orjson.OPT_APPEND_NEWLINE)
