"""A small run of `benchmarks/drift.py`: the drift report keeps its promises."""

from __future__ import annotations

import pytest

from benchmarks.drift import (
    ARMS,
    FEATURES,
    REQUIRED_SIZE,
    Arm,
    PredictionCounter,
    Shifted,
    Simulation,
    Still,
    share,
)

WINDOWS = 200
CHANCE = 0.01
"""What so few windows may be off the promised rates."""


@pytest.fixture(scope="module")
def tally() -> PredictionCounter:
    simulation = Simulation.of_iris(trees=20)
    exact, rounded = (
        simulation.windows(REQUIRED_SIZE, WINDOWS, seed=1, rounded=rounded)
        for rounded in (False, True)
    )
    return exact + rounded


@pytest.mark.parametrize("arm", ARMS, ids=str)
def test_few_reports_without_drift_say_drifted(tally: PredictionCounter, arm: Arm) -> None:
    """At most 1 % of reports on 200 rows without drift say "drifted", give or take chance."""
    cell = Still(arm, REQUIRED_SIZE)
    assert tally[cell, "reports"] == WINDOWS
    assert share(tally, cell, "report") <= 0.01 + CHANCE


@pytest.mark.parametrize("step", [1.0, -1.0])
@pytest.mark.parametrize("feature", range(len(FEATURES)), ids=FEATURES)
@pytest.mark.parametrize("arm", ARMS, ids=str)
def test_a_shift_of_one_standard_deviation_is_found(
    tally: PredictionCounter, arm: Arm, feature: int, step: float
) -> None:
    """The shifted feature says "drifted" in 99 % of windows of 200 rows, give or take chance."""
    cell = Shifted(arm, REQUIRED_SIZE, feature, step)
    assert tally[cell, "reports"] == WINDOWS
    assert share(tally, cell, "feature") >= 0.99 - CHANCE
