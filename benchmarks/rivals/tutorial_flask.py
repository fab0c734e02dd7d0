"""The tutorial way in Flask: unpickle at import, `predict` and `predict_proba`, jsonify."""

from __future__ import annotations

import os
from typing import Any

import joblib
from flask import Flask, jsonify, request

CLASSES = ["setosa", "versicolor", "virginica"]
FEATURES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]

app = Flask(__name__)
model = joblib.load(os.environ["RIVAL_JOBLIB"])


@app.post("/v1/predict")
def predict() -> Any:
    """Predict an object or an array of objects."""
    body = request.get_json()
    rows = body if isinstance(body, list) else [body]
    values = [[row[name] for name in FEATURES] for row in rows]
    labels = model.predict(values)
    probabilities = model.predict_proba(values)
    answers = [
        {
            "prediction": CLASSES[label],
            "confidence": round(max(row), 4),
            "probabilities": {name: round(p, 4) for name, p in zip(CLASSES, row, strict=True)},
        }
        for label, row in zip(labels, probabilities.tolist(), strict=True)
    ]
    return jsonify({"predictions": answers} if isinstance(body, list) else answers[0])
