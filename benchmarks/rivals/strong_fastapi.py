"""The strong rival: FastAPI as fast as we could write it, with the features of the service.

It has one ONNX Runtime thread, an API key as a dependency, Pydantic models in and out, Prometheus
metrics in multiprocess mode, and one JSON log line a request. It avoids the expensive patterns of
FastAPI's documentation: views in threads, `BaseHTTPMiddleware`, and answers validated twice.
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
    """Count, time and log each request, as plain ASGI: FastAPI's own middleware costs more."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = dict(scope["headers"])
        request_id = headers.get(b"x-request-id", b"").decode("latin-1") or uuid.uuid4().hex
        status = 500

        async def send_with_id(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append((b"x-request-id", request_id.encode("latin-1")))
            await send(message)

        await self.app(scope, receive, send_with_id)
        seconds = time.perf_counter() - started
        route = scope["path"]
        requests_total.labels(route, status).inc()
        duration.labels(route).observe(seconds)
        logger.info(
            "request",
            extra={
                "request_id": request_id,
                "method": scope["method"],
                "route": route,
                "status": status,
                "duration_ms": round(seconds * 1000, 3),
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
    """Refuse any key but the one of the benchmark."""
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
    answers = [
        Answer(
            prediction=CLASSES[label],
            confidence=row[label],
            probabilities=dict(zip(CLASSES, row, strict=True)),
        )
        for label, row in zip(labels, rounded, strict=True)
    ]
    for label in labels:
        predictions_total.labels(CLASSES[label]).inc()
    batch = Batch(predictions=answers, count=len(answers))
    answer = batch if isinstance(body, list) else answers[0]
    return Response(answer.model_dump_json(), media_type="application/json")


@app.get("/metrics")
def metrics() -> Response:
    """The metrics of all workers, summed."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return Response(generate_latest(registry), media_type="text/plain")
