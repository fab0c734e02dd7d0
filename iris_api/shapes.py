"""Schemas of what goes in and out of a model, and examples that are its own answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from .answers import BatchPrediction, Prediction, SinglePrediction
from .exceptions import ContractError, InvalidJSONError
from .manifest import Probability

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .exceptions import IrisError
    from .manifest import Contract
    from .model import Model
    from .schemas import Row

REF = "#/components/schemas/{model}"


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
    """Bodies that the model answers: one row, and a batch."""
    contract = model.manifest.contract
    batch = [_row(contract, share) for share in (0.9, 1.1, 1.6)]
    return [contract.example, batch[: model.schema.max_rows]]


def _row(contract: Contract, share: float) -> Row:
    """The example with each feature made so much larger, where its bounds allow it."""
    row = contract.example
    for feature in contract.features:
        value = feature.sent(float(f"{feature.example * share:.3g}"))
        if feature.minimum <= value <= feature.maximum:
            row[feature.name] = value
    return row


def answers(model: Model, bodies: list[Any]) -> dict[Any, Any]:
    """What the model answers to them, by type. What only a key opens is no example."""
    single, batch = (orjson.loads(model.answer(orjson.dumps(body))[0]) for body in bodies)
    return {SinglePrediction: single, BatchPrediction: batch}


def refusals(model: Model) -> dict[type[IrisError], IrisError]:
    """What is raised for a body that is empty, and for one that breaks the contract."""
    raised: dict[type[IrisError], IrisError] = {}
    for body in (b"", b"[{}]"):
        try:
            model.answer(body)
        except (InvalidJSONError, ContractError) as error:
            raised[type(error)] = error
    return raised
