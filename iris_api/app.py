"""The application: how its parts are put together, on one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import (
    auth,
    cli,
    errors,
    exchange,
    logs,
    metrics,
    model_cli,
    openapi,
    pages,
    routes,
    score_cli,
    shed,
)
from .lean import LeanFlask
from .service import Service
from .settings import Settings, run_by_flask_command

if TYPE_CHECKING:
    from flask import Flask


def create_app(settings: Settings | None = None) -> Flask:
    """Build the WSGI application.

    Args:
        settings: What to build it with; left out, they are read from the environment.

    Raises:
        OperatorError: if a setting, the keys or the bundle can't be used.
    """
    service = Service(settings or Settings.read())
    app = LeanFlask("iris_api", static_folder=None)
    app.url_map.merge_slashes = False
    app.extensions["iris_api"] = service

    app.register_blueprint(routes.bp)
    app.register_blueprint(pages.bp)
    openapi.init_app(app)
    exchange.init_app(app)
    logs.init_app(app)
    metrics.init_app(app)
    errors.init_app(app)
    shed.init_app(app)
    auth.init_app(app)
    cli.init_app(app)
    model_cli.init_app(app)
    score_cli.init_app(app)

    # A command such as `keys add` must work before there is a key file or a model.
    if not run_by_flask_command():
        service.open()
        openapi.write(app)
    return app
