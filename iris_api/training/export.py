"""From a fitted estimator to the artefacts and golden rows of a bundle.

An ONNX artefact is kept only if it agrees with the estimator. Otherwise scikit-learn serves the
estimator itself.
"""

from __future__ import annotations

import io
import platform
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from iris_api.bundle.manifest import GoldenRows
from iris_api.bundle.runtimes import TOLERANCE, OnnxRuntime
from iris_api.bundle.store import ArtefactFile
from iris_api.contract.base import FLOAT32_MAX
from iris_api.errors import ExportError, reason

from .convert import to_onnx_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from iris_api.contract.contract import Contract

PARITY_ROWS = 10_000
GOLDEN_ROWS = 20
TOOLS = ("joblib", "numpy", "onnx", "onnxruntime", "scikit-learn", "skl2onnx")


@dataclass(frozen=True, slots=True)
class Export:
    """The artefacts, the served one first, and the golden rows that they must reproduce."""

    artefacts: tuple[ArtefactFile, ...]
    golden: GoldenRows
    refusal: str | None = None
    """Why no artefact is ONNX, if none is."""


def export(estimator: Any, contract: Contract, *, rows: NDArray[Any], name: str) -> Export:
    """Pickle an estimator, and convert it to ONNX if the conversion gives the same answers.

    Args:
        estimator: A fitted classifier with `predict_proba`.
        contract: Its features and classes, in the estimator's order.
        rows: Training rows of shape (rows, features), for the comparison.
        name: Stem of the files' names.

    Raises:
        ExportError: if the estimator does not fit the contract, or can't be served at all.
    """
    _check(estimator, contract, rows)
    compared = np.vstack([rows, random_rows(contract, rows, PARITY_ROWS)])
    expected = _expected(estimator, compared)
    golden = _golden(compared, expected, trained=len(rows))
    pickled = ArtefactFile(f"{name}_model.joblib", "scikit-learn", _pickle(estimator))
    try:
        content = to_onnx_bytes(estimator, len(contract.features), name)
        _compare(OnnxRuntime(content), compared, expected)
    except Exception as error:  # noqa: BLE001  # Converters raise anything; scikit-learn serves then.
        return Export((pickled,), golden, refusal=reason(error))
    return Export((ArtefactFile(f"{name}_model.onnx", "onnxruntime", content), pickled), golden)


def random_rows(contract: Contract, rows: NDArray[Any], count: int) -> NDArray[np.float64]:
    """Uniform random rows within the contract's bounds, shape (count, features).

    Where a bound is open, values reach one data range beyond the training rows.
    """
    low, high = rows.min(axis=0), rows.max(axis=0)
    span = high - low
    minimum = np.array([feature.minimum for feature in contract.features])
    maximum = np.array([feature.maximum for feature in contract.features])
    low = np.where(minimum > -FLOAT32_MAX, minimum, np.maximum(low - span, minimum))
    high = np.where(maximum < FLOAT32_MAX, maximum, np.minimum(high + span, maximum))
    drawn = np.random.default_rng(0).uniform(low, high, (count, len(low)))
    whole = [feature.type == "int" for feature in contract.features]
    drawn[:, whole] = np.round(drawn[:, whole])
    return drawn


def tool_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that the artefacts depend on."""
    return {"python": platform.python_version()} | {tool: metadata.version(tool) for tool in TOOLS}


def _check(estimator: Any, contract: Contract, rows: NDArray[Any]) -> None:
    """Refuse an estimator or training rows that the contract does not describe."""
    if hasattr(estimator, "feature_names_in_"):
        raise ExportError("fit the estimator on an array, not a data frame: serving has no pandas")
    if not hasattr(estimator, "predict_proba"):
        raise ExportError(
            f"{type(estimator).__name__} has no predict_proba: wrap it in CalibratedClassifierCV"
        )
    features, classes = estimator.n_features_in_, len(estimator.classes_)
    if (features, classes) != (len(contract.features), len(contract.classes)):
        raise ExportError(
            f"the estimator has {features} features and {classes} classes, the contract has "
            f"{len(contract.features)} and {len(contract.classes)}"
        )
    names = [str(label) for label in estimator.classes_]
    if estimator.classes_.dtype.kind in "UO" and names != list(contract.classes):
        raise ExportError(f"the estimator's classes are {', '.join(names)}, in this order")
    for feature, low, high in zip(contract.features, rows.min(0), rows.max(0), strict=True):
        if low < feature.minimum or high > feature.maximum:
            raise ExportError(
                f"{feature.name} is {low:g} to {high:g} in the training rows, "
                f"{feature.minimum:g} to {feature.maximum:g} in the contract"
            )


def _expected(estimator: Any, rows: NDArray[Any]) -> NDArray[np.float64]:
    """The estimator's probabilities, checked to agree with its predictions."""
    probabilities: NDArray[np.float64] = estimator.predict_proba(rows)
    labels = estimator.classes_[probabilities.argmax(axis=1)]
    if not np.array_equal(labels, estimator.predict(rows)):
        raise ExportError(
            f"{type(estimator).__name__} predicts other classes than its probabilities say: "
            "wrap it in CalibratedClassifierCV"
        )
    return probabilities


def _golden(rows: NDArray[Any], probabilities: NDArray[np.float64], *, trained: int) -> GoldenRows:
    """Evenly spaced rows: 20 of the training rows, and 20 of the random ones."""
    chosen = np.concatenate(
        [
            np.linspace(0, trained - 1, GOLDEN_ROWS, dtype=int),
            np.linspace(trained, len(rows) - 1, GOLDEN_ROWS, dtype=int),
        ]
    )
    return GoldenRows.model_validate(
        {"rows": rows[chosen].tolist(), "probabilities": probabilities[chosen].tolist()}
    )


def _pickle(estimator: Any) -> bytes:
    import joblib

    buffer = io.BytesIO()
    joblib.dump(estimator, buffer)
    return buffer.getvalue()


def _compare(onnx: OnnxRuntime, rows: NDArray[Any], expected: NDArray[np.float64]) -> None:
    """Refuse a conversion whose probabilities or labels differ from the estimator's."""
    probabilities = onnx.probabilities(rows)
    difference = float(np.abs(probabilities - expected).max())
    if not difference <= TOLERANCE:
        raise ExportError(f"ONNX probabilities are off by {difference:.2g}")
    differing = int((probabilities.argmax(axis=1) != expected.argmax(axis=1)).sum())
    if differing:
        raise ExportError(f"ONNX gives {differing} of {len(rows)} rows another class")
