"""The application: how its parts are put together, on one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iris_api import cli
from iris_api.settings import Settings, run_by_flask_command
from iris_api.web import auth, docs, pages, problems, recording, request, routes
from iris_api.web.flask_app import StatelessFlask
from iris_api.web.service import Service

if TYPE_CHECKING:
    from flask import Flask


def create_app(settings: Settings | None = None) -> Flask:
    """Build the WSGI application.

    Args:
        settings: Its settings; by default they are read from the environment.

    Raises:
        OperatorError: if a setting, the keys or the bundle can't be used.
    """
    app = StatelessFlask("iris_api", static_folder=None)
    app.url_map.merge_slashes = False
    service = app.extensions["iris_api"] = Service(settings or Settings.read())

    app.register_blueprint(routes.bp)
    app.register_blueprint(pages.bp)
    docs.init_app(app)

    # The order matters: an exchange begins first, and its id is sent last.
    request.init_app(app)
    recording.init_app(app)
    auth.init_app(app)
    problems.init_app(app)

    cli.init_app(app)

    # A command such as `keys add` has to work before there is a key file or a model.
    if not run_by_flask_command():
        service.open()
        docs.build(app)
    return app
