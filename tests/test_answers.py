from __future__ import annotations

import numpy as np

from iris_api.answers import predictions


def test_the_first_of_equal_probabilities_is_the_label() -> None:
    """As in scikit-learn; and figures are rounded to four places, as doubles."""
    given = np.array([[0.4, 0.4, 0.2], [0.1, 0.12344, 0.77656]], dtype=np.float32)
    first, second = predictions(given, ("a", "b", "c"))
    assert (first["prediction"], first["confidence"]) == ("a", 0.4)
    assert (second["prediction"], second["confidence"]) == ("c", 0.7766)
    assert second["probabilities"] == {"a": 0.1, "b": 0.1234, "c": 0.7766}
