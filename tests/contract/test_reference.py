from __future__ import annotations

import pytest
from pydantic import ValidationError

from iris_api.contract.reference import Histogram


@pytest.mark.parametrize(
    ("edges", "counts"), [((1.0,), (1,)), ((2.0, 1.0), (1, 1, 1)), ((1.0, 1.0), (1, 1, 1))]
)
def test_a_histogram_has_increasing_edges_between_its_counts(
    edges: tuple[float, ...], counts: tuple[int, ...]
) -> None:
    """There is one more count than there are edges, and no edge occurs twice."""
    with pytest.raises(ValidationError):
        Histogram(edges=edges, counts=counts)
