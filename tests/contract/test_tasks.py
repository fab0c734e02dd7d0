from __future__ import annotations

import numpy as np
import pytest

from iris_api.contract.tasks import Outcome


def test_the_first_of_equal_probabilities_is_the_label() -> None:
    """Ties are resolved as in scikit-learn, and confidences are rounded to four decimals."""
    raw = np.array([[0.5, 0.5], [0.33333, 0.66667]])
    outcome = Outcome(np.zeros((2, 1)), raw, ("a", "b"), "v1")
    assert outcome.labels.tolist() == [0, 1]
    assert outcome.confidences.tolist() == [0.5, 0.6667]
    assert outcome.class_counts == [1, 1]


@pytest.mark.parametrize("rows", [1, 3, 3000])
def test_a_probability_of_nan_is_an_error(rows: int) -> None:
    """A linear model may give NaN for inputs of 1e38."""
    outcome = Outcome(np.zeros((rows, 1)), np.full((rows, 2), np.nan), ("a", "b"), "v")
    with pytest.raises(ArithmeticError):
        _ = outcome.probabilities
