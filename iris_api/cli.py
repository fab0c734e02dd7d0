"""The command line: `flask --app wsgi keys add | list | revoke`."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

import click
from flask import current_app
from flask.cli import AppGroup

from .exceptions import IrisError, SettingsError
from .keys import KeyFile

if TYPE_CHECKING:
    from flask import Flask


class OperatorGroup(AppGroup):
    """Commands whose errors are one line for the operator."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error of ours ends it as click's own do."""
        try:
            return super().invoke(ctx)
        except IrisError as error:
            raise click.ClickException(str(error)) from error


keys = OperatorGroup("keys", help="Manage the API keys in IRIS_API_KEYS_FILE.")


def init_app(app: Flask) -> None:
    """Add the commands to `flask`."""
    app.cli.add_command(keys)


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
