"""Does the drift report tell the truth? `python -m benchmarks.drift` simulates and writes a table.

The population is smooth: one normal distribution per iris class, fitted to the training rows.
Each report compares a window drawn fresh from it with a reference, which is either 150 other fresh
rows or the shipped one. What is tested is `iris_api.drift` itself.
"""

from __future__ import annotations

import math
import platform
import textwrap
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import click
import numpy as np
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier

from iris_api.monitoring.drift import FALSE_ALARMS, LEAST_ROWS, Comparison, compare, critical_values
from iris_api.training.reference import reference
from train import CONTRACT, cross_validate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from iris_api.contract.reference import Reference

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

SIZES = (100, 200, 500, 1_000, 10_000)
SHIFTED_SIZES = (100, 200, 500)
STEPS = (1.0, -1.0, 0.5, -0.5)
STILL_TIMES = 10
"""So many times more windows without drift of the smallest size: there false alarms are most."""
REQUIRED_SIZE = 200
REQUIRED_DETECTION = 0.99
NAIVE = (0.1, 0.25)
FEATURES = CONTRACT.feature_names
LOW = np.array([feature.minimum for feature in CONTRACT.features])
HIGH = np.array([feature.maximum for feature in CONTRACT.features])


class Arm(NamedTuple):
    """What windows are compared with, and how flowers are measured."""

    reference: str
    rounded: bool

    def __str__(self) -> str:
        return f"{self.reference}, {'0.1 cm' if self.rounded else 'exact'}"


class Still(NamedTuple):
    """Reports of one window size, without drift."""

    arm: Arm
    size: int


class Shifted(NamedTuple):
    """Reports of one window size, with one feature shifted by so many standard deviations."""

    arm: Arm
    size: int
    feature: int
    step: float


ARMS = tuple(Arm(name, rounded) for name in ("fresh", "shipped") for rounded in (False, True))
PredictionCounter = Counter[tuple[Still | Shifted, str]]


class Population:
    """One multivariate normal per class, in the classes' shares."""

    def __init__(self, rows: Floats, labels: Integers) -> None:
        self.shares = np.bincount(labels) / len(labels)
        groups = [rows[labels == label] for label in range(len(self.shares))]
        self.means = np.array([group.mean(axis=0) for group in groups])
        self.factors = np.array(
            [np.linalg.cholesky(np.cov(group.T, bias=True)) for group in groups]
        )
        self.deviations = rows.std(axis=0)

    def draw(self, random: np.random.Generator, count: int) -> tuple[Floats, Integers]:
        """Fresh rows, not yet measured, and their true classes."""
        labels = np.repeat(np.arange(len(self.shares)), random.multinomial(count, self.shares))
        normal = random.standard_normal((count, len(self.deviations)))
        rows = np.empty_like(normal)
        for label in range(len(self.shares)):
            own = labels == label
            rows[own] = normal[own] @ self.factors[label].T + self.means[label]
        return rows, labels


class Classifier:
    """The forest of train.py as a table: one look-up per row, for all rows between its splits."""

    def __init__(self, rows: Floats, labels: Integers, trees: int = 100) -> None:
        forest = RandomForestClassifier(n_estimators=trees, random_state=42).fit(rows, labels)
        splits = [
            (tree.tree_.feature[node], tree.tree_.threshold[node])
            for tree in forest.estimators_
            for node in range(tree.tree_.node_count)
        ]
        self.splits = [
            np.array(sorted({value for feature, value in splits if feature == wanted}))
            for wanted in range(rows.shape[1])
        ]
        inside = [_largest_float32(values) for values in self.splits]
        grid = np.stack(np.meshgrid(*inside, indexing="ij"), axis=-1)
        classes = forest.predict(grid.reshape(-1, rows.shape[1]))
        self.table = classes.reshape(grid.shape[:-1])

    def predict(self, rows: Floats) -> Integers:
        """Index of each row's class."""
        single = rows.astype(np.float32)
        cells = [np.searchsorted(s, c) for s, c in zip(self.splits, single.T, strict=True)]
        found: Integers = self.table[tuple(cells)]
        return found


