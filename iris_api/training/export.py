"""From a fitted estimator to what a bundle holds. Training only: it imports the training tools.

An ONNX artefact is handed out only after it agreed with the estimator. Where an estimator does
not convert, or its conversion does not agree, the estimator itself is what serves.
"""

from __future__ import annotations

import io
import platform
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from iris_api.bundle.manifest import FLOAT32_MAX, GoldenRows, Histogram, Reference, Sample
from iris_api.bundle.runtimes import TOLERANCE, OnnxRuntime
from iris_api.bundle.store import ArtefactFile
from iris_api.errors import ExportError, reason

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from iris_api.bundle.manifest import Contract

PARITY_ROWS = 10_000
GOLDEN_ROWS = 20
SAMPLE_ROWS = 150
BINS = 5
WEIGHTS = ("class_treeids", "class_nodeids", "class_ids", "class_weights")
"""What an ONNX tree ensemble says of its leaves: one of each for a weight."""
TOOLS = ("joblib", "numpy", "onnx", "onnxruntime", "scikit-learn", "skl2onnx")


@dataclass(frozen=True, slots=True)
class Export:
    """The artefacts, the one to serve first, and the golden rows that they must reproduce."""

    artefacts: tuple[ArtefactFile, ...]
    golden: GoldenRows
    refusal: str | None = None
    """Why there is no ONNX among the artefacts, if there is none."""


def export(estimator: Any, contract: Contract, *, rows: NDArray[Any], name: str) -> Export:
    """Pickle the estimator, and convert it to ONNX if the conversion keeps its answers.

    Args:
        estimator: A fitted classifier with `predict_proba`.
        contract: Its features and classes, in the estimator's order.
        rows: Training rows of shape (rows, features), for the parity check.
        name: Stem of the files' names.

    Raises:
        ExportError: if the estimator does not fit the contract, or can't be served at all.
    """
    _check(estimator, contract, rows)
    checked = np.vstack([rows, random_rows(contract, rows, PARITY_ROWS)])
    expected = _expected(estimator, checked)
    golden = _golden(checked, expected, trained=len(rows))
    pickled = ArtefactFile(f"{name}_model.joblib", "scikit-learn", _pickle(estimator))
    try:
        content = _convert(estimator, len(contract.features), name)
        _agree(OnnxRuntime(content), checked, expected)
    except Exception as error:  # noqa: BLE001 - converters raise anything; scikit-learn serves then
        return Export((pickled,), golden, refusal=reason(error))
    return Export((ArtefactFile(f"{name}_model.onnx", "onnxruntime", content), pickled), golden)


def random_rows(contract: Contract, rows: NDArray[Any], count: int) -> NDArray[np.float64]:
    """Uniform rows in bounds; an open bound is taken one data range beyond the training rows."""
    low, high = rows.min(axis=0), rows.max(axis=0)
    span = high - low
    minimum = np.array([feature.minimum for feature in contract.features])
    maximum = np.array([feature.maximum for feature in contract.features])
    low = np.where(minimum > -FLOAT32_MAX, minimum, np.maximum(low - span, minimum))
    high = np.where(maximum < FLOAT32_MAX, maximum, np.minimum(high + span, maximum))
    made = np.random.default_rng(0).uniform(low, high, (count, len(low)))
    whole = [feature.type == "int" for feature in contract.features]
    made[:, whole] = np.round(made[:, whole])
    return made


def reference(rows: NDArray[Any], predicted: NDArray[Any], classes: int) -> Reference:
    """Histograms of the training rows in about five quantile bins, and rows per predicted class.

    Args:
        rows: Shape (rows, features).
        predicted: Index of the class that each row is predicted to have by an estimator which was
            not fitted on it, shape (rows,). Live predictions are compared with these: compared with
            the true classes, an estimator that favours one would seem to have drifted at once.
        classes: How many classes there are.
    """
    return Reference(
        features=tuple(_histogram(column) for column in rows.T),
        classes=tuple(np.bincount(predicted, minlength=classes).tolist()),
    )


def sample(rows: NDArray[Any], labels: NDArray[Any]) -> Sample:
    """Training rows to be shown beside a caller's own: all of them, or 150.

    Those with the least and the most of each feature are among them, so that a reader sees how far
    the training rows reach; the rest is taken at random.

    Args:
        rows: Shape (rows, features).
        labels: Index of each row's class, shape (rows,).
    """
    ends = np.unique([rows.argmin(axis=0), rows.argmax(axis=0)])[:SAMPLE_ROWS]
    others = np.setdiff1d(np.arange(len(rows)), ends)
    count = min(len(rows), SAMPLE_ROWS) - len(ends)
    rest = np.random.default_rng(0).choice(others, count, replace=False)
    chosen = np.sort(np.concatenate([ends, rest]))
    return Sample(
        rows=tuple(map(tuple, rows[chosen].tolist())), classes=tuple(labels[chosen].tolist())
    )


