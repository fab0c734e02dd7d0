from __future__ import annotations

import numpy as np
import pytest

from iris_api.contract.rows import unique_rows


@pytest.mark.parametrize("rows", [1, 2, 50])
@pytest.mark.parametrize("values", [1, 3, 1000])
def test_each_is_there_once_and_every_row_finds_its_own(rows: int, values: int) -> None:
    """Whether all are alike, some, or hardly any."""
    given = np.random.default_rng(rows).integers(0, values, (rows, 2))
    first, places = unique_rows(given, np.lexsort(given.T))
    np.testing.assert_array_equal(given[first][places], given)
    assert len(first) == len(np.unique(given, axis=0))


def test_what_is_no_number_is_like_nothing() -> None:
    """Not even like another: each has its own prediction."""
    given = np.array([[np.nan], [np.nan], [1.0]])
    first, places = unique_rows(given, np.array([2, 0, 1]))
    assert sorted(first.tolist()) == [0, 1, 2]
    assert first[places].tolist() == [0, 1, 2]
