"""Pages for people: what they show, their scripts ask the API for, with the reader's key."""

from __future__ import annotations

import json
from mimetypes import guess_type
from pathlib import Path
from typing import TYPE_CHECKING

from flask import Blueprint, Response, render_template, request, send_from_directory
from jinja2.utils import htmlsafe_json_dumps

from iris_api.bundle.manifest import FLOAT32_MAX
from iris_api.web.auth import public
from iris_api.web.operations import operation
from iris_api.web.request_log import quiet

if TYPE_CHECKING:
    from iris_api.bundle.manifest import FeatureSpec
    from iris_api.web.service import Service

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
"""No script, style or request that is not this host's, and no page around these."""

bp = Blueprint("pages", __name__, template_folder="templates")


@bp.after_request
def _guard(response: Response) -> Response:
    response.headers.update(HEADERS)
    return response


def wanted() -> bool:
    """Whether this client likes a page better than JSON, as browsers say and programs do not."""
    liked = request.accept_mimetypes
    return liked["text/html"] > liked["application/json"]


def home(service: Service) -> Response:
    """The page to try the model: what it shows before a key is given is what the index tells."""
    manifest = service.model.manifest
    page = render_template(
        "home.html",
        manifest=manifest,
        allowed=allowed,
        # Its quotes are escapes: it stands between a shell's quotes, and in HTML.
        example=htmlsafe_json_dumps(manifest.contract.example, json.dumps),
        most_rows=service.settings.max_rows,
    )
    return Response(page, headers={"Cache-Control": "no-cache", **HEADERS})


def allowed(feature: FeatureSpec) -> str:
    """The numbers that a feature may have, in words."""
    low, high = f"{feature.minimum:,.10g}", f"{feature.maximum:,.10g}"
    limited = (feature.minimum > -FLOAT32_MAX, feature.maximum < FLOAT32_MAX)
    told = {
        (True, True): f"{low} to {high}",
        (True, False): f"from {low}",
        (False, True): f"up to {high}",
        (False, False): "any number in" if feature.unit else "any number",
    }[limited]
    whole = "whole, " if feature.type == "int" else ""
    return whole + "\N{NO-BREAK SPACE}".join(filter(None, (told, feature.unit)))


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
    # Not conditional: Werkzeug fails on a year that no date has.
    return send_from_directory(STATIC, name, conditional=False)
