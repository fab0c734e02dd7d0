"""JSON schemas of a model's inputs and answers, and examples that are the model's own answers."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from iris_api.contract.base import Probability
from iris_api.contract.rows import Rows
from iris_api.contract.tasks import Prediction
from iris_api.dialects import native
from iris_api.dialects.native import BatchPrediction, SinglePrediction
from iris_api.errors import BodyTooLargeError, ContractError, InvalidJSONError, TooManyRowsError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from iris_api.bundle.model import Model
    from iris_api.contract.contract import Contract
    from iris_api.contract.rows import Row
    from iris_api.errors import IrisError

REF = "#/components/schemas/{model}"
BATCH_ROWS = 3
"""Rows in the example of a batch."""
CANDIDATES = 100
"""Synthetic rows from which the example of a batch is chosen."""
FACTORS = (-1, 0.5, 0.7, 0.9, 1.1, 1.3, 1.6, 2, 3, 4, 7, 10)
"""A synthetic row multiplies each feature's example by one of these."""


class _UntitledSchema(GenerateJsonSchema):
    """Schemas without field titles, which would only repeat the names."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False


def schemas(model: Model, types: Iterable[Any]) -> tuple[list[Any], dict[Any, Any], dict[str, Any]]:
    """JSON schemas for a model's features and classes.

    Args:
        model: The served model.
        types: Types of answers.

    Returns:
        The schemas of one row and of a batch; the schema of each type; and the named schemas that
        these refer to.
    """
    adapters: list[Any] = [
        ("row", "validation", model.schema.single),
        ("batch", "validation", model.schema.batch),
    ]
    kinds = [Prediction, *types]
    adapters += [(kind, "serialization", TypeAdapter(kind)) for kind in dict.fromkeys(kinds)]
    by_key, rest = TypeAdapter.json_schemas(
        adapters, ref_template=REF, schema_generator=_UntitledSchema
    )
    named = rest["$defs"]
    _specialise(named, model.manifest.contract)
    bodies = [by_key["row", "validation"], by_key["batch", "validation"]]
    return bodies, {kind: by_key[kind, "serialization"] for kind in kinds}, named


def request_examples(model: Model) -> list[Any]:
    """Two bodies that the model answers: one row, and a batch that shows several classes."""
    contract = model.manifest.contract
    rows = _synthetic_rows(contract)
    probabilities = model.predict(rows).probabilities
    by_confidence = np.argsort(-probabilities.max(axis=1).round(1), kind="stable")
    labels = probabilities[by_confidence].argmax(axis=1)
    first_of_class = np.unique(labels, return_index=True)[1]
    order = [*by_confidence[first_of_class], *np.delete(by_confidence, first_of_class)]
    batch = [rows[i] for i in order[: min(BATCH_ROWS, model.schema.max_rows)]]
    return [contract.example, batch]


def answer_examples(model: Model, bodies: list[Any]) -> dict[Any, Any]:
    """The model's answers to the two bodies, by type."""
    single, batch = bodies
    rows = Rows([single], is_batch=False), Rows(batch, is_batch=True)
    answers = (orjson.loads(native.encode(model.predict(each.values), each)) for each in rows)
    return dict(zip((SinglePrediction, BatchPrediction), answers, strict=True))


def error_examples(model: Model, max_body_bytes: int) -> dict[type[IrisError], IrisError]:
    """The errors whose message depends on the model, as they are raised."""
    max_rows = model.schema.max_rows
    errors: dict[type[IrisError], IrisError] = {
        TooManyRowsError: TooManyRowsError(max_rows + 1, max_rows),
        BodyTooLargeError: BodyTooLargeError(max_body_bytes),
    }
    for body in (b"", b"[{}]"):
        try:
            native.decode(body, model.schema)
        except (InvalidJSONError, ContractError) as error:
            errors[type(error)] = error
    return errors


def _specialise(named: dict[str, Any], contract: Contract) -> None:
    """Add the names of this contract's classes to the schemas of predictions."""
    classes = list(contract.classes)
    probability = TypeAdapter(Probability).json_schema()
    named["Class"] = {"type": "string", "description": "A class of the model.", "enum": classes}
    named["Probabilities"] = {
        "type": "object",
        "description": "The probability of each class.",
        "properties": dict.fromkeys(classes, probability),
        "required": classes,
        "additionalProperties": False,
    }
    for kind in (Prediction, SinglePrediction):
        properties = named[kind.__name__]["properties"]
        properties["prediction"] = {"$ref": REF.format(model="Class")}
        properties["probabilities"] = {"$ref": REF.format(model="Probabilities")}
        if "input" in properties:
            properties["input"] = {"$ref": REF.format(model="Row")}


def _synthetic_rows(contract: Contract) -> list[Row]:
    """Rows near the contract's example, the nearest first, within its bounds.

    They are not training rows, which are visible only with a key.
    """
    # NumPy's generator would be one more module to load at each start.
    random = Random(0)  # noqa: S311  # The examples are the same each time.
    drawn = [random.choices(FACTORS, k=len(contract.features)) for _ in range(CANDIDATES)]
    drawn.sort(key=lambda factors: sum(abs(factor - 1) for factor in factors))
    return [_multiplied(contract, factors) for factors in drawn]


def _multiplied(contract: Contract, factors: list[float]) -> Row:
    row = contract.example
    for feature, factor in zip(contract.features, factors, strict=True):
        value = feature.json_value(float(f"{(feature.example or 1) * factor:.2g}"))
        if feature.minimum <= value <= feature.maximum:
            row[feature.name] = value
    return row
