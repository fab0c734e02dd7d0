"""Rows that are equal, of which one is enough."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def unique_rows(
    rows: NDArray[Any], order: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The first of equal rows, and for each row which of those it is.

    Args:
        rows: Shape (rows, anything).
        order: An order in which equal ones stand together, shape (rows,). Those that do not are
            taken for different.

    Returns:
        Indices of rows, in this order, and indices of these: `rows[first][places]` is `rows`.
    """
    ordered = rows[order]
    is_first = np.ones(len(rows), np.bool_)
    np.any(ordered[1:] != ordered[:-1], axis=1, out=is_first[1:])
    places = np.empty(len(rows), np.intp)
    places[order] = np.cumsum(is_first) - 1
    return order[is_first], places
