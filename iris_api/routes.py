"""The HTTP surface: views that take from the request, ask the service, and answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from flask import Blueprint, current_app, url_for

from .auth import public
from .body import JSON, json_body
from .lean import BytesResponse

if TYPE_CHECKING:
    from flask import Response

    from .service import Service

bp = Blueprint("v1", __name__)


def service() -> Service:
    """The service of the running app."""
    found: Service = current_app.extensions["iris_api"]
    return found


def answer(content: Any, status: int = 200) -> Response:
    """A JSON answer."""
    return BytesResponse(orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE), status, JSON)


@bp.get("/")
@public
def index() -> Response:
    """What this is, and where its parts are."""
    manifest = service().model.manifest
    links = ("predict", "model", "health", "live", "ready")
    return answer(
        {
            "name": manifest.name,
            "model_version": manifest.version,
            "features": list(manifest.contract.feature_names),
            "classes": list(manifest.contract.classes),
            "links": {link: url_for(f"v1.{link}") for link in links},
        }
    )


@bp.post("/v1/predict")
@bp.post("/predict", endpoint="predict_alias")
def predict() -> Response:
    """Predict one row (an object) or a batch (an array of objects)."""
    serving = service()
    return answer(serving.model.answer(json_body(serving.max_body_bytes)))


@bp.get("/v1/model")
def model() -> Response:
    """The public part of the manifest."""
    return answer(service().model.manifest.card())


@bp.get("/health")
@bp.get("/health/ready", endpoint="ready")
@public
def health() -> Response:
    """Whether requests can be served now."""
    return answer(
        {"status": "healthy", "model": "loaded", "model_version": service().model.version}
    )


@bp.get("/health/live", endpoint="live")
@public
def live() -> Response:
    """Whether this process serves at all."""
    return answer({"status": "alive"})
