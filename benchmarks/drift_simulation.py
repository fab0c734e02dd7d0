"""Simulates drift reports: on windows of random flowers, as drawn and with one feature shifted.

The population has one normal distribution per iris class, fitted to the training rows. Each report
compares a new window with a reference: either 150 other new rows, or the shipped one. The tested
code is `iris_api.monitoring.drift` itself.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier

from iris_api.monitoring.drift import Comparison, compare, critical_values
from iris_api.training.reference import reference
from train import CONTRACT, cross_validate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from iris_api.contract.reference import Reference

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

SHIFTED_SIZES = (100, 200, 500)
STEPS = (1.0, -1.0, 0.5, -0.5)
"""Shifts, in standard deviations."""
FIXED_LIMITS = (0.1, 0.25)
"""Limits of the PSI in common use, to compare with."""
FEATURES = CONTRACT.feature_names
LOW = np.array([feature.minimum for feature in CONTRACT.features])
HIGH = np.array([feature.maximum for feature in CONTRACT.features])


class Arm(NamedTuple):
    """The reference that windows are compared with, and whether flowers are rounded to 0.1 cm."""

    reference: str
    rounded: bool

    def __str__(self) -> str:
        return f"{self.reference}, {'0.1 cm' if self.rounded else 'exact'}"


class Still(NamedTuple):
    """Reports on windows of one size without drift."""

    arm: Arm
    size: int


class Shifted(NamedTuple):
    """Reports on windows of one size, with one feature shifted by some standard deviations."""

    arm: Arm
    size: int
    feature: int
    step: float


ARMS = tuple(Arm(name, rounded) for name in ("fresh", "shipped") for rounded in (False, True))
ReportCounts = Counter[tuple[Still | Shifted, str]]
"""Reports by kind and finding; `findings` has the names."""


class Population:
    """One multivariate normal distribution per class, in the proportions of the classes."""

    def __init__(self, rows: Floats, labels: Integers) -> None:
        self.shares = np.bincount(labels) / len(labels)
        groups = [rows[labels == label] for label in range(len(self.shares))]
        self.means = np.array([group.mean(axis=0) for group in groups])
        self.factors = np.array(
            [np.linalg.cholesky(np.cov(group.T, bias=True)) for group in groups]
        )
        self.deviations = rows.std(axis=0)

    def draw(self, random: np.random.Generator, count: int) -> tuple[Floats, Integers]:
        """New rows, neither clipped nor rounded, and their true classes."""
        labels = np.repeat(np.arange(len(self.shares)), random.multinomial(count, self.shares))
        normal = random.standard_normal((count, len(self.deviations)))
        rows = np.empty_like(normal)
        for label in range(len(self.shares)):
            own = labels == label
            rows[own] = normal[own] @ self.factors[label].T + self.means[label]
        return rows, labels


class Classifier:
    """The forest of train.py as a table with a class for each cell between the forest's splits."""

    def __init__(self, rows: Floats, labels: Integers, trees: int = 100) -> None:
        forest = RandomForestClassifier(n_estimators=trees, random_state=42).fit(rows, labels)
        splits = [
            (tree.tree_.feature[node], tree.tree_.threshold[node])
            for tree in forest.estimators_
            for node in range(tree.tree_.node_count)
        ]
        self.splits = [
            np.array(sorted({value for index, value in splits if index == feature}))
            for feature in range(rows.shape[1])
        ]
        inside = [_largest_float32(values) for values in self.splits]
        grid = np.stack(np.meshgrid(*inside, indexing="ij"), axis=-1)
        classes = forest.predict(grid.reshape(-1, rows.shape[1]))
        self.table = classes.reshape(grid.shape[:-1])

    def predict(self, rows: Floats) -> Integers:
        """Index of each row's class."""
        columns = rows.astype(np.float32).T
        cells = [np.searchsorted(s, c) for s, c in zip(self.splits, columns, strict=True)]
        classes: Integers = self.table[tuple(cells)]
        return classes


