"""`flask --app wsgi keys add | list | revoke`, and `flask --app wsgi drift`."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

import click
from flask import current_app
from flask.cli import with_appcontext

from iris_api.bundle.store import Bundle
from iris_api.cli.commands import OneLineErrors, OperatorGroup
from iris_api.errors import SettingsError
from iris_api.monitoring.counter_directory import directory_for, is_live, started_at
from iris_api.monitoring.drift import report
from iris_api.monitoring.prediction_counts import live_counts
from iris_api.monitoring.storage import read_metrics
from iris_api.web.keys import KeyFile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flask import Flask

    from iris_api.monitoring.drift import Comparison


BAR = 40
"""Characters of a bar that stands for all rows."""


keys = OperatorGroup("keys", help="Manage the API keys in IRIS_API_KEYS_FILE.")


def init_app(app: Flask) -> None:
    """Add the commands to `flask`."""
    app.cli.add_command(keys)
    app.cli.add_command(drift)


def key_file() -> KeyFile:
    """The file that the settings name."""
    path = current_app.extensions["iris_api"].settings.api_keys_file
    if path is None:
        raise SettingsError("set IRIS_API_KEYS_FILE to the file that holds the digests first")
    return KeyFile(path)


@keys.command("add")
@click.argument("name")
def add(name: str) -> None:
    """Make a key for NAME, print it once, and store its digest."""
    click.echo(key_file().add(name))
    click.echo(f"Stored the digest for {name}. The key is shown only this once.", err=True)


@keys.command("list")
def show() -> None:
    """List the names that have a key."""
    for digest, name in sorted(key_file().digests().items(), key=itemgetter(1)):
        click.echo(f"{name}  sha256:{digest[:12]}")


@keys.command("revoke")
@click.argument("name")
def revoke(name: str) -> None:
    """Forget the key of NAME; running servers refuse it from the next request on."""
    key_file().revoke(name)
    click.echo(f"Revoked {name}.")


@click.command("drift", cls=OneLineErrors)
@with_appcontext
def drift() -> None:
    """Compare what the running server has seen with the training rows.

    It reads the counters of the server on this machine that has the same settings.
    """
    settings = current_app.extensions["iris_api"].settings
    manifest = Bundle.load(settings.model_dir).manifest
    path = directory_for(settings)
    if not is_live(path):
        where = f"{settings.host}, port {settings.port}"
        told = f"no server of this user runs on {where}, by the settings of this command"
        raise SettingsError(f"{told}: give it IRIS_HOST and PORT of the one that runs ({path})")
    try:
        since = started_at(path, manifest.version)
    except FileNotFoundError as error:
        told = f"the server has not taken up version {manifest.version}"
        raise SettingsError(f"{told} of {settings.model_dir}: its log says why") from error
    found = report(manifest, live_counts(read_metrics(path), manifest), since)
    click.echo(
        f"{found['verdict']}: {found['rows']:,} rows ({found['rows_needed']} are needed) since "
        f"{found['since']}, model {manifest.name} {manifest.version}\n\n"
        "In percent: ░ training rows, █ live rows. PSI over its limit is drift."
    )
    for feature in found["features"]:
        title = (
            f"{feature['feature']} ({feature['unit']})" if feature["unit"] else feature["feature"]
        )
        _show(title, feature, feature["bins"])
    _show("predicted class", found["predictions"], found["predictions"]["classes"])


def _show(title: str, comparison: Comparison, names: Sequence[str]) -> None:
    limit = "none yet" if comparison["threshold"] is None else f"{comparison['threshold']:.3f}"
    click.echo(f"\n{title}: {comparison['verdict']}, PSI {comparison['psi']:.3f}, limit {limit}")
    width = max(map(len, names))
    for name, *counts in zip(names, comparison["reference"], comparison["live"], strict=True):
        for label, count, of, mark in zip(
            (name, ""), counts, (comparison["reference"], comparison["live"]), "░█", strict=True
        ):
            share = count / (sum(of) or 1)
            bar = mark * round(share * BAR)
            click.echo(f"  {label:>{width}} {100 * share:5.1f} {bar}".rstrip())