def converted(estimator: Any, features: int, name: str) -> Any:
    """The estimator as skl2onnx has it: float32 rows in, a plain probability matrix out."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType

    return to_onnx(
        estimator,
        initial_types=[("rows", FloatTensorType([None, features]))],
        options={id(estimator): {"zipmap": False}},
        name=name,
    )


def drop_zeros(ensemble: Any) -> None:
    """Leave out the leaves' weights of zero, but for leaves that have no other.

    skl2onnx writes one for each of more than two classes, and ONNX Runtime adds them up: the sums
    are the same without those, and take less time (`benchmarks/README.md`).
    """
    from onnx import helper

    held = {attribute.name: attribute for attribute in ensemble.attribute}
    if not held.keys() >= set(WEIGHTS):
        return
    found = (helper.get_attribute_value(held[name]) for name in WEIGHTS)
    given = list(zip(*found, strict=True))
    weighty = {(tree, leaf) for tree, leaf, _, weight in given if weight}
    kept = [one for one in given if one[-1] or one[:2] not in weighty]
    for name, column in zip(WEIGHTS, zip(*kept, strict=True), strict=True):
        ensemble.attribute.remove(held[name])
        ensemble.attribute.append(helper.make_attribute(name, column))


def tool_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that had a hand in the artefacts."""
    return {"python": platform.python_version()} | {tool: metadata.version(tool) for tool in TOOLS}


def _histogram(column: NDArray[Any]) -> Histogram:
    """Edges lie midway between two observed values: rounding to float32 moves no row there.

    A column that never varied has one bin and no edge, and so can never be seen to drift.
    """
    values = np.unique(column)
    quantiles = np.quantile(column, np.arange(1, BINS) / BINS)
    above = np.searchsorted(values, quantiles, side="right")
    # Where most rows share the largest value, the edge below it still tells them from the rest.
    above = np.unique(np.minimum(above, len(values) - 1))
    above = above[above > 0]
    edges = (values[above - 1] + values[above]) / 2
    bins = np.searchsorted(edges, column, side="right")
    counts = np.bincount(bins, minlength=len(edges) + 1)
    return Histogram(edges=tuple(edges.tolist()), counts=tuple(counts.tolist()))


def _check(estimator: Any, contract: Contract, rows: NDArray[Any]) -> None:
    """Refuse an estimator or training rows that the contract does not describe."""
    if hasattr(estimator, "feature_names_in_"):
        raise ExportError("fit the estimator on an array, not a data frame: serving has no pandas")
    if not hasattr(estimator, "predict_proba"):
        raise ExportError(
            f"{type(estimator).__name__} has no predict_proba: wrap it in CalibratedClassifierCV"
        )
    found = (estimator.n_features_in_, len(estimator.classes_))
    if found != (len(contract.features), len(contract.classes)):
        raise ExportError(
            f"the estimator has {found[0]} features and {found[1]} classes, the contract has "
            f"{len(contract.features)} and {len(contract.classes)}"
        )
    named = [str(label) for label in estimator.classes_]
    if estimator.classes_.dtype.kind in "UO" and named != list(contract.classes):
        raise ExportError(f"the estimator's classes are {', '.join(named)}, in this order")
    for feature, low, high in zip(contract.features, rows.min(0), rows.max(0), strict=True):
        if low < feature.minimum or high > feature.maximum:
            raise ExportError(
                f"{feature.name} is {low:g} to {high:g} in the training rows, "
                f"{feature.minimum:g} to {feature.maximum:g} in the contract"
            )


def _expected(estimator: Any, rows: NDArray[Any]) -> NDArray[np.float64]:
    """The estimator's probabilities, after they were found to mean what it predicts."""
    probabilities: NDArray[np.float64] = estimator.predict_proba(rows)
    labels = estimator.classes_[probabilities.argmax(axis=1)]
    if not np.array_equal(labels, estimator.predict(rows)):
        raise ExportError(
            f"{type(estimator).__name__} predicts other classes than its probabilities say: "
            "wrap it in CalibratedClassifierCV"
        )
    return probabilities


def _golden(rows: NDArray[Any], probabilities: NDArray[np.float64], *, trained: int) -> GoldenRows:
    """A few of the training rows and a few of the random ones, evenly spaced."""
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


def _convert(estimator: Any, features: int, name: str) -> bytes:
    """The same as bytes, as it is served."""
    model = converted(estimator, features, name)
    for node in model.graph.node:
        if node.op_type == "TreeEnsembleClassifier":
            drop_zeros(node)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _agree(onnx: OnnxRuntime, rows: NDArray[Any], expected: NDArray[np.float64]) -> None:
    given = onnx.probabilities(rows)
    worst = float(np.abs(given - expected).max())
    if not worst <= TOLERANCE:
        raise ExportError(f"ONNX probabilities are off by {worst:.2g}")
    differing = int((given.argmax(axis=1) != expected.argmax(axis=1)).sum())
    if differing:
        raise ExportError(f"ONNX gives {differing} of {len(rows)} rows another class")
