"""The predictions of one model version, counted as its training reference is: by class and bin."""

from __future__ import annotations

import time
from bisect import bisect_right
from typing import TYPE_CHECKING

import numpy as np
from prometheus_client.core import GaugeMetricFamily

from iris_api.monitoring.drift import Counts, critical_values

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import Metric

    from iris_api.bundle.manifest import Manifest
    from iris_api.bundle.model import Model
    from iris_api.contract.tasks import Outcome
    from iris_api.monitoring.metrics import Increment, Metrics


class PredictionCounter:
    """Counts a model's predictions. Its series are there from the start, at zero."""

    def __init__(self, metrics: Metrics, model: Model) -> None:
        self._instruments = metrics
        self._manifest = manifest = model.manifest
        names = manifest.contract.feature_names
        histograms = manifest.reference.features
        # As the estimator sees them: a float32 row could else fall on the other side of an edge.
        self._edges = [np.array(histogram.edges, model.runtime.dtype) for histogram in histograms]
        self._limits = [edges.astype(np.float64).tolist() for edges in self._edges]
        self._bins = [
            [
                metrics.feature_rows.labels(model.version, name, str(number)).cell
                for number in range(len(histogram.counts))
            ]
            for name, histogram in zip(names, histograms, strict=True)
        ]
        self._classes = {
            name: metrics.predictions.labels(model.version, name).cell
            for name in manifest.contract.classes
        }
        self._confidence = metrics.confidence.labels(model.version)
        directory = metrics.directory
        self.since = directory.note_start(model.version) if directory else time.time()
        """When the first process of the server began to count this version, in Unix time."""
        self.facts = _facts(manifest)
        """What a scraper wants to know beside the counts: the model and its reference."""

    def of(self, outcome: Outcome) -> list[Increment]:
        """What a request's predictions add."""
        rows = len(outcome)
        of_the_rows = self._of_one(outcome) if rows == 1 else self._of_batch(outcome)
        return [*self._instruments.rows.of(rows), *of_the_rows]

    def live(self) -> Counts:
        """All that was counted of this version, by every worker of the server."""
        return live_counts(self._instruments.collect(), self._manifest)

    def _of_one(self, outcome: Outcome) -> list[Increment]:
        values = outcome.rows[0].tolist()
        answer = outcome.first
        return [
            (self._classes[answer["prediction"]], 1.0),
            *self._confidence.of(answer["confidence"]),
            *[
                (bins[bisect_right(limits, value)], 1.0)
                for value, limits, bins in zip(values, self._limits, self._bins)
            ],
        ]

    def _of_batch(self, outcome: Outcome) -> list[Increment]:
        added: list[Increment] = list(
            zip(self._classes.values(), outcome.class_counts, strict=True)
        )
        added += self._confidence.of_all(outcome.confidences)
        for values, edges, bins in zip(outcome.rows.T, self._edges, self._bins, strict=True):
            found = np.searchsorted(edges, values, side="right")
            added += zip(bins, np.bincount(found).tolist(), strict=False)
        return added


def live_counts(metrics: Iterable[Metric], manifest: Manifest) -> Counts:
    """The rows of a model version by bin and class, out of the metrics of a server."""
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
            tuple(count for (of, _), count in rows.items() if of == name)
            for name in manifest.contract.feature_names
        ),
        classes=tuple(classes.values()),
    )


def _facts(manifest: Manifest) -> list[Metric]:
    model = GaugeMetricFamily(
        "iris_model_info",
        "The model that serves: its version, and the digest of the artefact that answers.",
        labels=("name", "model_version", "sha256"),
    )
    model.add_metric((manifest.name, manifest.version, manifest.served.sha256), 1)
    rows = GaugeMetricFamily(
        "iris_reference_rows",
        "Training rows, by the bin that a feature fell into.",
        labels=("model_version", "feature", "bin"),
    )
    classes = GaugeMetricFamily(
        "iris_reference_predictions",
        "Training rows, by the class predicted in cross-validation.",
        labels=("model_version", "class"),
    )
    critical = GaugeMetricFamily(
        "iris_drift_critical_value",
        "Chi-squared quantile that the PSI of a feature is measured with.",
        labels=("model_version", "feature"),
    )
    critical_classes = GaugeMetricFamily(
        "iris_class_drift_critical_value",
        "Chi-squared quantile that the PSI of the predicted classes is measured with.",
        labels=("model_version",),
    )
    version = manifest.version
    values = critical_values(manifest.reference)
    for name, histogram, value in zip(
        manifest.contract.feature_names, manifest.reference.features, values, strict=False
    ):
        critical.add_metric((version, name), value)
        for number, count in enumerate(histogram.counts):
            rows.add_metric((version, name, str(number)), count)
    for name, count in zip(manifest.contract.classes, manifest.reference.classes, strict=True):
        classes.add_metric((version, name), count)
    critical_classes.add_metric((version,), values[-1])
    return [model, rows, classes, critical, critical_classes]
