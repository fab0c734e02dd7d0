"""The command line: `flask --app wsgi keys | model | drift | score`.

The room owns what an operator types and reads: one module a command or group of commands. Settings
and paths enter; lines of text and an exit status leave. A mistake of the operator is one line on
stderr and status 1, never a traceback (`groups`). The commands delegate to the other rooms (all but
`server`) and work before there is a key file or a model, unless they need it. Begin reading at
`keys`; `score` is the longest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import drift, keys, model, score

if TYPE_CHECKING:
    from flask import Flask


def init_app(app: Flask) -> None:
    """Add all commands to `flask`."""
    for command in (keys.keys, model.model, drift.drift, score.score):
        app.cli.add_command(command)
