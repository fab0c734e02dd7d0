"""The model that a process serves: a bundle's manifest, its runtime and its request schema."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from iris_api.contract.rows import RequestSchema
from iris_api.contract.tasks import Outcome

from .runtimes import load_runtime
from .store import Bundle

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from iris_api.contract.rows import Row

    from .manifest import Manifest
    from .runtimes import Runtime


@dataclass(frozen=True, slots=True)
class Model:
    """Everything that a request needs of one version. It never changes."""

    manifest: Manifest
    runtime: Runtime
    schema: RequestSchema

    @classmethod
    def load(cls, directory: Path, *, max_rows: int) -> Self:
        """Load and verify a bundle, and replay its golden rows.

        Raises:
            BundleError: with what is wrong and how to mend it.
        """
        return cls.of(Bundle.load(directory), max_rows=max_rows)

    @classmethod
    def of(cls, bundle: Bundle, *, max_rows: int) -> Self:
        """Open a verified bundle, and replay its golden rows.

        Raises:
            BundleError: as `load` does.
        """
        schema = RequestSchema(bundle.manifest.contract, max_rows=max_rows)
        return cls(bundle.manifest, load_runtime(bundle), schema)

    @property
    def version(self) -> str:
        """Version of the bundle."""
        return self.manifest.version

    def predict(self, rows: list[Row]) -> Outcome:
        """Predict rows that keep the contract."""
        return self.predict_array(self.schema.array(rows, self.runtime.dtype))

    def predict_array(self, rows: NDArray[np.floating[Any]]) -> Outcome:
        """Predict an array of shape (rows, features), columns in the contract's order."""
        classes = self.manifest.contract.classes
        return Outcome(rows, self.runtime.probabilities(rows), classes, self.version)
