"""`/openapi.json` for the served model, and Swagger UI at `/docs` to read it and try it."""

from __future__ import annotations

import gzip
import hashlib
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import flask_swagger_ui  # type: ignore[import-untyped]
import orjson
from flask import Blueprint, Response, current_app

from iris_api.dialects.native import MEDIA_TYPE

from . import openapi, pages
from .auth import public
from .operations import operation
from .recording import quiet
from .request import current

if TYPE_CHECKING:
    from flask import Flask, Request

    from iris_api.bundle.model import Model

SWAGGER_UI = Path(flask_swagger_ui.__file__).parent / "dist"
FILES = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript"}
"""The files of Swagger UI that the page loads."""
POLICY = pages.HEADERS["Content-Security-Policy"].replace("img-src", "img-src data:")
"""Swagger UI's stylesheet contains its icons as data URLs."""

bp = Blueprint("openapi", __name__)


class CachedContent:
    """A body that rarely changes: compressed once, and not sent again to a client that has it."""

    def __init__(self, body: bytes, media_type: str) -> None:
        self.body = body
        self._media_type = media_type
        self._digest = hashlib.sha256(body).hexdigest()[:32]

    @cached_property
    def _compressed(self) -> bytes:
        return gzip.compress(self.body, mtime=0)

    def respond(self, request: Request) -> Response:
        """The body in an encoding that the client accepts, or 304 for a matching ETag."""
        is_gzip = request.accept_encodings.best_match(("gzip", "identity")) == "gzip"
        body = self._compressed if is_gzip else self.body
        response = Response(body, content_type=self._media_type)
        if is_gzip:
            response.content_encoding = "gzip"
        response.set_etag(f"{self._digest}-gzip" if is_gzip else self._digest)
        response.vary.add("Accept-Encoding")
        response.cache_control.no_cache = True
        # Without If-Modified-Since: Werkzeug fails on a year that no date can have.
        names = ("REQUEST_METHOD", "HTTP_IF_NONE_MATCH")
        environ = {name: request.environ[name] for name in names if name in request.environ}
        response.make_conditional(environ)
        return response


class Documents:
    """The OpenAPI document of the model that serves now."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._latest: tuple[Model, CachedContent] | None = None

    def current(self) -> CachedContent:
        """The document, built anew after a swap of the model."""
        serving = self._app.extensions["iris_api"].serving
        latest = self._latest
        if latest is None or latest[0] is not serving.model:
            document = openapi.document(self._app, serving.model, max_bytes=serving.max_body_bytes)
            content = CachedContent(orjson.dumps(document), MEDIA_TYPE)
            latest = self._latest = serving.model, content
        return latest[1]


def init_app(app: Flask) -> None:
    """Serve the document and its page."""
    app.extensions["iris_documents"] = Documents(app)
    app.register_blueprint(bp)


def build(app: Flask) -> None:
    """Build the document before the first request, once for all workers."""
    app.extensions["iris_documents"].current()


@bp.after_request
def _set_headers(response: Response) -> Response:
    response.headers.update(pages.HEADERS | {"Content-Security-Policy": POLICY})
    return response


@bp.get("/openapi.json")
@public
@quiet
@operation("Service", dict[str, Any], conditional=True)
def document() -> Response:
    """The contract as OpenAPI 3.1: this document."""
    documents: Documents = current_app.extensions["iris_documents"]
    return documents.current().respond(current().request)


@bp.get("/docs")
@public
@operation("Pages", text=("text/html",))
def docs() -> Response:
    """The contract as a page, to read and to try with a key."""
    return pages.file("docs.html")


@bp.get("/docs/<any({}):name>".format(", ".join(f'"{name}"' for name in FILES)))
@public
@quiet
@operation(
    "Pages", text=tuple(FILES.values()), parameters={"name": sorted(FILES)}, conditional=True
)
def docs_file(name: str) -> Response:
    """Swagger UI's own script and style."""
    return _swagger_ui_file(name).respond(current().request)


@cache
def _swagger_ui_file(name: str) -> CachedContent:
    return CachedContent((SWAGGER_UI / name).read_bytes(), f"{FILES[name]}; charset=utf-8")
