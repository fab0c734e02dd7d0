"""An empty Flask view: reads the body and returns fixed bytes."""

from __future__ import annotations

from flask import Flask, Response, request

from .floor import ANSWER

app = Flask(__name__, static_folder=None)


@app.post("/v1/predict")
def predict() -> Response:
    """Answer every request with the same bytes."""
    request.get_data()
    return Response(ANSWER, content_type="application/json")
