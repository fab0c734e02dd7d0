"""The strong rival: FastAPI done well, with ONNX Runtime and all that a service needs.

One ONNX Runtime thread, an API key as a dependency, Pydantic in and out, Prometheus metrics in
multiprocess mode, and one JSON log line a request. What costs most of what FastAPI's own pages show
is not there: no thread for a view, no `BaseHTTPMiddleware`, no answer validated twice.
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
from fastapi import Depends, FastAPI, HTTPException, Response
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


class Observe:
    """Counts, times and logs each request, as bare ASGI: FastAPI's own way costs more."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        headers = dict(scope["headers"])
        request_id = headers.get(b"x-request-id", b"").decode("latin-1") or uuid.uuid4().hex
        status = 500

        async def noting(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append((b"x-request-id", request_id.encode("latin-1")))
            await send(message)

        await self.app(scope, receive, noting)
        took = time.perf_counter() - began
        route = scope["path"]
        requests_total.labels(route, status).inc()
        duration.labels(route).observe(took)
        logger.info(
            "request",
            extra={
                "request_id": request_id,
                "method": scope["method"],
                "route": route,
                "status": status,
                "duration_ms": round(took * 1000, 3),
            },
        )


app = FastAPI()
app.add_middleware(Observe)
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


async def authenticated(key: Annotated[str, Depends(api_key)]) -> None:
    """Let the one known key in."""
    if hashlib.sha256(key.encode()).hexdigest() != DIGEST:
        raise HTTPException(401)


@app.post("/v1/predict", dependencies=[Depends(authenticated)], response_model=Answer | Batch)
async def predict(body: Flower | list[Flower]) -> Response:
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
    answer = Batch(predictions=made, count=len(made)) if isinstance(body, list) else made[0]
    return Response(answer.model_dump_json(), media_type="application/json")


@app.get("/metrics")
def metrics() -> Response:
    """All workers' metrics, summed."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return Response(generate_latest(registry), media_type="text/plain")
