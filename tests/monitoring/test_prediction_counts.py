from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from iris_api.bundle.model import Model
from iris_api.monitoring.metrics import Metrics
from iris_api.monitoring.prediction_counts import PredictionCounter, live_counts
from iris_api.monitoring.storage import STORE
from tests.conftest import pickle_only

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

RNG = np.random.default_rng(7)


@pytest.fixture(params=["onnxruntime", "scikit-learn"])
def model(request: pytest.FixtureRequest, model_dir: Path) -> Model:
    """The shipped model, in either runtime."""
    if request.param == "scikit-learn":
        pickle_only(model_dir)
    return Model.load(model_dir, max_rows=5000)


def values(metrics: Metrics) -> dict[str, float]:
    """Samples without labels other than the version."""
    samples = (sample for metric in metrics.collect() for sample in metric.samples)
    return {
        sample.name: sample.value
        for sample in samples
        if not sample.labels.keys() - {"model_version"}
    }


def bodies(model: Model, rows: NDArray[np.float64]) -> list[dict[str, float]]:
    names = model.manifest.contract.feature_names
    return [dict(zip(names, row, strict=True)) for row in rows.tolist()]


def predict(counter: PredictionCounter, model: Model, body: Any) -> None:
    """Predict a request's rows and count them."""
    rows = body if isinstance(body, list) else [body]
    STORE.add(counter.increments(model.predict(rows)))


def test_single_rows_and_batches_are_counted_alike(model: Model) -> None:
    """Both count what NumPy's histogram does, also for rows on an edge."""
    histograms = model.manifest.reference.features
    rows = RNG.uniform(0, 10, (400, 4))
    for column, histogram in enumerate(histograms):
        rows[: len(histogram.edges), column] = histogram.edges
    requests = bodies(model, rows)
    singles, batch = Metrics(), Metrics()
    of_singles, of_batch = PredictionCounter(singles, model), PredictionCounter(batch, model)
    for row in requests:
        predict(of_singles, model, row)
    predict(of_batch, model, requests)
    counts = of_singles.counts()
    assert counts == of_batch.counts()
    converted = rows.astype(model.runtime.dtype)
    for column, histogram in enumerate(histograms):
        edges = np.array(histogram.edges, model.runtime.dtype)
        expected = np.histogram(converted[:, column], bins=[-np.inf, *edges, np.inf])[0]
        assert counts.features[column] == tuple(expected)
    for name in ("iris_prediction_confidence_sum", "iris_prediction_confidence_count"):
        assert values(singles)[name] == pytest.approx(values(batch)[name])
    assert values(singles)["iris_request_rows_count"] == 400
    assert values(batch)["iris_request_rows_sum"] == 400


def test_a_value_on_an_edge_is_in_the_bin_above_it(model: Model) -> None:
    """For single rows and batches, in both runtimes, as in the reference."""
    counter = PredictionCounter(Metrics(), model)
    edges = np.array([histogram.edges[1] for histogram in model.manifest.reference.features])
    (row,) = bodies(model, edges[None])
    predict(counter, model, row)
    predict(counter, model, [row])
    assert [counts.index(2) for counts in counter.counts().features] == [2, 2, 2, 2]


def test_only_rows_of_the_version_are_counted(model: Model) -> None:
    """Another version has other bins."""
    metrics = Metrics()
    predict(PredictionCounter(metrics, model), model, bodies(model, np.ones((3, 4))))
    other = model.manifest.model_copy(update={"version": "other"})
    assert sum(live_counts(metrics.collect(), model.manifest).classes) == 3
    assert sum(live_counts(metrics.collect(), other).classes) == 0


def test_all_series_exist_before_the_first_row(model: Model) -> None:
    """Prometheus can't see the first increment of a new series."""
    metrics = Metrics()
    counter = PredictionCounter(metrics, model)
    bins = [
        tuple(sample.labels.values())
        for metric in metrics.collect()
        for sample in metric.samples
        if sample.name == "iris_feature_rows_total"
    ]
    histograms = model.manifest.reference.features
    assert len(bins) == sum(len(histogram.counts) for histogram in histograms)
    published = {metric.name: metric.samples for metric in counter.model_metrics}
    assert published["iris_model_info"][0].labels["model_version"] == model.version
    assert len(published["iris_reference_rows"]) == len(bins)
    assert sum(sample.value for sample in published["iris_reference_predictions"]) == 150
    assert len(published["iris_drift_critical_value"]) == 4
