"""The application on a model that takes 80 ms, so that it can be overloaded from one machine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from iris_api.bundle.runtimes import OnnxRuntime
from wsgi import app

if TYPE_CHECKING:
    from numpy.typing import NDArray

SECONDS = 0.08


def _slowly(self: OnnxRuntime, rows: NDArray[Any], predict: Any = OnnxRuntime.probabilities) -> Any:
    time.sleep(SECONDS)
    return predict(self, rows)


OnnxRuntime.probabilities = _slowly  # type: ignore[method-assign]
__all__ = ["app"]