@dataclass(frozen=True, slots=True)
class Simulation:
    """All that a simulated report needs."""

    population: Population
    classifier: Classifier
    rows: Floats
    predicted: Integers
    """The training rows' classes by cross-validation, as the shipped reference has them."""

    @classmethod
    def of_iris(cls, trees: int = 100) -> Simulation:
        """Fitted to the training rows."""
        rows, labels = load_iris(return_X_y=True)
        forest = RandomForestClassifier(n_estimators=trees, random_state=42)
        predicted = cross_validate(forest, rows, labels).argmax(axis=1)
        return cls(Population(rows, labels), Classifier(rows, labels, trees), rows, predicted)

    def windows(
        self, size: int, count: int, seed: int, *, rounded: bool, more_still: int = 0
    ) -> PredictionCounter:
        """PredictionCounter what the reports on fresh windows of one size say.

        Args:
            size: Rows per window.
            count: Windows that are reported on as they are, and shifted in every way.
            seed: Of the random numbers.
            rounded: Whether flowers are measured to 0.1 cm.
            more_still: Further windows, only reported on as they are.
        """
        random = np.random.default_rng([seed, size, rounded])
        classes = len(CONTRACT.classes)
        shipped = reference(self.rows, self.predicted, classes)
        tally: PredictionCounter = Counter()
        for number in range(count + more_still):
            shifts = number < count and size in SHIFTED_SIZES
            rows, _ = self.population.draw(random, len(self.rows))
            trained = measured(rows, rounded=rounded)
            fresh = reference(trained, self.classifier.predict(trained), classes)
            rows, _ = self.population.draw(random, size)
            for name, known in (("fresh", fresh), ("shipped", shipped)):
                reports = self._reports(Arm(name, rounded), known, rows, shifts=shifts)
                for cell, comparisons in reports:
                    tally.update((cell, saying) for saying in sayings(cell, comparisons))
        return tally

    def _reports(
        self, arm: Arm, known: Reference, rows: Floats, *, shifts: bool
    ) -> Iterator[tuple[Still | Shifted, list[Comparison]]]:
        """The report on a window as drawn, and those on the same window shifted if wanted."""
        size = len(rows)
        judge = Judge(known, critical_values(known))
        seen = measured(rows, rounded=arm.rounded)
        still = [judge.feature(index, column) for index, column in enumerate(seen.T)]
        yield Still(arm, size), [*still, judge.classes(self.classifier.predict(seen))]
        if not shifts:
            return
        for feature, deviation in enumerate(self.population.deviations):
            for step in STEPS:
                moved = rows.copy()
                moved[:, feature] += step * deviation
                moved = measured(moved, rounded=arm.rounded)
                report = [*still, judge.classes(self.classifier.predict(moved))]
                report[feature] = judge.feature(feature, moved[:, feature])
                yield Shifted(arm, size, feature, step), report


@dataclass(frozen=True, slots=True)
class Judge:
    """Bins live values as the service does, and compares them with a reference."""

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
    """Rows within the contract's bounds, to 0.1 cm if wanted."""
    clipped = rows.clip(LOW, HIGH)
    return clipped.round(1) if rounded else clipped


def sayings(cell: Still | Shifted, comparisons: Sequence[Comparison]) -> Iterator[str]:
    """What is true of one report."""
    drifted = [comparison["verdict"] == "drifted" for comparison in comparisons]
    largest = max(comparison["psi"] for comparison in comparisons)
    yield "reports"
    if any(drifted):
        yield "report"
    if drifted[-1]:
        yield "classes"
    if any(drifted[:-1]):
        yield "features"
    if isinstance(cell, Shifted) and drifted[cell.feature]:
        yield "feature"
    yield from (f"naive {limit}" for limit in NAIVE if largest > limit)


def share(tally: PredictionCounter, cell: Still | Shifted, saying: str) -> float:
    """Share of a cell's reports of which something is true."""
    return tally[cell, saying] / tally[cell, "reports"]


