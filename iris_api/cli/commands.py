"""What the commands of `flask` have in common: an error is one line for the operator."""

from __future__ import annotations

from typing import Any

import click
from flask.cli import AppGroup

from iris_api.errors import IrisError


class OneLineErrors(click.Command):
    """A command whose errors are one line for the operator."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error of ours ends it as click's own do."""
        try:
            return super().invoke(ctx)
        except IrisError as error:
            raise click.ClickException(str(error)) from error


class OperatorGroup(OneLineErrors, AppGroup):
    """A group of such commands."""
