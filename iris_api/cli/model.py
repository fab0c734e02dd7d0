"""`flask --app wsgi model verify | activate | rollback | show`: which bundle is served."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from iris_api.bundle.store import MANIFEST, PREVIOUS, Bundle, read_manifest
from iris_api.bundle.verification import verify
from iris_api.errors import BundleError

from .groups import OperatorGroup, current_settings

if TYPE_CHECKING:
    from iris_api.bundle.manifest import Manifest

model = OperatorGroup("model", help="Show or change the bundle served from IRIS_MODEL_DIR.")
DIRECTORY = click.Path(exists=True, file_okay=False, path_type=Path)


@model.command("verify")
@click.argument("directory", type=DIRECTORY)
def verify_bundle(directory: Path) -> None:
    """Load the bundle in DIRECTORY in a separate process, and say whether it can be served."""
    click.echo(f"Fit to serve: {_summary(verify(directory).manifest)}")


@model.command("activate")
@click.argument("directory", type=DIRECTORY)
def activate(directory: Path) -> None:
    """Verify the bundle in DIRECTORY and serve it; a running server loads it at once."""
    serving = current_settings().model_dir
    if serving.exists() and directory.samefile(serving):
        raise BundleError(f"{directory} is the directory that serves: activate another one")
    _activate(verify(directory), serving)


@model.command("rollback")
def rollback() -> None:
    """Serve the previous bundle again; a second rollback undoes the first."""
    serving = current_settings().model_dir
    if not (serving / PREVIOUS).exists():
        raise BundleError(f"{serving} has no previous bundle: there is nothing to go back to")
    _activate(verify(serving, serving / PREVIOUS), serving)


@model.command("show")
def show() -> None:
    """Show which bundle is served, and which one a rollback would serve."""
    serving = current_settings().model_dir
    click.echo(f"serving   {_summary(Bundle.load(serving).manifest)}")
    if (serving / PREVIOUS).exists():
        click.echo(f"previous  {_summary(Bundle.load(serving, serving / PREVIOUS).manifest)}")


def _activate(bundle: Bundle, serving: Path) -> None:
    before = None
    with suppress(BundleError):  # Activating a good bundle is how a broken one is repaired.
        before = read_manifest(serving / MANIFEST).contract
    manifest = bundle.activate(serving).manifest
    click.echo(f"Activated {_summary(manifest)}")
    if before not in {None, manifest.contract}:
        click.echo("Its contract is another: callers have to send or expect other things.")


def _summary(manifest: Manifest) -> str:
    inputs, classes = len(manifest.contract.features), len(manifest.contract.classes)
    return (
        f"{manifest.name} {manifest.version} ({manifest.served.runtime}, {inputs} features, "
        f"{classes} classes, accuracy {manifest.evaluation.accuracy:.3f})"
    )
