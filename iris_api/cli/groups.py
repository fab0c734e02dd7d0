"""The click classes of all commands: an expected error is one line for the operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from flask import current_app
from flask.cli import AppGroup

from iris_api.errors import IrisError

if TYPE_CHECKING:
    from iris_api.settings import Settings


class OperatorCommand(click.Command):
    """A command that prints an `IrisError` as one line and exits with status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except IrisError as error:
            raise click.ClickException(str(error)) from error


class OperatorGroup(OperatorCommand, AppGroup):
    """A group whose commands do the same, each in the application context."""


def current_settings() -> Settings:
    """The settings of the application that runs the command."""
    settings: Settings = current_app.extensions["iris_api"].settings
    return settings
