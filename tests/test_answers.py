from __future__ import annotations

import numpy as np

from iris_api.answers import outcome


def test_the_first_of_equal_probabilities_is_the_label() -> None:
    """As in scikit-learn; and figures are rounded to four places, as doubles."""
    rows = np.zeros((2, 1))
    given = np.array([[0.5, 0.5], [0.33333, 0.66667]])
    made, found = outcome(rows, given, ("a", "b"), "v1")
    assert made == [
        {"prediction": "a", "confidence": 0.5, "probabilities": {"a": 0.5, "b": 0.5}},
        {"prediction": "b", "confidence": 0.6667, "probabilities": {"a": 0.3333, "b": 0.6667}},
    ]
    assert found.first == made[0]
    assert found.labels.tolist() == [0, 1]
    assert found.confidences.tolist() == [0.5, 0.6667]
    assert found.class_counts == [1, 1]
