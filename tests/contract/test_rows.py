from __future__ import annotations

import numpy as np
import pytest

from iris_api.contract.rows import unique_rows


@pytest.mark.parametrize("values", [1, 10, 1_000_000])
@pytest.mark.parametrize("rows", [1, 2, 1000])
def test_the_inverse_index_restores_all_rows(rows: int, values: int) -> None:
    """Each distinct row is there once, and the inverse index restores the order."""
    array = np.random.default_rng(rows).integers(0, values, (rows, 2))
    first, inverse = unique_rows(array, np.lexsort(array.T))
    np.testing.assert_array_equal(array[first][inverse], array)
    assert len(first) == len(np.unique(array, axis=0))


def test_rows_with_nan_are_never_equal() -> None:
    """A row with NaN does not equal another row with NaN, so each is predicted."""
    array = np.array([[np.nan], [np.nan], [1.0]])
    first, inverse = unique_rows(array, np.array([2, 0, 1]))
    assert sorted(first.tolist()) == [0, 1, 2]
    assert first[inverse].tolist() == [0, 1, 2]
