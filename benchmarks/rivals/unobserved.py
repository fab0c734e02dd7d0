"""The service without its log line and its metrics: what they cost is the difference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iris_api import create_app, logs, metrics

if TYPE_CHECKING:
    from flask import Flask


def nothing(app: Flask) -> None:
    """In the place of what is measured."""


logs.init_app = metrics.init_app = nothing

app = create_app()
