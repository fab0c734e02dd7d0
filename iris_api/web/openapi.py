"""The OpenAPI document of the model that is served, and Swagger UI to try it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import flask_swagger_ui  # type: ignore[import-untyped]
import orjson
from flask import Blueprint, current_app

from iris_api.web import pages
from iris_api.web.auth import public
from iris_api.web.body import JSON
from iris_api.web.document import document as make
from iris_api.web.operations import operation
from iris_api.web.request import current
from iris_api.web.request_log import quiet
from iris_api.web.tagged import Tagged

if TYPE_CHECKING:
    from flask import Flask, Response

    from iris_api.bundle.model import Model

DIST = Path(flask_swagger_ui.__file__).parent / "dist"
POLICY = pages.HEADERS["Content-Security-Policy"].replace("img-src", "img-src data:")
"""Swagger UI's style has its icons in it."""

FILES = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript"}
"""What the page needs of it."""

bp = Blueprint("openapi", __name__)


class Documents:
    """The document of the model that answers now: made when another one does."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._made: tuple[Model, Tagged] | None = None

    def current(self) -> Tagged:
        """It, with its digest."""
        serving = self._app.extensions["iris_api"].serving
        model, made = serving.model, self._made
        if made is None or made[0] is not model:
            told = make(self._app, model, most_bytes=serving.max_body_bytes)
            made = self._made = model, Tagged(orjson.dumps(told), JSON)
        return made[1]


def init_app(app: Flask) -> None:
    """Serve the document and its page."""
    app.extensions["iris_documents"] = Documents(app)
    app.register_blueprint(bp)


def write(app: Flask) -> None:
    """Make the document now, before the first request and for all workers at once."""
    app.extensions["iris_documents"].current()


@bp.after_request
def _guard(response: Response) -> Response:
    response.headers.update(pages.HEADERS | {"Content-Security-Policy": POLICY})
    return response


@bp.get("/openapi.json")
@public
@quiet
@operation("Service", dict[str, Any], tagged=True)
def document() -> Response:
    """The contract as OpenAPI 3.1: this document."""
    documents: Documents = current_app.extensions["iris_documents"]
    return documents.current().answer(current().request)


@bp.get("/docs")
@public
@operation("Pages", text=("text/html",))
def docs() -> Response:
    """The contract as a page, to read and to try with a key."""
    return pages.file("docs.html")


@bp.get("/docs/<any({}):name>".format(", ".join(f'"{name}"' for name in FILES)))
@public
@quiet
@operation("Pages", text=tuple(FILES.values()), tagged=True)
def docs_file(name: str) -> Response:
    """Swagger UI's own script and style."""
    return _packaged(name).answer(current().request)


@cache
def _packaged(name: str) -> Tagged:
    return Tagged((DIST / name).read_bytes(), f"{FILES[name]}; charset=utf-8")
