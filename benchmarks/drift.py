"""How often the drift report errs: `python -m benchmarks.drift` simulates, and writes drift.md."""

from __future__ import annotations

import math
import platform
import textwrap
from collections import Counter
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

import click

from iris_api.monitoring.drift import FALSE_ALARMS, LEAST_ROWS

from .drift_simulation import (
    ARMS,
    FEATURES,
    FIXED_LIMITS,
    SHIFTED_SIZES,
    ReportCounts,
    Shifted,
    Simulation,
    Still,
    share,
)

SIZES = (100, 200, 500, 1_000, 10_000)
STILL_TIMES = 10
"""Factor for the windows of the smallest size without drift, where false alarms are most likely."""
REQUIRED_SIZE = 200
REQUIRED_DETECTION = 0.99

SIMULATED = f"""The population has one normal distribution per iris class, fitted to the 150
training rows and clipped to the bounds of the contract; no training row is used as a live row.
Figures are percentages of {{windows:,}} windows of independent rows, and of {{many:,}} for false
alarms on {SIZES[0]} rows, where they are most frequent. *fresh* windows are compared with 150 other
new rows, drawn for each window; *shipped* ones with the shipped reference of the 150 training rows.
*exact* values are not rounded; *0.1 cm* values are rounded as flowers are measured. SD is the
standard deviation of the population. Live classes are predicted by the forest of `train.py`;
reference classes by a forest that was not fitted on the rows. Below {LEAST_ROWS} rows a report has
no verdict."""