@dataclass(frozen=True, slots=True)
class Simulation:
    """All that a simulated report needs."""

    population: Population
    classifier: Classifier
    rows: Floats
    predicted: Integers
    """The training rows' classes by cross-validation, as in the shipped reference."""

    @classmethod
    def of_iris(cls, trees: int = 100) -> Simulation:
        """A simulation fitted to the training rows."""
        rows, labels = load_iris(return_X_y=True)
        forest = RandomForestClassifier(n_estimators=trees, random_state=42)
        predicted = cross_validate(forest, rows, labels).argmax(axis=1)
        return cls(Population(rows, labels), Classifier(rows, labels, trees), rows, predicted)

    def windows(
        self, size: int, count: int, seed: int, *, rounded: bool, more_still: int = 0
    ) -> ReportCounts:
        """Count the findings of the reports on new windows of one size.

        Args:
            size: Rows per window.
            count: Windows that are reported on as drawn and with every shift.
            seed: Seed of the random numbers.
            rounded: Whether flowers are measured to 0.1 cm.
            more_still: Further windows, only reported on as drawn.
        """
        random = np.random.default_rng([seed, size, rounded])
        classes = len(CONTRACT.classes)
        shipped = reference(self.rows, self.predicted, classes)
        counts: ReportCounts = Counter()
        for number in range(count + more_still):
            shifts = number < count and size in SHIFTED_SIZES
            rows, _ = self.population.draw(random, len(self.rows))
            trained = measured(rows, rounded=rounded)
            fresh = reference(trained, self.classifier.predict(trained), classes)
            rows, _ = self.population.draw(random, size)
            for name, known in (("fresh", fresh), ("shipped", shipped)):
                reports = self._reports(Arm(name, rounded), known, rows, shifts=shifts)
                for kind, comparisons in reports:
                    counts.update((kind, finding) for finding in findings(kind, comparisons))
        return counts

    def _reports(
        self, arm: Arm, known: Reference, rows: Floats, *, shifts: bool
    ) -> Iterator[tuple[Still | Shifted, list[Comparison]]]:
        """The report on a window as drawn, and if wanted those on the same window shifted."""
        size = len(rows)
        reporter = Reporter(known, critical_values(known))
        window = measured(rows, rounded=arm.rounded)
        still = [reporter.feature(index, column) for index, column in enumerate(window.T)]
        yield Still(arm, size), [*still, reporter.classes(self.classifier.predict(window))]
        if not shifts:
            return
        for feature, deviation in enumerate(self.population.deviations):
            for step in STEPS:
                moved = rows.copy()
                moved[:, feature] += step * deviation
                moved = measured(moved, rounded=arm.rounded)
                report = [*still, reporter.classes(self.classifier.predict(moved))]
                report[feature] = reporter.feature(feature, moved[:, feature])
                yield Shifted(arm, size, feature, step), report


@dataclass(frozen=True, slots=True)
class Reporter:
    """Counts live values by bin as the service does, and compares them with a reference."""

    known: Reference
    critical: list[float]

    def feature(self, index: int, column: Floats) -> Comparison:
        """Compare one feature."""
        histogram = self.known.features[index]
        bins = np.searchsorted(np.array(histogram.edges), column, side="right")
        live = np.bincount(bins, minlength=len(histogram.counts)).tolist()
        return compare(histogram.counts, live, self.critical[index])

    def classes(self, predicted: Integers) -> Comparison:
        """Compare the predicted classes."""
        live = np.bincount(predicted, minlength=len(self.known.classes)).tolist()
        return compare(self.known.classes, live, self.critical[-1])


def measured(rows: Floats, *, rounded: bool) -> Floats:
    """Rows within the contract's bounds, rounded to 0.1 cm if wanted."""
    clipped = rows.clip(LOW, HIGH)
    return clipped.round(1) if rounded else clipped


def findings(kind: Still | Shifted, comparisons: Sequence[Comparison]) -> Iterator[str]:
    """What is true of one report.

    `reports` is true of every report; `report`, `features`, `classes` and `feature` say that it,
    any feature, the classes or the shifted feature drifted; `PSI > ...` that the largest PSI is
    over a fixed limit.
    """
    drifted = [comparison["verdict"] == "drifted" for comparison in comparisons]
    largest = max(comparison["psi"] for comparison in comparisons)
    yield "reports"
    if any(drifted):
        yield "report"
    if drifted[-1]:
        yield "classes"
    if any(drifted[:-1]):
        yield "features"
    if isinstance(kind, Shifted) and drifted[kind.feature]:
        yield "feature"
    yield from (f"PSI > {limit}" for limit in FIXED_LIMITS if largest > limit)


def share(counts: ReportCounts, kind: Still | Shifted, finding: str) -> float:
    """Share of the reports of a kind that have a finding."""
    return counts[kind, finding] / counts[kind, "reports"]


def _largest_float32(splits: Floats) -> Floats:
    """For each split the largest float32 not above it, and a value above them all."""
    near = splits.astype(np.float32)
    below = np.nextafter(near, np.float32(-np.inf))
    return np.append(np.where(near > splits, below, near).astype(np.float64), splits[-1] + 1)
