"""The strong rival: FastAPI done well, with ONNX Runtime and all that a service needs.

One ONNX Runtime thread, an API key as a dependency, Pydantic in and out, Prometheus metrics in
multiprocess mode, and one JSON log line a request.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import time
import uuid
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.security import APIKeyHeader
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from pydantic import BaseModel, ConfigDict, Field
from pythonjsonlogger.orjson import OrjsonFormatter

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

CLASSES = ["setosa", "versicolor", "virginica"]
DIGEST = os.environ["RIVAL_KEY_DIGEST"]

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["RIVAL_ONNX"], options, ["CPUExecutionProvider"])

handler = logging.StreamHandler(sys.stdout)
handler.setFormatter(OrjsonFormatter("%(asctime)s %(levelname)s %(message)s"))
logger = logging.getLogger("rival")
logger.addHandler(handler)
logger.setLevel(logging.INFO)

requests_total = Counter("requests_total", "Requests.", ["route", "status"])
duration = Histogram("request_duration_seconds", "Duration.", ["route"])
predictions_total = Counter("predictions_total", "Predictions.", ["label"])

app = FastAPI()
api_key = APIKeyHeader(name="X-API-Key")

Centimetres = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]


class Flower(BaseModel):
    """One row."""

    model_config = ConfigDict(extra="forbid", strict=True)

    sepal_length: Centimetres
    sepal_width: Centimetres
    petal_length: Centimetres
    petal_width: Centimetres


class Answer(BaseModel):
    """One row's answer."""

    prediction: str
    confidence: float
    probabilities: dict[str, float]


class Batch(BaseModel):
    """A batch's answers."""

    predictions: list[Answer]
    count: int


@app.middleware("http")
async def observe(request: Request, call_next: Any) -> Response:
    """Count, time and log each request."""
    began = time.perf_counter()
    request_id = request.headers.get("X-Request-ID") or uuid.uuid4().hex
    response: Response = await call_next(request)
    took = time.perf_counter() - began
    requests_total.labels(request.url.path, response.status_code).inc()
    duration.labels(request.url.path).observe(took)
    response.headers["X-Request-ID"] = request_id
    logger.info(
        "request",
        extra={
            "request_id": request_id,
            "method": request.method,
            "route": request.url.path,
            "status": response.status_code,
            "duration_ms": round(took * 1000, 3),
        },
    )
    return response


def authenticated(key: Annotated[str, Depends(api_key)]) -> None:
    """Let the one known key in."""
    if hashlib.sha256(key.encode()).hexdigest() != DIGEST:
        raise HTTPException(401)


@app.post("/v1/predict", dependencies=[Depends(authenticated)])
def predict(body: Flower | list[Flower]) -> Answer | Batch:
    """Predict an object or an array of objects."""
    rows = body if isinstance(body, list) else [body]
    values = np.array(
        [[r.sepal_length, r.sepal_width, r.petal_length, r.petal_width] for r in rows],
        dtype=np.float32,
    )
    probabilities = session.run(["probabilities"], {"rows": values})[0]
    labels = probabilities.argmax(axis=1).tolist()
    rounded = probabilities.astype(np.float64).round(4).tolist()
    made = [
        Answer(
            prediction=CLASSES[label],
            confidence=row[label],
            probabilities=dict(zip(CLASSES, row, strict=True)),
        )
        for label, row in zip(labels, rounded, strict=True)
    ]
    for label in labels:
        predictions_total.labels(CLASSES[label]).inc()
    return Batch(predictions=made, count=len(made)) if isinstance(body, list) else made[0]


@app.get("/metrics")
def metrics() -> Response:
    """All workers' metrics, summed."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return Response(generate_latest(registry), media_type="text/plain")
