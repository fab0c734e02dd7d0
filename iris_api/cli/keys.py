"""`flask --app wsgi keys add | list | revoke`: who may call the service."""

from __future__ import annotations

from operator import itemgetter

import click

from iris_api.errors import SettingsError
from iris_api.web.keys import KeyFile

from .groups import OperatorGroup, current_settings

keys = OperatorGroup("keys", help="Manage the API keys in IRIS_API_KEYS_FILE.")


@keys.command("add")
@click.argument("name")
def add(name: str) -> None:
    """Make a key for NAME, print it once, and store its digest."""
    click.echo(_key_file().add(name))
    click.echo(f"Stored the digest for {name}. The key is shown only this once.", err=True)


@keys.command("list")
def show() -> None:
    """List the names that have a key."""
    for digest, name in sorted(_key_file().digests().items(), key=itemgetter(1)):
        click.echo(f"{name}  sha256:{digest[:12]}")


@keys.command("revoke")
@click.argument("name")
def revoke(name: str) -> None:
    """Remove the key of NAME; running servers refuse it from the next request on."""
    _key_file().revoke(name)
    click.echo(f"Revoked {name}.")


def _key_file() -> KeyFile:
    path = current_settings().api_keys_file
    if path is None:
        raise SettingsError("set IRIS_API_KEYS_FILE to the file for the digests of the keys")
    return KeyFile(path)
