"""The two runtimes that open an artefact: ONNX Runtime and scikit-learn.

A runtime is a pure function of its rows. Several threads may call it at once.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from importlib import metadata
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from iris_api.contract.rows import unique_rows
from iris_api.errors import BundleError, reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from .manifest import Artefact, RuntimeName
    from .store import Bundle

TOLERANCE = 1e-5
"""Largest difference between two runtimes' probabilities that counts as agreement."""
MIN_SORTED_ROWS = 200
"""From this many rows on, sorting them costs less than it saves."""
MAX_SORTED_FEATURES = 8
"""With sixteen features, sorting costs more than a forest of 100 trees saves by it."""
UPPER_HALF = int(sys.byteorder == "little")
"""Index of the half of a float32 that has its sign, exponent and first seven fraction bits."""
IGNORED_BITS = 5
"""Low bits of the upper half that the coarse sort ignores: 4 and 4.9 are alike, 4 and 5 not."""


class Runtime(Protocol):
    """One runtime with one estimator loaded."""

    name: RuntimeName

    @property
    def dtype(self) -> type[np.floating[Any]]:
        """The type of float that the estimator sees."""
        ...

    def probabilities(self, rows: NDArray[Any]) -> NDArray[np.floating[Any]]:
        """Probabilities of shape (rows, classes) for rows of shape (rows, features)."""
        ...


class OnnxRuntime:
    """ONNX Runtime on one thread: workers are the parallelism, and a pool does not survive a fork.

    Many rows are sorted so that similar ones, which take similar paths through a tree, are
    predicted one after the other; equal rows are predicted once.
    """

    name: RuntimeName = "onnxruntime"
    dtype = np.float32

    def __init__(self, content: bytes) -> None:
        # Official builds upload usage events from a thread started at import, and that thread
        # aborts a forked worker at its exit: https://github.com/microsoft/onnxruntime/pull/27379
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._outputs = [self._session.get_outputs()[-1].name]

    def probabilities(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """Probabilities as float32, shape (rows, classes)."""
        if len(rows) < MIN_SORTED_ROWS or rows.shape[1] > MAX_SORTED_FEATURES:
            return self._run(rows)
        first, inverse = unique_rows(rows, _similar_order(rows))
        return self._run(rows[first])[inverse]

    def _run(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        inputs = {self._input: rows.astype(np.float32, copy=False)}
        probabilities: NDArray[np.float32] = self._session.run(self._outputs, inputs)[0]
        return probabilities


class SklearnRuntime:
    """scikit-learn itself, for an estimator without an ONNX artefact. It uses one job."""

    name: RuntimeName = "scikit-learn"
    dtype = np.float64

    def __init__(self, estimator: Any) -> None:
        jobs = [name for name in estimator.get_params() if name.split("__")[-1] == "n_jobs"]
        estimator.set_params(**dict.fromkeys(jobs, 1))
        self._predict_proba = estimator.predict_proba

    def probabilities(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        """Probabilities as float64, in the order of the estimator's `classes_`."""
        probabilities: NDArray[np.float64] = self._predict_proba(rows)
        return probabilities


def load_runtime(bundle: Bundle) -> Runtime:
    """Open the bundle's first artefact and replay the golden rows on it.

    Raises:
        BundleError: if the artefact can't be opened, or its answers differ from training.
    """
    artefact = bundle.manifest.served
    runtime = OPENERS[artefact.runtime](bundle, artefact)
    golden = bundle.manifest.golden
    try:
        answers = runtime.probabilities(np.array(golden.rows))
        difference = float(np.abs(answers - np.array(golden.probabilities)).max())
    except Exception as error:
        raise BundleError(
            f"{artefact.path} can't predict ({reason(error)}): train it again"
        ) from error
    if not difference <= TOLERANCE:
        raise BundleError(
            f"{artefact.path} does not give the golden rows' probabilities "
            f"(off by {difference:.2g}): train it again on this machine's versions"
        )
    return runtime


def unpickle(content: bytes, path: str) -> SklearnRuntime:
    """Open the estimator in verified joblib bytes. A warning while it is opened is a refusal."""
    import joblib

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return SklearnRuntime(joblib.load(io.BytesIO(content)))
    except Exception as error:
        raise BundleError(f"{path} can't be unpickled ({reason(error)}): train it again") from error


def _similar_order(rows: NDArray[np.floating[Any]]) -> NDArray[np.intp]:
    """An order in which similar rows are near each other, and rows equal as float32 adjacent."""
    # NumPy sorts 16-bit integers in linear time.
    halves = np.ascontiguousarray(rows, np.float32).view(np.uint16).T
    # lexsort sorts by its last key first: coarsely by all features, then exactly by each.
    return np.lexsort((*halves, *(halves[UPPER_HALF::2] >> IGNORED_BITS)))


def _open_onnx(bundle: Bundle, artefact: Artefact) -> Runtime:
    content = bundle.read(artefact)
    try:
        return OnnxRuntime(content)
    except Exception as error:
        raise BundleError(
            f"{artefact.path} is not ONNX ({reason(error)}): train it again"
        ) from error


def _open_joblib(bundle: Bundle, artefact: Artefact) -> Runtime:
    """Unpickle only verified bytes, and only under the scikit-learn that pickled them."""
    trained = bundle.manifest.versions.get("scikit-learn")
    try:
        installed = metadata.version("scikit-learn")
    except metadata.PackageNotFoundError as error:
        raise BundleError(
            f"{artefact.path} needs scikit-learn {trained}, which is not installed: "
            "install it (requirements.txt has it)"
        ) from error
    if installed != trained:
        raise BundleError(
            f"{artefact.path} was trained with scikit-learn {trained} and {installed} is "
            f"installed: train it again, or install scikit-learn=={trained}"
        )
    return unpickle(bundle.read(artefact), artefact.path)


OPENERS: dict[RuntimeName, Callable[[Bundle, Artefact], Runtime]] = {
    "onnxruntime": _open_onnx,
    "scikit-learn": _open_joblib,
}
