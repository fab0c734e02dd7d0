"""Schemas of what goes in and out of a model, and examples that are its own answers."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from iris_api.bundle.manifest import Probability
from iris_api.contract.tasks import BatchPrediction, Prediction, SinglePrediction
from iris_api.errors import ContractError, InvalidJSONError, TooManyRowsError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from iris_api.bundle.manifest import Contract
    from iris_api.bundle.model import Model
    from iris_api.contract.rows import Row
    from iris_api.errors import IrisError

REF = "#/components/schemas/{model}"
BATCH_ROWS = 3
"""Rows in the example of a batch."""
MADE_UP = 100
"""Rows of which they are chosen."""
TIMES = (-1, 0.5, 0.7, 0.9, 1.1, 1.3, 1.6, 2, 3, 4, 7, 10)
"""How much larger than the example a feature of them may be."""


class _Untitled(GenerateJsonSchema):
    """Schemas without a title for each field, which would be its name again."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False


def schemas(model: Model, types: Iterable[Any]) -> tuple[list[Any], dict[Any, Any], dict[str, Any]]:
    """JSON schemas of a request's body and of these types, for this model's features and classes.

    Returns:
        The schemas of one row and of a batch, a schema for each type, and all those that these
        refer to, by name.
    """
    adapters: list[Any] = [
        ("row", "validation", model.schema.single),
        ("batch", "validation", model.schema.batch),
    ]
    kinds = [Prediction, *types]
    adapters += [(kind, "serialization", TypeAdapter(kind)) for kind in dict.fromkeys(kinds)]
    made, rest = TypeAdapter.json_schemas(adapters, ref_template=REF, schema_generator=_Untitled)
    named = rest["$defs"]
    _narrow(named, model.manifest.contract)
    bodies = [made["row", "validation"], made["batch", "validation"]]
    return bodies, {kind: made[kind, "serialization"] for kind in kinds}, named


def _narrow(named: dict[str, Any], contract: Contract) -> None:
    """Say of predictions what holds for this contract: the classes' names, and the input's."""
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


def requests(model: Model) -> list[Any]:
    """Bodies that the model answers: one row, and a batch with as many classes as it can show."""
    contract = model.manifest.contract
    rows = _made_up(contract)
    found = model.predict(rows).probabilities
    surest = np.argsort(-found.max(axis=1).round(1), kind="stable")
    first = np.unique(found[surest].argmax(axis=1), return_index=True)[1]
    order = [*surest[first], *np.delete(surest, first)]
    batch = [rows[i] for i in order[: min(BATCH_ROWS, model.schema.max_rows)]]
    return [contract.example, batch]


def _made_up(contract: Contract) -> list[Row]:
    """The example with each feature so many times as large, where its bounds allow it.

    What the training rows are like is told to nobody without a key, so it is not looked at.
    """
    # NumPy's own would be one more module to load at each start.
    random = Random(0)  # noqa: S311  # The same examples each time.
    drawn = [random.choices(TIMES, k=len(contract.features)) for _ in range(MADE_UP)]
    drawn.sort(key=lambda times: sum(abs(factor - 1) for factor in times))
    return [_row(contract, times) for times in drawn]


def _row(contract: Contract, times: list[float]) -> Row:
    row = contract.example
    for feature, factor in zip(contract.features, times, strict=True):
        value = feature.sent(float(f"{(feature.example or 1) * factor:.2g}"))
        if feature.minimum <= value <= feature.maximum:
            row[feature.name] = value
    return row


def answers(model: Model, bodies: list[Any]) -> dict[Any, Any]:
    """What the model answers to them, by type. What only a key opens is no example."""
    single, batch = (orjson.loads(model.answer(orjson.dumps(body))[0]) for body in bodies)
    return {SinglePrediction: single, BatchPrediction: batch}


def refusals(model: Model) -> dict[type[IrisError], IrisError]:
    """What is raised for bodies that are empty, have too many rows, or break the contract."""
    too_many = model.schema.too_many(model.schema.max_rows + 1)
    raised: dict[type[IrisError], IrisError] = {TooManyRowsError: too_many}
    for body in (b"", b"[{}]"):
        try:
            model.answer(body)
        except (InvalidJSONError, ContractError) as error:
            raised[type(error)] = error
    return raised
