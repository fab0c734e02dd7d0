from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy.stats import chi2
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from iris_api.bundle.store import Bundle
from iris_api.contract.reference import Histogram, Reference
from iris_api.monitoring.drift import (
    LEAST_ROWS,
    Counts,
    bin_names,
    compare,
    critical_values,
    psi,
    report,
    threshold,
)
from iris_api.training.reference import reference

if TYPE_CHECKING:
    from iris_api.bundle.manifest import Manifest

REFERENCE = (30, 30, 30, 30, 30)


@pytest.fixture(scope="module")
def manifest(trained: object) -> Manifest:
    """The manifest of the shipped model."""
    return Bundle.load(trained).manifest  # type: ignore[arg-type]


def test_psi_follows_its_definition() -> None:
    """The sum of (q - p) ln(q / p), with half a row added to each bin."""
    p, q = (10.5 / 31, 20.5 / 31), (3.5 / 11, 7.5 / 11)
    expected = sum((b - a) * math.log(b / a) for a, b in zip(p, q, strict=True))
    assert psi((10, 20), (3, 7)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("live", "verdict"),
    [
        ((0, 0, 0, 0, 0), "not enough rows"),
        ((LEAST_ROWS - 1, 0, 0, 0, 0), "not enough rows"),
        ((200, 0, 0, 0, 0), "drifted"),
        ((40, 45, 35, 38, 42), "ok"),
        ((10**9, 10**9, 10**9, 10**9, 10**9), "ok"),
    ],
)
def test_a_comparison_has_a_verdict(live: tuple[int, ...], verdict: str) -> None:
    """Too few rows never drift, and PSI is finite with empty bins."""
    comparison = compare(REFERENCE, live, critical=17)
    assert comparison["verdict"] == verdict
    assert math.isfinite(comparison["psi"])
    assert (comparison["threshold"] is None) == (not sum(live))


def test_the_threshold_falls_to_the_conventional_limit() -> None:
    """With many rows, chance explains less."""
    assert threshold(150, 100, 17) == pytest.approx((1 / 150 + 1 / 100) * 17)
    assert threshold(150, 10**6, 17) == 0.25


@pytest.mark.parametrize("bins", range(2, 12))
def test_critical_values_approximate_chi_squared_from_above(bins: int) -> None:
    """At the rate of false alarms divided by the number of comparisons."""
    even = Histogram(edges=tuple(range(bins - 1)), counts=(1,) * bins)
    values = critical_values(Reference(features=(even,) * 4, classes=(1,) * bins))
    exact = chi2.ppf(1 - 0.01 / 5, bins - 1)
    assert len(values) == 5
    assert all(exact <= value <= 1.03 * exact for value in values)


def test_a_feature_that_never_varied_does_not_drift() -> None:
    """It has one bin with all rows."""
    constant = Reference(features=(Histogram(edges=(), counts=(9,)),), classes=(4, 5))
    assert critical_values(constant)[0] == 0
    assert compare((9,), (500,), 0)["verdict"] == "ok"


def test_a_report_names_the_feature_that_drifted(manifest: Manifest) -> None:
    """One drifted feature makes the whole report say so."""
    reference = manifest.reference
    same = tuple(histogram.counts for histogram in reference.features)
    moved = ((sum(same[0]), *[0] * (len(same[0]) - 1)), *same[1:])
    for features, verdict in ((same, "ok"), (moved, "drifted")):
        result = report(manifest, Counts(features, reference.classes), since=0)
        assert result["verdict"] == verdict
        assert result["features"][0]["verdict"] == verdict
        assert {feature["verdict"] for feature in result["features"][1:]} == {"ok"}
        assert result["predictions"]["verdict"] == "ok"
    assert (result["since"], result["rows"]) == ("1970-01-01T00:00:00+00:00", 150)


@pytest.mark.parametrize(
    ("edges", "names"),
    [
        ((), ["all"]),
        ((1.0,), ["below 1", "from 1"]),
        ((0.25, 3.1500000000000004), ["below 0.25", "0.25 to 3.15", "from 3.15"]),
    ],
)
def test_bins_have_short_names(edges: tuple[float, ...], names: list[str]) -> None:
    """Their ranges, with four significant digits."""
    assert bin_names(edges) == names


def test_a_classifier_that_favours_a_class_has_not_drifted() -> None:
    """Live predictions are compared with predictions; compared with true classes they drift."""
    random = np.random.default_rng(3)

    def draw(count: int) -> tuple[Any, Any]:
        labels = (random.random(count) < 0.28).astype(int)
        return random.normal(labels[:, None] * 0.5, 1.0, (count, 1)), labels

    rows, labels = draw(1000)
    predicted = cross_val_predict(LogisticRegression(), rows, labels)
    estimator = LogisticRegression().fit(rows, labels)
    verdicts = {"true": 0, "predicted": 0}
    for name, classes in (("true", labels), ("predicted", predicted)):
        known = reference(rows, classes, 2)
        for _ in range(300):
            live = np.bincount(estimator.predict(draw(500)[0]), minlength=2).tolist()
            comparison = compare(known.classes, live, critical_values(known)[-1])
            verdicts[name] += comparison["verdict"] == "drifted"
    assert verdicts["true"] > 150, "this classifier favours a class"
    assert verdicts["predicted"] <= 3
