"""A small run of the simulation in `benchmarks/`: the drift report keeps its promises."""

from __future__ import annotations

import pytest

from benchmarks.drift import REQUIRED_SIZE
from benchmarks.drift_simulation import (
    ARMS,
    FEATURES,
    Arm,
    ReportCounts,
    Shifted,
    Simulation,
    Still,
    share,
)

WINDOWS = 200
CHANCE = 0.01
"""Deviation from the promised rates that so few windows may show."""


@pytest.fixture(scope="module")
def counts() -> ReportCounts:
    simulation = Simulation.of_iris(trees=20)
    exact, rounded = (
        simulation.windows(REQUIRED_SIZE, WINDOWS, seed=1, rounded=rounded)
        for rounded in (False, True)
    )
    return exact + rounded


@pytest.mark.parametrize("arm", ARMS, ids=str)
def test_few_reports_without_drift_say_drifted(counts: ReportCounts, arm: Arm) -> None:
    """At most 1 % of reports on 200 rows without drift say "drifted", within chance."""
    kind = Still(arm, REQUIRED_SIZE)
    assert counts[kind, "reports"] == WINDOWS
    assert share(counts, kind, "report") <= 0.01 + CHANCE


@pytest.mark.parametrize("step", [1.0, -1.0])
@pytest.mark.parametrize("feature", range(len(FEATURES)), ids=FEATURES)
@pytest.mark.parametrize("arm", ARMS, ids=str)
def test_a_shift_of_one_standard_deviation_is_detected(
    counts: ReportCounts, arm: Arm, feature: int, step: float
) -> None:
    """The shifted feature says "drifted" in 99 % of windows of 200 rows, within chance."""
    kind = Shifted(arm, REQUIRED_SIZE, feature, step)
    assert counts[kind, "reports"] == WINDOWS
    assert share(counts, kind, "feature") >= 0.99 - CHANCE
