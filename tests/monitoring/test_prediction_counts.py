from __future__ import annotations

import json
from typing import TYPE_CHECKING

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
    """Samples that have no label but their version."""
    samples = (sample for metric in metrics.collect() for sample in metric.samples)
    return {
        sample.name: sample.value
        for sample in samples
        if not sample.labels.keys() - {"model_version"}
    }


def bodies(model: Model, rows: NDArray[np.float64]) -> list[dict[str, float]]:
    names = model.manifest.contract.feature_names
    return [dict(zip(names, row, strict=True)) for row in rows.tolist()]


def test_one_by_one_and_in_a_batch_the_same_is_counted(model: Model) -> None:
    """And it is what NumPy's own histogram counts, rows on an edge included."""
    histograms = model.manifest.reference.features
    rows = RNG.uniform(0, 10, (400, 4))
    for column, histogram in enumerate(histograms):
        rows[: len(histogram.edges), column] = histogram.edges
    given = bodies(model, rows)
    singly, at_once = Metrics(), Metrics()
    one, other = PredictionCounter(singly, model), PredictionCounter(at_once, model)
    for row in given:
        STORE.add(one.of(model.answer(json.dumps(row).encode())[1]))
    STORE.add(other.of(model.answer(json.dumps(given).encode())[1]))
    assert one.live() == other.live()
    seen = rows.astype(model.runtime.dtype)
    for column, (histogram, counts) in enumerate(zip(histograms, one.live().features, strict=True)):
        edges = np.array(histogram.edges, model.runtime.dtype)
        expected = np.histogram(seen[:, column], bins=[-np.inf, *edges, np.inf])[0]
        assert counts == tuple(expected)
    for name in ("iris_prediction_confidence_sum", "iris_prediction_confidence_count"):
        assert values(singly)[name] == pytest.approx(values(at_once)[name])
    assert values(singly)["iris_request_rows_count"] == 400
    assert values(at_once)["iris_request_rows_sum"] == 400


def test_a_value_on_an_edge_is_in_the_bin_above_it(model: Model) -> None:
    """Both ways, in both runtimes: as the reference was made."""
    metrics = Metrics()
    tally = PredictionCounter(metrics, model)
    edges = np.array([histogram.edges[1] for histogram in model.manifest.reference.features])
    STORE.add(tally.of(model.answer(json.dumps(bodies(model, edges[None])[0]).encode())[1]))
    STORE.add(tally.of(model.answer(json.dumps(bodies(model, edges[None])).encode())[1]))
    assert [counts.index(2) for counts in tally.live().features] == [2, 2, 2, 2]


def test_only_the_version_itself_is_counted(model: Model) -> None:
    """Another version's bins are others."""
    metrics = Metrics()
    tally = PredictionCounter(metrics, model)
    STORE.add(tally.of(model.answer(json.dumps(bodies(model, np.ones((3, 4)))).encode())[1]))
    other = model.manifest.model_copy(update={"version": "other"})
    assert sum(live_counts(metrics.collect(), model.manifest).classes) == 3
    assert sum(live_counts(metrics.collect(), other).classes) == 0


def test_all_series_are_there_before_the_first_row(model: Model) -> None:
    """Or a scraper would miss the first of each."""
    metrics = Metrics()
    tally = PredictionCounter(metrics, model)
    names = [
        tuple(sample.labels.values())
        for metric in metrics.collect()
        for sample in metric.samples
        if sample.name == "iris_feature_rows_total"
    ]
    assert len(names) == sum(len(found.counts) for found in model.manifest.reference.features)
    facts = {metric.name: metric.samples for metric in tally.facts}
    assert facts["iris_model_info"][0].labels["model_version"] == model.version
    assert len(facts["iris_reference_rows"]) == len(names)
    assert sum(sample.value for sample in facts["iris_reference_predictions"]) == 150
    assert len(facts["iris_drift_critical_value"]) == 4
