"""The predictions of one model version, counted by class and by the bins of its reference."""

from __future__ import annotations

import time
from bisect import bisect_right
from typing import TYPE_CHECKING

import numpy as np
from prometheus_client.core import GaugeMetricFamily

from .drift import Counts, critical_values

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import Metric

    from iris_api.bundle.manifest import Manifest
    from iris_api.bundle.model import Model
    from iris_api.contract.tasks import Outcome

    from .metrics import Metrics
    from .storage import Increment


class PredictionCounter:
    """Counts a model's predictions. All its series exist from the start, at zero."""

    def __init__(self, metrics: Metrics, model: Model) -> None:
        self._metrics = metrics
        self._manifest = manifest = model.manifest
        histograms = manifest.reference.features
        # In the estimator's own type: rounded to float32, a row may fall on the other side.
        self._edges = [np.array(histogram.edges, model.runtime.dtype) for histogram in histograms]
        self._limits = [edges.astype(np.float64).tolist() for edges in self._edges]
        self._bins = [
            [
                metrics.feature_rows.labels(model.version, name, str(number)).value
                for number in range(len(histogram.counts))
            ]
            for name, histogram in zip(manifest.contract.feature_names, histograms, strict=True)
        ]
        self._classes = {
            name: metrics.predictions.labels(model.version, name).value
            for name in manifest.contract.classes
        }
        self._confidence = metrics.confidence.labels(model.version)
        directory = metrics.directory
        self.since = directory.note_start(model.version) if directory else time.time()
        """When the first process of the server began to count this version, as a Unix time."""
        self.model_metrics = _model_metrics(manifest)
        """The model's version and reference, as metrics for a scraper."""

    def increments(self, outcome: Outcome) -> list[Increment]:
        """What a request's predictions add."""
        rows = len(outcome)
        of_rows = self._row_increments(outcome) if rows == 1 else self._batch_increments(outcome)
        return [*self._metrics.rows.increments(rows), *of_rows]

    def counts(self) -> Counts:
        """What every process of the server has counted of this version."""
        return live_counts(self._metrics.collect(), self._manifest)

    def _row_increments(self, outcome: Outcome) -> list[Increment]:
        values = outcome.rows[0].tolist()
        answer = outcome.first
        return [
            (self._classes[answer["prediction"]], 1.0),
            *self._confidence.increments(answer["confidence"]),
            *[
                (bins[bisect_right(limits, value)], 1.0)
                for value, limits, bins in zip(values, self._limits, self._bins)
            ],
        ]

    def _batch_increments(self, outcome: Outcome) -> list[Increment]:
        increments: list[Increment] = list(
            zip(self._classes.values(), outcome.class_counts, strict=True)
        )
        increments += self._confidence.batch_increments(outcome.confidences)
        for values, edges, bins in zip(outcome.rows.T, self._edges, self._bins, strict=True):
            rows = np.bincount(np.searchsorted(edges, values, side="right"))
            increments += zip(bins, rows.tolist(), strict=False)
        return increments


def live_counts(metrics: Iterable[Metric], manifest: Manifest) -> Counts:
    """The rows of a model version by bin and by class, from the metrics of a server."""
    rows = {
        (name, str(number)): 0
        for name, histogram in zip(
            manifest.contract.feature_names, manifest.reference.features, strict=True
        )
        for number in range(len(histogram.counts))
    }
    classes = dict.fromkeys(manifest.contract.classes, 0)
    for metric in metrics:
        for sample in metric.samples:
            labels = sample.labels
            if labels.get("model_version") != manifest.version:
                continue
            if sample.name == "iris_feature_rows_total":
                rows[labels["feature"], labels["bin"]] = int(sample.value)
            elif sample.name == "iris_predictions_total":
                classes[labels["class"]] = int(sample.value)
    return Counts(
        features=tuple(
            tuple(count for (feature, _), count in rows.items() if feature == name)
            for name in manifest.contract.feature_names
        ),
        classes=tuple(classes.values()),
    )


def _model_metrics(manifest: Manifest) -> list[Metric]:
    """Gauges that describe the model: what it is, its reference, and its limits for drift."""
    version, reference, contract = manifest.version, manifest.reference, manifest.contract
    info = GaugeMetricFamily(
        "iris_model_info",
        "The model that serves: its version, and the digest of the artefact that answers.",
        labels=("name", "model_version", "sha256"),
    )
    info.add_metric((manifest.name, version, manifest.served.sha256), 1)
    classes = GaugeMetricFamily(
        "iris_reference_predictions",
        "Training rows, by the class predicted in cross-validation.",
        labels=("model_version", "class"),
    )
    for name, count in zip(contract.classes, reference.classes, strict=True):
        classes.add_metric((version, name), count)
    rows = GaugeMetricFamily(
        "iris_reference_rows",
        "Training rows, by the bin that a feature fell into.",
        labels=("model_version", "feature", "bin"),
    )
    for name, histogram in zip(contract.feature_names, reference.features, strict=True):
        for number, count in enumerate(histogram.counts):
            rows.add_metric((version, name, str(number)), count)
    return [info, classes, rows, *_critical_metrics(manifest)]


def _critical_metrics(manifest: Manifest) -> list[Metric]:
    *of_features, of_classes = critical_values(manifest.reference)
    features = GaugeMetricFamily(
        "iris_drift_critical_value",
        "Chi-squared quantile that the PSI of a feature is measured with.",
        labels=("model_version", "feature"),
    )
    for name, value in zip(manifest.contract.feature_names, of_features, strict=True):
        features.add_metric((manifest.version, name), value)
    classes = GaugeMetricFamily(
        "iris_class_drift_critical_value",
        "Chi-squared quantile that the PSI of the predicted classes is measured with.",
        labels=("model_version",),
    )
    classes.add_metric((manifest.version,), of_classes)
    return [features, classes]