def wilson(part: int, whole: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson, 1927)."""
    z = NormalDist().inv_cdf(0.975)
    middle = (part + z * z / 2) / (whole + z * z)
    half = z / (whole + z * z) * math.sqrt(part * (whole - part) / whole + z * z / 4)
    return max(0.0, middle - half), min(1.0, middle + half)


class Worst(NamedTuple):
    """The figures that the requirement is about."""

    false_alarms: Still
    missed: Shifted


def worst(tally: PredictionCounter) -> Worst:
    """The cell with most false alarms, and the required one with the fewest shifts found."""
    cells = {cell for cell, _ in tally}
    still = [cell for cell in cells if isinstance(cell, Still)]
    required = [
        cell
        for cell in cells
        if isinstance(cell, Shifted) and cell.size == REQUIRED_SIZE and abs(cell.step) == 1
    ]
    return Worst(
        max(still, key=lambda cell: (share(tally, cell, "report"), cell)),
        min(required, key=lambda cell: (share(tally, cell, "feature"), cell)),
    )


def percent(part: float) -> str:
    """A share as the tables print it."""
    return f"{100 * part:.2f}"


def still_table(tally: PredictionCounter) -> list[str]:
    """Every window size without drift."""
    lines = [
        "| compared, measured | rows | windows | report | 95 % interval | features | classes | "
        + " | ".join(f"PSI > {limit}" for limit in NAIVE)
        + " |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for arm in ARMS:
        for size in SIZES:
            cell = Still(arm, size)
            low, high = wilson(tally[cell, "report"], tally[cell, "reports"])
            figures = [
                f"{tally[cell, 'reports']:,}",
                percent(share(tally, cell, "report")),
                f"{percent(low)} to {percent(high)}",
                *(percent(share(tally, cell, saying)) for saying in ("features", "classes")),
                *(percent(share(tally, cell, f"naive {limit}")) for limit in NAIVE),
            ]
            lines.append(f"| {arm} | {size:,} | {' | '.join(figures)} |")
    return lines


def shifted_table(tally: PredictionCounter, size: int, amount: float, saying: str) -> list[str]:
    """Every feature shifted up and down, in windows of one size."""
    lines = [
        f"| shifted | by | {' | '.join(map(str, ARMS))} |",
        f"|---|---:|{'---:|' * len(ARMS)}",
    ]
    for index, name in enumerate(FEATURES):
        for step in (amount, -amount):
            cells = [Shifted(arm, size, index, step) for arm in ARMS]
            shares = " | ".join(percent(share(tally, cell, saying)) for cell in cells)
            lines.append(f"| {name} | {step:+g} SD | {shares} |")
    return lines


def reading(tally: PredictionCounter) -> list[str]:
    """What the tables amount to, a few sentences."""
    alarms, missed = worst(tally)
    rate, found = share(tally, alarms, "report"), share(tally, missed, "feature")
    low, high = wilson(tally[alarms, "report"], tally[alarms, "reports"])
    least, most = wilson(tally[missed, "feature"], tally[missed, "reports"])
    met = rate <= FALSE_ALARMS and found >= REQUIRED_DETECTION
    naive = [share(tally, Still(ARMS[1], size), "naive 0.1") for size in (100, REQUIRED_SIZE)]
    by_classes = {cell: share(tally, cell, "classes") for cell, _ in tally}
    still = max(part for cell, part in by_classes.items() if isinstance(cell, Still))
    moved = [
        [by_classes[Shifted(ARMS[1], REQUIRED_SIZE, index, step)] for step in (1.0, -1.0)]
        for index in range(len(FEATURES))
    ]
    by_feature = ", ".join(
        f"{name} {percent(up)} % up and {percent(down)} % down"
        for name, (up, down) in zip(FEATURES, moved, strict=True)
    )
    return [
        f"""The requirement is **{"met" if met else "not met"}**: at most {100 * FALSE_ALARMS:g} %
        of reports without drift may say "drifted" (every row of the first table), and a shift of
        one standard deviation must be found, in the shifted feature itself, in at least
        {100 * REQUIRED_DETECTION:g} % of windows of {REQUIRED_SIZE} rows (every cell of the
        second).""",
        f"""The most false alarms are {percent(rate)} % (95 % interval {percent(low)} to
        {percent(high)} %), on {alarms.size:,} rows ({alarms.arm}). The shift found least often is
        {missed.step:+g} SD of {FEATURES[missed.feature]}: {percent(found)} % ({percent(least)} to
        {percent(most)} %; {missed.arm}).""",
        f""""PSI > 0.1" would be a false alarm in {percent(naive[0])} % of reports on 100 rows and
        in {percent(naive[1])} % on {REQUIRED_SIZE} ({ARMS[1]}).""",
        f"""The classes say "drifted" in at most {percent(still)} % of reports without drift. Of
        windows of {REQUIRED_SIZE} rows shifted by one SD they notice ({ARMS[1]}): {by_feature}.
        They see a shift only where it changes what the forest answers; the features do the
        finding.""",
        """Half a standard deviation is not promised. In the sepals it is often missed, and more
        rows do not always help: so small a change may stay below the floor of 0.25.""",
    ]


def document(tally: PredictionCounter, windows: int, seed: int) -> str:
    """The whole of drift.md."""
    versions = ", ".join(f"{tool} {metadata.version(tool)}" for tool in ("numpy", "scikit-learn"))
    written = f"""`python -m benchmarks.drift --windows {windows} --seed {seed}` wrote this on
        {datetime.now(UTC).date()}, with Python {platform.python_version()}, {versions}."""
    simulated = f"""The population is one normal distribution per iris class, fitted to the 150
        training rows and clipped to the bounds of the contract; no training row is drawn again.
        Figures are percentages of {windows:,} windows of independent rows, and of
        {STILL_TIMES * windows:,} for false alarms on {SIZES[0]} rows, where they are most. *fresh*
        is compared with 150 other new rows, drawn for each window; *shipped* with the reference of
        the 150 real ones. *exact* is not rounded; *0.1 cm* is, as flowers are measured. SD is the
        population's standard deviation. Live classes are what the forest of `train.py` predicts,
        and so are reference classes, by a forest that had not seen the rows. Below {LEAST_ROWS}
        rows a report gives no verdict."""
    explained = """*report* is any feature or the classes. The last two columns are what a fixed
        limit on the largest PSI would have said."""
    lines = [
        "# Does the drift report tell the truth?",
        "",
        _fill(written),
        "",
        *(_fill(f"- {sentence}", "  ") for sentence in reading(tally)),
        "",
        "## What is simulated",
        "",
        _fill(simulated),
        "",
        '## No drift: reports that say "drifted"',
        "",
        _fill(explained),
        "",
        *still_table(tally),
    ]
    sizes = sorted(SHIFTED_SIZES, key=lambda size: (size != REQUIRED_SIZE, size))
    for amount, title in ((1.0, "One standard deviation"), (0.5, "Half a standard deviation")):
        for size in sizes:
            lines += ["", f"## {title}, {size} rows: found in the shifted feature", ""]
            lines += shifted_table(tally, size, amount, "feature")
            if size == REQUIRED_SIZE:
                lines += ["", "By the report as a whole:", ""]
                lines += shifted_table(tally, size, amount, "report")
                lines += ["", "By the classes alone:", ""]
                lines += shifted_table(tally, size, amount, "classes")
    return "\n".join(lines) + "\n"


def _fill(text: str, indent: str = "") -> str:
    """Text in lines of at most 100 characters."""
    words = " ".join(text.split())
    return textwrap.fill(words, 100, subsequent_indent=indent, break_on_hyphens=False)


@click.command()
@click.option("--windows", default=2_000, show_default=True, help="Windows per row of a table.")
@click.option("--seed", default=1, show_default=True)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("benchmarks/drift.md"),
    show_default=True,
)
def drift(windows: int, seed: int, out: Path) -> None:
    """Simulate drift reports, and write how often they are wrong."""
    simulation = Simulation.of_iris()
    tally: PredictionCounter = Counter()
    cells = [(rounded, size) for rounded in (False, True) for size in SIZES]
    with click.progressbar(cells, label=f"Simulating {windows:,} windows of each kind") as progress:
        for rounded, size in progress:
            more = (STILL_TIMES - 1) * windows if size == SIZES[0] else 0
            tally += simulation.windows(size, windows, seed, rounded=rounded, more_still=more)
    text = document(tally, windows, seed)
    out.write_text(text, encoding="utf-8")
    click.echo(text)


def _largest_float32(splits: Floats) -> Floats:
    """For each split the largest float32 not above it, and a value above them all."""
    near = splits.astype(np.float32)
    below = np.nextafter(near, np.float32(-np.inf))
    return np.append(np.where(near > splits, below, near).astype(np.float64), splits[-1] + 1)


if __name__ == "__main__":
    drift()
