"""`flask --app wsgi drift`: the drift report of the running server, as bars of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from flask.cli import with_appcontext

from iris_api.bundle.store import Bundle
from iris_api.errors import SettingsError
from iris_api.monitoring.counter_directory import directory_for, is_live, started_at
from iris_api.monitoring.drift import report
from iris_api.monitoring.prediction_counts import live_counts
from iris_api.monitoring.storage import read_metrics

from .groups import OperatorCommand, current_settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from iris_api.bundle.manifest import Manifest
    from iris_api.monitoring.drift import Comparison
    from iris_api.settings import Settings

BAR_WIDTH = 40
"""Characters of a bar of 100 percent."""


@click.command("drift", cls=OperatorCommand)
@with_appcontext
def drift() -> None:
    """Compare what the running server has seen with the training rows.

    It reads the counters of the server on this machine that has the same settings.
    """
    settings = current_settings()
    manifest = Bundle.load(settings.model_dir).manifest
    path = _counters(settings)
    since = _loaded_at(path, manifest, settings)
    result = report(manifest, live_counts(read_metrics(path), manifest), since)
    click.echo(
        f"{result['verdict']}: {result['rows']:,} rows ({result['rows_needed']} are needed) since "
        f"{result['since']}, model {manifest.name} {manifest.version}\n\n"
        "In percent: ░ training rows, █ live rows. PSI over its limit is drift."
    )
    for feature in result["features"]:
        unit = f" ({feature['unit']})" if feature["unit"] else ""
        _show(f"{feature['feature']}{unit}", feature, feature["bins"])
    _show("predicted class", result["predictions"], result["predictions"]["classes"])


def _counters(settings: Settings) -> Path:
    """The directory in which the running server counts."""
    path = directory_for(settings)
    if not is_live(path):
        raise SettingsError(
            f"no server of this user runs on {settings.host}, port {settings.port}: set IRIS_HOST "
            f"and PORT to those of the running server (its counters would be in {path})"
        )
    return path


def _loaded_at(path: Path, manifest: Manifest, settings: Settings) -> float:
    """When the server loaded this version, as Unix time."""
    try:
        return started_at(path, manifest.version)
    except FileNotFoundError as error:
        raise SettingsError(
            f"the server has not loaded version {manifest.version} of {settings.model_dir}: "
            "its log says why"
        ) from error


def _show(title: str, comparison: Comparison, names: Sequence[str]) -> None:
    limit = "none yet" if comparison["threshold"] is None else f"{comparison['threshold']:.3f}"
    click.echo(f"\n{title}: {comparison['verdict']}, PSI {comparison['psi']:.3f}, limit {limit}")
    width = max(map(len, names))
    reference, live = comparison["reference"], comparison["live"]
    for name, *counts in zip(names, reference, live, strict=True):
        totals = (sum(reference), sum(live))
        for label, count, total, mark in zip((name, ""), counts, totals, "░█", strict=True):
            share = count / (total or 1)
            bar = mark * round(share * BAR_WIDTH)
            click.echo(f"  {label:>{width}} {100 * share:5.1f} {bar}".rstrip())
