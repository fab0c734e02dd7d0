"""Drift: how far live inputs and predictions have moved from the training rows.

The measure is the population stability index (PSI) over the bins of the manifest's reference: the
sum of (q - p) ln(q / p), where p is a bin's share of the reference and q its share of the live
rows. Half a row is added to every bin, so that PSI is finite for an empty one.

Without drift PSI is not zero. It is distributed as (1/N + 1/n) times chi-squared, for N reference
rows and n live rows, with one degree of freedom less than the number of bins (Yurdakul, 2018). So
the conventional limit of 0.25 is raised where chance alone would exceed it.
`benchmarks/drift.md` has the measured rates of false alarms and of detection.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal

from typing_extensions import TypedDict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iris_api.bundle.manifest import Manifest
    from iris_api.contract.reference import Reference

LARGE_PSI = 0.25
"""PSI of a large difference, by convention in credit scoring."""
FALSE_ALARMS = 0.01
"""Accepted share of reports that say "drifted" without drift."""
LEAST_ROWS = 100
"""Fewest live rows for a verdict."""

Verdict = Literal["ok", "drifted", "not enough rows"]


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows per bin of each feature, and per predicted class."""

    features: tuple[tuple[int, ...], ...]
    classes: tuple[int, ...]


class Comparison(TypedDict):
    """Reference and live rows per bin, and how far they differ."""

    psi: float
    threshold: float | None
    verdict: Verdict
    reference: tuple[int, ...]
    live: tuple[int, ...]


class FeatureComparison(Comparison):
    """One feature. Bin i has the values edges[i-1] <= x < edges[i]; the outer bins are open."""

    feature: str
    unit: str | None
    edges: tuple[float, ...]
    bins: list[str]


class ClassComparison(Comparison):
    """The predicted classes, compared with those predicted in cross-validation."""

    classes: tuple[str, ...]


class DriftReport(TypedDict):
    """All comparisons, and the worst verdict among them."""

    verdict: Verdict
    rows: int
    rows_needed: int
    since: str
    model_version: str
    features: list[FeatureComparison]
    predictions: ClassComparison


def report(manifest: Manifest, live: Counts, since: float) -> DriftReport:
    """Compare live counts with a model's reference.

    Args:
        manifest: The model's.
        live: Rows counted, by bin and by class.
        since: When counting began, as a Unix time.
    """
    reference = manifest.reference
    values = critical_values(reference)
    features: list[FeatureComparison] = [
        {
            "feature": spec.name,
            "unit": spec.unit,
            **compare(histogram.counts, counts, value),
            "edges": histogram.edges,
            "bins": bin_names(histogram.edges),
        }
        for spec, histogram, counts, value in zip(
            manifest.contract.features, reference.features, live.features, values, strict=False
        )
    ]
    predictions: ClassComparison = {
        "classes": manifest.contract.classes,
        **compare(reference.classes, live.classes, values[-1]),
    }
    verdicts = {predictions["verdict"], *(feature["verdict"] for feature in features)}
    worst: tuple[Verdict, ...] = ("drifted", "not enough rows", "ok")
    return {
        "verdict": next(verdict for verdict in worst if verdict in verdicts),
        "rows": sum(live.classes),
        "rows_needed": LEAST_ROWS,
        "since": datetime.fromtimestamp(since, UTC).isoformat(timespec="seconds"),
        "model_version": manifest.version,
        "features": features,
        "predictions": predictions,
    }


def compare(reference: Sequence[int], live: Sequence[int], critical: float) -> Comparison:
    """Compare two histograms over the same bins.

    Args:
        reference: Training rows per bin.
        live: Live rows per bin.
        critical: Chi-squared quantile, from `critical_values`.
    """
    rows = sum(live)
    index = psi(reference, live)
    limit = threshold(sum(reference), rows, critical) if rows else None
    verdict: Verdict = "ok"
    if limit is None or rows < LEAST_ROWS:
        verdict = "not enough rows"
    elif index > limit:
        verdict = "drifted"
    return {
        "psi": round(index, 6),
        "threshold": None if limit is None else round(limit, 6),
        "verdict": verdict,
        "reference": tuple(reference),
        "live": tuple(live),
    }


def psi(reference: Sequence[int], live: Sequence[int]) -> float:
    """Population stability index of two histograms over the same bins; 0 without live rows."""
    if not sum(live):
        return 0.0
    shares = zip(_shares(reference), _shares(live), strict=True)
    return sum((q - p) * math.log(q / p) for p, q in shares)


def threshold(reference_rows: int, live_rows: int, critical: float) -> float:
    """PSI above which a difference is both large and unlikely by chance."""
    return max(LARGE_PSI, (1 / reference_rows + 1 / live_rows) * critical)


def critical_values(reference: Reference) -> list[float]:
    """Chi-squared quantiles: one for each feature, and the last for the classes.

    The accepted rate of false alarms is divided among them (Bonferroni correction).
    """
    bins = [len(histogram.counts) for histogram in reference.features] + [len(reference.classes)]
    return [_chi_squared(1 - FALSE_ALARMS / len(bins), count - 1) for count in bins]


def bin_names(edges: Sequence[float]) -> list[str]:
    """Describe the range of each bin of a histogram."""
    numbers = [f"{edge:.4g}" for edge in edges]
    if not numbers:
        return ["all"]
    inner = [f"{low} to {high}" for low, high in pairwise(numbers)]
    return [f"below {numbers[0]}", *inner, f"from {numbers[-1]}"]


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts) + 0.5 * len(counts)
    return [(count + 0.5) / total for count in counts]


def _chi_squared(probability: float, freedom: int) -> float:
    """Approximate quantile (Wilson and Hilferty, 1931): up to 3 % too high for five comparisons."""
    if freedom == 0:
        return 0.0
    part = 2 / (9 * freedom)
    return freedom * (1 - part + NormalDist().inv_cdf(probability) * math.sqrt(part)) ** 3
