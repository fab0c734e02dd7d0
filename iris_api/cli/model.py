"""`flask --app wsgi model verify | activate | rollback | show`: which bundle serves."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click
from flask import current_app

from iris_api.bundle.store import MANIFEST, PREVIOUS, Bundle, read_manifest
from iris_api.bundle.verification import verify
from iris_api.cli.commands import OperatorGroup
from iris_api.errors import BundleError

if TYPE_CHECKING:
    from flask import Flask

    from iris_api.bundle.manifest import Manifest

model = OperatorGroup("model", help="Say which bundle serves in IRIS_MODEL_DIR.")
DIRECTORY = click.Path(exists=True, file_okay=False, path_type=Path)


def init_app(app: Flask) -> None:
    """Add the commands to `flask`."""
    app.cli.add_command(model)


@model.command("verify")
@click.argument("directory", type=DIRECTORY)
def try_out(directory: Path) -> None:
    """Load the bundle in DIRECTORY in a process of its own, and say whether it can serve."""
    click.echo(f"Fit to serve: {_described(verify(directory).manifest)}")


@model.command("activate")
@click.argument("directory", type=DIRECTORY)
def activate(directory: Path) -> None:
    """Verify the bundle in DIRECTORY and let it serve; a running server takes it up at once."""
    serving = _serving_directory()
    if serving.exists() and directory.samefile(serving):
        raise BundleError(f"{directory} is the directory that serves: activate another one")
    _activate(verify(directory), serving)


@model.command("rollback")
def rollback() -> None:
    """Let the bundle serve that did before; once more, and it is undone."""
    serving = _serving_directory()
    if not (serving / PREVIOUS).exists():
        raise BundleError(f"{serving} has had no other bundle: there is nothing to go back to")
    _activate(verify(serving, serving / PREVIOUS), serving)


@model.command("show")
def show() -> None:
    """Say which bundle serves, and which would after a rollback."""
    serving = _serving_directory()
    click.echo(f"serving   {_described(Bundle.load(serving).manifest)}")
    if (serving / PREVIOUS).exists():
        click.echo(f"previous  {_described(Bundle.load(serving, serving / PREVIOUS).manifest)}")


def _activate(bundle: Bundle, serving: Path) -> None:
    contract = None
    with suppress(BundleError):  # A bundle that is broken is mended by this.
        contract = read_manifest(serving / MANIFEST).contract
    after = bundle.activate(serving).manifest
    click.echo(f"Activated {_described(after)}")
    if contract not in {None, after.contract}:
        click.echo("Its contract is another: callers have to send or expect other things.")


def _serving_directory() -> Path:
    found: Path = current_app.extensions["iris_api"].settings.model_dir
    return found


def _described(manifest: Manifest) -> str:
    inputs, classes = len(manifest.contract.features), len(manifest.contract.classes)
    return (
        f"{manifest.name} {manifest.version} ({manifest.served.runtime}, {inputs} features, "
        f"{classes} classes, accuracy {manifest.evaluation.accuracy:.3f})"
    )
