"""The routes. A view takes from the request, asks the service, and answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from flask import Blueprint, request, url_for
from typing_extensions import TypedDict

from iris_api.bundle.manifest import Card
from iris_api.dialects import native
from iris_api.dialects.native import BatchPrediction, SinglePrediction
from iris_api.errors import (
    BodyTooLargeError,
    ContractError,
    DrainingError,
    InvalidJSONError,
    MediaTypeError,
    TooManyRowsError,
)
from iris_api.monitoring.drift import DriftReport, report

from . import pages
from .auth import public
from .flask_app import BytesResponse
from .operations import operation
from .recording import quiet
from .request import current, read_body

if TYPE_CHECKING:
    from flask import Response

    from .service import Service

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
BODY_ERRORS = (
    InvalidJSONError,
    BodyTooLargeError,
    TooManyRowsError,
    MediaTypeError,
    ContractError,
)
"""The errors that a body can cause."""
LINK = '</openapi.json>; rel="service-desc", </docs>; rel="service-doc"'
"""Where a program and a person find the contract (RFC 8631)."""

bp = Blueprint("v1", __name__)


class Index(TypedDict):
    """What is served, and where."""

    name: str
    model_version: str
    features: list[str]
    classes: list[str]
    links: dict[str, str]


class Readiness(TypedDict):
    """That requests can be served, and by which model."""

    status: str
    model: str
    model_version: str


class Liveness(TypedDict):
    """That the process serves."""

    status: str


def service() -> Service:
    """The service of the running application."""
    return current().service


def answer(content: Any, status: int = 200) -> Response:
    """A JSON answer."""
    body = orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE)
    return BytesResponse(body, status, native.MEDIA_TYPE)


@bp.get("/")
@public
@operation("Service", Index, text=("text/html",))
def index() -> Response:
    """What this is, and where its parts are: as a page for a browser, else as JSON."""
    response = pages.home(service()) if pages.prefers_html() else answer(_index())
    response.vary.add("Accept")
    response.headers["Link"] = LINK
    return response


def _index() -> Index:
    """The model, and the path of each route."""
    manifest = service().model.manifest
    links = ("predict", "model", "drift", "metrics", "health", "live", "ready")
    return {
        "name": manifest.name,
        "model_version": manifest.version,
        "features": list(manifest.contract.feature_names),
        "classes": list(manifest.contract.classes),
        "links": {link: url_for(f"v1.{link}") for link in links}
        | {
            "drift_page": url_for("pages.drift"),
            "openapi": url_for("openapi.document"),
            "docs": url_for("openapi.docs"),
        },
    }


@bp.post("/v1/predict")
@bp.post("/predict", endpoint="predict_alias")
@operation("Predictions", SinglePrediction, BatchPrediction, raises=BODY_ERRORS)
def predict() -> Response:
    """Predict one row (an object) or a batch (an array of objects)."""
    exchange = current()
    serving = exchange.service.serving
    rows = native.decode(read_body(serving.max_body_bytes), serving.model.schema)
    outcome = serving.model.predict(rows.values)
    body = native.encode(outcome, rows)
    exchange.counter, exchange.outcome = serving.counter, outcome
    return BytesResponse(body, 200, native.MEDIA_TYPE)


@bp.get("/v1/model")
@operation("Model", Card)
def model() -> Response:
    """The public part of the manifest."""
    return answer(service().model.manifest.card())


@bp.get("/v1/drift")
@operation("Model", DriftReport)
def drift() -> Response:
    """Live inputs and predictions against the training reference."""
    serving = service().serving
    counter = serving.counter
    return answer(report(serving.model.manifest, counter.counts(), counter.since))


@bp.get("/metrics")
@quiet
@operation("Operation", text=("text/plain", "application/openmetrics-text"))
def metrics() -> Response:
    """All counts, in the format that the scraper asks for."""
    running = service()
    accept = OPENMETRICS if "openmetrics" in request.headers.get("Accept", "") else ""
    body, media_type = running.metrics.exposition(accept, running.serving.counter.model_metrics)
    return BytesResponse(body, 200, media_type)


@bp.get("/health")
@bp.get("/health/ready", endpoint="ready")
@public
@quiet
@operation("Operation", Readiness, raises=(DrainingError,))
def health() -> Response:
    """Whether requests should be sent here now."""
    if service().drain.begun:
        raise DrainingError
    return answer(
        {"status": "healthy", "model": "loaded", "model_version": service().model.version}
    )


@bp.get("/health/live", endpoint="live")
@public
@quiet
@operation("Operation", Liveness)
def live() -> Response:
    """Whether this process serves at all."""
    return answer({"status": "alive"})
