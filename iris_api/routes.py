"""The HTTP surface: views that take from the request, ask the service, and answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from flask import Blueprint, current_app, request, url_for

from . import pages
from .auth import public
from .body import JSON, json_body
from .drift import report
from .exceptions import DrainingError
from .exchange import current
from .lean import BytesResponse
from .logs import quiet

if TYPE_CHECKING:
    from flask import Response

    from .service import Service

OPENMETRICS = "application/openmetrics-text; version=1.0.0"

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
    """What this is, and where its parts are: as a page for a browser, else as JSON."""
    found = pages.home(service()) if pages.wanted() else answer(contents())
    found.vary.add("Accept")
    return found


def contents() -> dict[str, Any]:
    """The index: the model and where each route is."""
    manifest = service().model.manifest
    links = ("predict", "model", "drift", "metrics", "health", "live", "ready")
    return {
        "name": manifest.name,
        "model_version": manifest.version,
        "features": list(manifest.contract.feature_names),
        "classes": list(manifest.contract.classes),
        "links": {link: url_for(f"v1.{link}") for link in links}
        | {"drift_page": url_for("pages.drift")},
    }


@bp.post("/v1/predict")
@bp.post("/predict", endpoint="predict_alias")
def predict() -> Response:
    """Predict one row (an object) or a batch (an array of objects)."""
    body = json_body(service().max_body_bytes)
    serving, exchange = service().serving, current()
    exchange.tally = serving.tally
    made, exchange.outcome = serving.model.answer(body)
    return answer(made)


@bp.get("/v1/model")
def model() -> Response:
    """The public part of the manifest."""
    return answer(service().model.manifest.card())


@bp.get("/v1/drift")
def drift() -> Response:
    """Live inputs and predictions against the training reference."""
    serving = service().serving
    tally = serving.tally
    return answer(report(serving.model.manifest, tally.live(), tally.since))


@bp.get("/metrics")
@quiet
def metrics() -> Response:
    """All counts, in the format that the scraper asks for."""
    running = service()
    accept = OPENMETRICS if "openmetrics" in request.headers.get("Accept", "") else ""
    facts = running.serving.tally.facts
    body, media_type = running.instruments.exposition(accept, facts)
    return BytesResponse(body, 200, media_type)


@bp.get("/health")
@bp.get("/health/ready", endpoint="ready")
@public
@quiet
def health() -> Response:
    """Whether requests should be sent here now."""
    if service().drain.begun:
        raise DrainingError("This server is about to stop: send requests to another one.")
    return answer(
        {"status": "healthy", "model": "loaded", "model_version": service().model.version}
    )


@bp.get("/health/live", endpoint="live")
@public
@quiet
def live() -> Response:
    """Whether this process serves at all."""
    return answer({"status": "alive"})
