"""A small run of `benchmarks/drift.py`: rates of false alarms and of detection."""

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
"""Accepted deviation from the promised rates, with so few windows."""


@pytest.fixture(scope="module")
def counts() -> PredictionCounter:
    """Verdicts of simulated reports, on values as drawn and rounded to 0.1 cm."""
    simulation = Simulation.of_iris(trees=20)
    exact, rounded = (
        simulation.windows(REQUIRED_SIZE, WINDOWS, seed=1, rounded=rounded)
        for rounded in (False, True)
    )
    return exact + rounded


@pytest.mark.parametrize("arm", ARMS, ids=str)
def test_few_reports_without_drift_say_drifted(counts: PredictionCounter, arm: Arm) -> None:
    """At most 1 % of reports on 200 rows without drift say "drifted", within chance."""
    cell = Still(arm, REQUIRED_SIZE)
    assert counts[cell, "reports"] == WINDOWS
    assert share(counts, cell, "report") <= 0.01 + CHANCE


@pytest.mark.parametrize("step", [1.0, -1.0])
@pytest.mark.parametrize("feature", range(len(FEATURES)), ids=FEATURES)
@pytest.mark.parametrize("arm", ARMS, ids=str)
def test_a_shift_of_one_standard_deviation_is_found(
    counts: PredictionCounter, arm: Arm, feature: int, step: float
) -> None:
    """The shifted feature says "drifted" in 99 % of windows of 200 rows, within chance."""
    cell = Shifted(arm, REQUIRED_SIZE, feature, step)
    assert counts[cell, "reports"] == WINDOWS
    assert share(counts, cell, "feature") >= 0.99 - CHANCE
