"""The model as it serves: a bundle, its runtime and its request schema, loaded as one."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from iris_api.bundle.ordering import unique_rows
from iris_api.bundle.runtimes import load_predictor
from iris_api.bundle.store import Bundle
from iris_api.contract.rows import RequestSchema
from iris_api.contract.tasks import Outcome, batch, single

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from iris_api.bundle.manifest import Manifest
    from iris_api.bundle.runtimes import Predictor
    from iris_api.contract.rows import Row


MANY = 200
"""Rows from which on it pays to put like ones together."""
MAX_SORTED_FEATURES = 8
"""With sixteen, to sort by all of them costs more than a forest of 100 trees saves by it."""
UPPER = int(sys.byteorder == "little")
"""Which half of a float32 has its sign, its exponent and the first seven bits of its fraction."""
FINER_BITS = 5
"""Bits of that half that are left out to tell which rows are roughly alike: two of the fraction
stay, so that 4 and 4.9 are, and 5 is not."""


@dataclass(frozen=True, slots=True)
class Model:
    """All that a request needs of one version. It never changes: a new version is a new Model."""

    manifest: Manifest
    runtime: Predictor
    schema: RequestSchema

    @classmethod
    def load(cls, directory: Path, *, max_rows: int) -> Self:
        """Load and verify the bundle, and replay its golden rows.

        Raises:
            BundleError: with what is wrong and how to mend it.
        """
        return cls.of(Bundle.load(directory), max_rows=max_rows)

    @classmethod
    def of(cls, bundle: Bundle, *, max_rows: int) -> Self:
        """Open a bundle that was verified, and replay its golden rows.

        Raises:
            BundleError: as `load` does.
        """
        schema = RequestSchema(bundle.manifest.contract, max_rows=max_rows)
        return cls(bundle.manifest, load_predictor(bundle), schema)

    @property
    def version(self) -> str:
        """Version of the bundle."""
        return self.manifest.version

    def predict(self, rows: list[Row]) -> Outcome:
        """Predict rows that keep the contract."""
        return self.outcome(self.schema.array(rows, self.runtime.dtype))

    def outcome(self, rows: NDArray[np.floating[Any]]) -> Outcome:
        """Predict an array of shape (rows, features)."""
        classes = self.manifest.contract.classes
        return Outcome(rows, self.probabilities(rows), classes, self.version)

    def probabilities(self, rows: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Probabilities of shape (rows, classes) for rows of shape (rows, features).

        Of many, like ones are predicted one after the other, as they take like ways through a tree,
        and each that stands there twice but once: measurements of one decimal are often the same.
        """
        if len(rows) < MANY or rows.shape[1] > MAX_SORTED_FEATURES:
            return self.runtime.probabilities(rows)
        first, places = unique_rows(rows, _alike(rows))
        return self.runtime.probabilities(rows[first])[places]

    def answer(self, body: bytes) -> tuple[bytes, Outcome]:
        """Parse a request's body, predict its rows, and answer in the shape they came in.

        Returns:
            The answer as JSON, and the outcome it was made from.

        Raises:
            InvalidJSONError, TooManyRowsError, ContractError: as `RequestSchema.parse` does.
        """
        request = self.schema.parse(body)
        found = self.predict(request.rows)
        return batch(found) if request.batch else single(found, request.rows[0]), found


def _alike(rows: NDArray[np.floating[Any]]) -> NDArray[np.intp]:
    """An order in which like rows stand together, and those that are equal as float32."""
    # Sixteen bits at a time: these are sorted in linear time.
    halves = np.ascontiguousarray(rows, np.float32).view(np.uint16).T
    # First by what is roughly the same in all features, and only then by one after the other.
    return np.lexsort((*halves, *(halves[UPPER::2] >> FINER_BITS)))
