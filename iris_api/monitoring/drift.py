"""Whether live inputs and predictions still look like the training rows.

The measure is the population stability index (PSI) over the bins of the manifest's reference:
the sum over bins of (q - p) ln(q / p), p the reference's share of a bin and q the live one's, with
half a row added to every bin so that an empty one counts for something finite.

Without any drift PSI is not zero: it is distributed as (1/N + 1/n) times chi-squared with one
degree of freedom less than there are bins, for N reference rows and n live ones (Yurdakul, 2018).
So the usual limit of 0.25 is raised where chance alone would pass it.
`benchmarks/drift.md` has the measured rates of false alarms and of detection that follow.
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
"""PSI from which a difference matters, by the convention of credit scoring."""
FALSE_ALARMS = 0.01
"""Reports without drift that may say there is one, all features and the classes together."""
LEAST_ROWS = 100
"""Live rows below which no verdict is given."""

Verdict = Literal["ok", "drifted", "not enough rows"]


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows per bin of each feature, and per predicted class."""

    features: tuple[tuple[int, ...], ...]
    classes: tuple[int, ...]


class Comparison(TypedDict):
    """Reference and live rows side by side, and what the difference amounts to."""

    psi: float
    threshold: float | None
    verdict: Verdict
    reference: tuple[int, ...]
    live: tuple[int, ...]


class FeatureComparison(Comparison):
    """One feature. Bin i holds edges[i-1] <= x < edges[i]; the outer two are open-ended."""

    feature: str
    unit: str | None
    edges: tuple[float, ...]
    bins: list[str]


class ClassComparison(Comparison):
    """The predicted classes, against the classes of the training rows."""

    classes: tuple[str, ...]


class DriftReport(TypedDict):
    """All comparisons, and the worst of their verdicts."""

    verdict: Verdict
    rows: int
    rows_needed: int
    since: str
    model_version: str
    features: list[FeatureComparison]
    predictions: ClassComparison


def report(manifest: Manifest, live: Counts, since: float) -> DriftReport:
    """Compare what was counted since a Unix time with a model's reference."""
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
    """One comparison of rows per bin.

    Args:
        reference: Rows per bin at training.
        live: Rows in the same bins since.
        critical: Chi-squared quantile for chance, from `critical_values`.
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
    """Population stability index of two histograms over the same bins; 0 where no row is live."""
    if not sum(live):
        return 0.0
    expected, found = _shares(reference), _shares(live)
    return sum((q - p) * math.log(q / p) for p, q in zip(expected, found, strict=True))


def threshold(reference_rows: int, live_rows: int, critical: float) -> float:
    """PSI above which a difference is both large and no accident."""
    return max(LARGE_PSI, (1 / reference_rows + 1 / live_rows) * critical)


def critical_values(reference: Reference) -> list[float]:
    """Chi-squared quantile for each feature, and last for the classes.

    The rate of false alarms is shared out among all of them (Bonferroni).
    """
    bins = [len(histogram.counts) for histogram in reference.features] + [len(reference.classes)]
    return [_chi_squared(1 - FALSE_ALARMS / len(bins), count - 1) for count in bins]


def bin_names(edges: Sequence[float]) -> list[str]:
    """What each bin of a histogram holds, in words."""
    told = [f"{edge:.4g}" for edge in edges]
    if not told:
        return ["all"]
    inner = [f"{low} to {high}" for low, high in pairwise(told)]
    return [f"below {told[0]}", *inner, f"from {told[-1]}"]


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts) + 0.5 * len(counts)
    return [(count + 0.5) / total for count in counts]


def _chi_squared(probability: float, freedom: int) -> float:
    """Quantile by Wilson and Hilferty (1931): at most 3 % too high for five comparisons."""
    if freedom == 0:
        return 0.0
    part = 2 / (9 * freedom)
    return freedom * (1 - part + NormalDist().inv_cdf(probability) * math.sqrt(part)) ** 3
