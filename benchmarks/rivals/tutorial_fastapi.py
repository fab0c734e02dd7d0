"""The tutorial way in FastAPI: unpickle at import, `predict` and `predict_proba`, Pydantic."""

from __future__ import annotations

import os

import joblib
from fastapi import FastAPI
from pydantic import BaseModel

CLASSES = ["setosa", "versicolor", "virginica"]

app = FastAPI()
model = joblib.load(os.environ["RIVAL_JOBLIB"])


class Flower(BaseModel):
    """One row."""

    sepal_length: float
    sepal_width: float
    petal_length: float
    petal_width: float


class Answer(BaseModel):
    """One row's answer."""

    prediction: str
    confidence: float
    probabilities: dict[str, float]


class Batch(BaseModel):
    """A batch's answers."""

    predictions: list[Answer]


@app.post("/v1/predict")
def predict(body: Flower | list[Flower]) -> Answer | Batch:
    """Predict an object or an array of objects."""
    rows = body if isinstance(body, list) else [body]
    values = [[r.sepal_length, r.sepal_width, r.petal_length, r.petal_width] for r in rows]
    labels = model.predict(values)
    probabilities = model.predict_proba(values)
    answers = [
        Answer(
            prediction=CLASSES[label],
            confidence=round(max(row), 4),
            probabilities={name: round(p, 4) for name, p in zip(CLASSES, row, strict=True)},
        )
        for label, row in zip(labels, probabilities.tolist(), strict=True)
    ]
    return Batch(predictions=answers) if isinstance(body, list) else answers[0]
