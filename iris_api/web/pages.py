"""Pages for people. Their scripts call the API with the reader's key."""

from __future__ import annotations

import json
from mimetypes import guess_type
from pathlib import Path
from typing import TYPE_CHECKING

from flask import Blueprint, Response, render_template, request, send_from_directory

from iris_api.contract.base import FLOAT32_MAX

from .auth import public
from .operations import operation
from .recording import quiet

if TYPE_CHECKING:
    from iris_api.contract.columns import FeatureSpec

    from .service import Service

STATIC = Path(__file__).parent / "static"
MEDIA_TYPES = sorted({str(guess_type(path)[0]) for path in STATIC.iterdir()}, reverse=True)
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Scripts, styles and requests only to this host, and no frame around a page."""

bp = Blueprint("pages", __name__, template_folder="templates")


@bp.after_request
def _set_headers(response: Response) -> Response:
    response.headers.update(HEADERS)
    return response


def prefers_html() -> bool:
    """Whether this client prefers HTML to JSON, as browsers say and programs do not."""
    accepted = request.accept_mimetypes
    return accepted["text/html"] > accepted["application/json"]


def home(service: Service) -> Response:
    """The page to try the model. Without a key it shows only what the index shows."""
    manifest = service.model.manifest
    page = render_template(
        "home.html",
        manifest=manifest,
        allowed=allowed,
        # The example is between single quotes of a shell command.
        example=json.dumps(manifest.contract.example).replace("'", r"\u0027"),
        most_rows=service.settings.max_rows,
    )
    return Response(page, headers={"Cache-Control": "no-cache", **HEADERS})


def allowed(feature: FeatureSpec) -> str:
    """The numbers that a feature may have, in words."""
    low, high = f"{feature.minimum:,.10g}", f"{feature.maximum:,.10g}"
    is_bounded = (feature.minimum > -FLOAT32_MAX, feature.maximum < FLOAT32_MAX)
    numbers = {
        (True, True): f"{low} to {high}",
        (True, False): f"from {low}",
        (False, True): f"up to {high}",
        (False, False): "any number in" if feature.unit else "any number",
    }[is_bounded]
    whole = "whole, " if feature.type == "int" else ""
    return whole + "\N{NO-BREAK SPACE}".join(filter(None, (numbers, feature.unit)))


@bp.get("/drift")
@public
@operation("Pages", text=("text/html",))
def drift() -> Response:
    """Live inputs against the training reference, a picture for each feature."""
    return file("drift.html")


@bp.get("/static/<path:name>")
@public
@quiet
@operation("Pages", text=tuple(MEDIA_TYPES))
def static(name: str) -> Response:
    """Scripts and styles of the pages."""
    return file(name)


def file(name: str) -> Response:
    """One of the files of the pages."""
    # Not conditional: Werkzeug fails on an If-Modified-Since with a year that no date can have.
    return send_from_directory(STATIC, name, conditional=False)