def wilson(part: int, whole: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson, 1927)."""
    z = NormalDist().inv_cdf(0.975)
    middle = (part + z * z / 2) / (whole + z * z)
    half = z / (whole + z * z) * math.sqrt(part * (whole - part) / whole + z * z / 4)
    return max(0.0, middle - half), min(1.0, middle + half)


class Worst(NamedTuple):
    """The kinds of report that decide whether the requirement is met."""

    false_alarms: Still
    """The kind with most false alarms."""
    missed: Shifted
    """The required kind whose shift is detected least often."""


def worst(counts: ReportCounts) -> Worst:
    """The worst kinds of report."""
    kinds = {kind for kind, _ in counts}
    still = [kind for kind in kinds if isinstance(kind, Still)]
    required = [
        kind
        for kind in kinds
        if isinstance(kind, Shifted) and kind.size == REQUIRED_SIZE and abs(kind.step) == 1
    ]
    return Worst(
        max(still, key=lambda kind: (share(counts, kind, "report"), kind)),
        min(required, key=lambda kind: (share(counts, kind, "feature"), kind)),
    )


def percent(part: float) -> str:
    """A share as the tables print it."""
    return f"{100 * part:.2f}"


def still_table(counts: ReportCounts) -> list[str]:
    """Every window size without drift."""
    limits = [f"PSI > {limit}" for limit in FIXED_LIMITS]
    lines = [
        "| compared, measured | rows | windows | report | 95 % interval | features | classes | "
        + " | ".join(limits)
        + " |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for arm in ARMS:
        for size in SIZES:
            kind = Still(arm, size)
            low, high = wilson(counts[kind, "report"], counts[kind, "reports"])
            figures = [
                f"{counts[kind, 'reports']:,}",
                percent(share(counts, kind, "report")),
                f"{percent(low)} to {percent(high)}",
                *(percent(share(counts, kind, what)) for what in ("features", "classes", *limits)),
            ]
            lines.append(f"| {arm} | {size:,} | {' | '.join(figures)} |")
    return lines


def shifted_table(counts: ReportCounts, size: int, amount: float, finding: str) -> list[str]:
    """Every feature shifted up and down, in windows of one size."""
    lines = [
        f"| shifted | by | {' | '.join(map(str, ARMS))} |",
        f"|---|---:|{'---:|' * len(ARMS)}",
    ]
    for index, name in enumerate(FEATURES):
        for step in (amount, -amount):
            kinds = [Shifted(arm, size, index, step) for arm in ARMS]
            shares = " | ".join(percent(share(counts, kind, finding)) for kind in kinds)
            lines.append(f"| {name} | {step:+g} SD | {shares} |")
    return lines


def summary(counts: ReportCounts) -> list[str]:
    """What the tables show, in a few paragraphs."""
    return [
        *_requirement(counts),
        _fixed_limit(counts),
        _classes(counts),
        """Half a standard deviation is not promised. It is often missed in the sepals, and more
        rows do not always help, because the PSI of so small a change may stay below the lowest
        limit, 0.25.""",
    ]


def _requirement(counts: ReportCounts) -> list[str]:
    alarms, missed = worst(counts)
    rate, detected = share(counts, alarms, "report"), share(counts, missed, "feature")
    low, high = wilson(counts[alarms, "report"], counts[alarms, "reports"])
    least, most = wilson(counts[missed, "feature"], counts[missed, "reports"])
    met = rate <= FALSE_ALARMS and detected >= REQUIRED_DETECTION
    return [
        f"""The requirement is **{"met" if met else "not met"}**: at most {100 * FALSE_ALARMS:g} %
        of reports without drift may say "drifted" (every row of the first table), and a shift of
        one standard deviation must be detected in the shifted feature in at least
        {100 * REQUIRED_DETECTION:g} % of windows of {REQUIRED_SIZE} rows (every cell of the
        second).""",
        f"""False alarms are most frequent on {alarms.size:,} rows ({alarms.arm}): {percent(rate)} %
        (95 % interval {percent(low)} to {percent(high)} %). The shift detected least often is
        {missed.step:+g} SD of {FEATURES[missed.feature]} ({missed.arm}): {percent(detected)} %
        ({percent(least)} to {percent(most)} %).""",
    ]


def _fixed_limit(counts: ReportCounts) -> str:
    finding = f"PSI > {FIXED_LIMITS[0]}"
    rates = [share(counts, Still(ARMS[1], size), finding) for size in (100, REQUIRED_SIZE)]
    return f"""A fixed limit, "{finding}", would give a false alarm in {percent(rates[0])} % of
        reports on 100 rows and in {percent(rates[1])} % on {REQUIRED_SIZE} ({ARMS[1]})."""


def _classes(counts: ReportCounts) -> str:
    shares = {kind: share(counts, kind, "classes") for kind, _ in counts}
    still = max(part for kind, part in shares.items() if isinstance(kind, Still))
    moved = [
        [shares[Shifted(ARMS[1], REQUIRED_SIZE, index, step)] for step in (1.0, -1.0)]
        for index in range(len(FEATURES))
    ]
    by_feature = ", ".join(
        f"{name} {percent(up)} % up and {percent(down)} % down"
        for name, (up, down) in zip(FEATURES, moved, strict=True)
    )
    return f"""The classes say "drifted" in at most {percent(still)} % of reports without drift. In
        windows of {REQUIRED_SIZE} rows they detect a shift of one SD in these shares of reports
        ({ARMS[1]}): {by_feature}. They detect a shift only where it changes what the forest
        predicts; the features are what detects drift."""


def document(counts: ReportCounts, windows: int, seed: int) -> str:
    """The whole of drift.md."""
    versions = ", ".join(f"{tool} {metadata.version(tool)}" for tool in ("numpy", "scikit-learn"))
    command = f"python -m benchmarks.drift --windows {windows} --seed {seed}"
    source = f"""`{command}` wrote this on {datetime.now(UTC).date()}, with Python
        {platform.python_version()}, {versions}."""
    explained = """*report* counts reports in which a feature or the classes drifted. The last two
        columns count what a fixed limit on the largest PSI would have reported."""
    lines = [
        "# How often the drift report errs",
        "",
        _fill(source),
        "",
        *(_fill(f"- {paragraph}", "  ") for paragraph in summary(counts)),
        "",
        "## What is simulated",
        "",
        _fill(SIMULATED.format(windows=windows, many=STILL_TIMES * windows)),
        "",
        '## No drift: reports that say "drifted"',
        "",
        _fill(explained),
        "",
        *still_table(counts),
        *_shifted_sections(counts),
    ]
    return "\n".join(lines) + "\n"


def _shifted_sections(counts: ReportCounts) -> list[str]:
    lines = []
    sizes = sorted(SHIFTED_SIZES, key=lambda size: (size != REQUIRED_SIZE, size))
    for amount, title in ((1.0, "One standard deviation"), (0.5, "Half a standard deviation")):
        for size in sizes:
            lines += ["", f"## {title}, {size} rows: detected in the shifted feature", ""]
            lines += shifted_table(counts, size, amount, "feature")
            if size == REQUIRED_SIZE:
                lines += ["", "By the report as a whole:", ""]
                lines += shifted_table(counts, size, amount, "report")
                lines += ["", "By the classes alone:", ""]
                lines += shifted_table(counts, size, amount, "classes")
    return lines


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
    """Simulate drift reports, and write how often they err."""
    simulation = Simulation.of_iris()
    counts: ReportCounts = Counter()
    kinds = [(rounded, size) for rounded in (False, True) for size in SIZES]
    with click.progressbar(kinds, label=f"Simulating {windows:,} windows of each kind") as progress:
        for rounded, size in progress:
            more = (STILL_TIMES - 1) * windows if size == SIZES[0] else 0
            counts += simulation.windows(size, windows, seed, rounded=rounded, more_still=more)
    text = document(counts, windows, seed)
    out.write_text(text, encoding="utf-8")
    click.echo(text)


if __name__ == "__main__":
    drift()
