"""From rows to probabilities, by ONNX Runtime where the bundle has its artefact, or scikit-learn.

A runtime is a pure function of its rows, and safe to call from several threads at once.
"""

from __future__ import annotations

import io
import os
import warnings
from importlib import metadata
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from iris_api.errors import BundleError, reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from iris_api.bundle.manifest import Artefact, Runtime
    from iris_api.bundle.store import Bundle

TOLERANCE = 1e-5
"""Largest difference between two runtimes' probabilities that still counts as agreement."""


class Predictor(Protocol):
    """One runtime with one estimator loaded."""

    runtime: Runtime

    @property
    def dtype(self) -> type[np.floating[Any]]:
        """What the rows are best given as."""
        ...

    def probabilities(self, rows: NDArray[Any]) -> NDArray[np.floating[Any]]:
        """Probabilities of shape (rows, classes) for rows of shape (rows, features)."""
        ...


class OnnxRuntime:
    """ONNX Runtime on one thread: the workers are the parallelism, and no pool outlives a fork."""

    runtime: Runtime = "onnxruntime"
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
        session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
        # Not by `session.run`, which looks at each call's inputs and outputs first: they are always
        # the same, and between requests that costs half of what the forest does.
        self._run = session._sess.run
        self._options = onnxruntime.RunOptions()
        self._input = session.get_inputs()[0].name
        self._outputs = [session.get_outputs()[-1].name]

    def probabilities(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """Probabilities as float32; a label is the first of the largest, as in scikit-learn."""
        given = {self._input: rows.astype(np.float32, copy=False)}
        probabilities: NDArray[np.float32] = self._run(self._outputs, given, self._options)[0]
        return probabilities


class SklearnRuntime:
    """scikit-learn itself, for an estimator that has no ONNX artefact. One job, as above."""

    runtime: Runtime = "scikit-learn"
    dtype = np.float64

    def __init__(self, estimator: Any) -> None:
        jobs = [name for name in estimator.get_params() if name.split("__")[-1] == "n_jobs"]
        estimator.set_params(**dict.fromkeys(jobs, 1))
        self._predict_proba = estimator.predict_proba

    def probabilities(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        """Probabilities as float64, in the order of the estimator's `classes_`."""
        probabilities: NDArray[np.float64] = self._predict_proba(rows)
        return probabilities


def load_predictor(bundle: Bundle) -> Predictor:
    """Open the bundle's serving artefact and replay the golden rows on it.

    Raises:
        BundleError: if the artefact can't be opened, or answers other than at training.
    """
    artefact = bundle.manifest.served
    runtime = OPENERS[artefact.runtime](bundle, artefact)
    golden = bundle.manifest.golden
    try:
        given = runtime.probabilities(np.array(golden.rows))
        worst = float(np.abs(given - np.array(golden.probabilities)).max())
    except Exception as error:
        raise BundleError(
            f"{artefact.path} can't predict ({reason(error)}): train it again"
        ) from error
    if not worst <= TOLERANCE:
        raise BundleError(
            f"{artefact.path} does not give the golden rows' probabilities "
            f"(off by {worst:.2g}): train it again on this machine's versions"
        )
    return runtime


def _open_onnx(bundle: Bundle, artefact: Artefact) -> Predictor:
    content = bundle.read(artefact)
    try:
        return OnnxRuntime(content)
    except Exception as error:
        raise BundleError(
            f"{artefact.path} is not ONNX ({reason(error)}): train it again"
        ) from error


def _open_joblib(bundle: Bundle, artefact: Artefact) -> Predictor:
    """Unpickle only what was verified, and only under the scikit-learn that pickled it."""
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


def unpickle(content: bytes, path: str) -> SklearnRuntime:
    """The estimator in verified joblib bytes; a warning on the way is a refusal."""
    import joblib

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return SklearnRuntime(joblib.load(io.BytesIO(content)))
    except Exception as error:
        raise BundleError(f"{path} can't be unpickled ({reason(error)}): train it again") from error


OPENERS: dict[Runtime, Callable[[Bundle, Artefact], Predictor]] = {
    "onnxruntime": _open_onnx,
    "scikit-learn": _open_joblib,
}
