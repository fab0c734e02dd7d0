"""What goes in: request models made from a contract, and all that is wrong with a body.

A batch is validated as plain typed dictionaries straight from the bytes, in one pass and without
an object per row.
"""

from __future__ import annotations

import json
import math
from itertools import chain, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
from pydantic import ConfigDict, FailFast, Field, TypeAdapter, ValidationError, with_config
from pydantic_core import from_json
from typing_extensions import TypedDict

from iris_api.errors import ContractError, FieldError, InvalidJSONError, TooManyRowsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from iris_api.bundle.manifest import Contract, FeatureSpec

LISTED_ERRORS = 100
SHOWN_CHARACTERS = 100
NUMBER_BYTES = 36
"""Room for a number of 17 digits with sign and exponent, and the marks and space around it."""

EXACT_INTEGER = 2**53
"""Beyond it a JSON number is no exact integer for most clients."""

Row = dict[str, float]


class PredictionRequest(NamedTuple):
    """A body that kept the contract: its rows, and whether they came as an array."""

    rows: list[Row]
    batch: bool


class RequestSchema:
    """RequestQueue bytes into rows that keep a contract, or says all that is wrong with them.

    The fast path asks Pydantic only whether there is anything wrong; the list of errors is made
    row by row, for to make all of a hostile 2 MB at once took 340 MB.
    """

    def __init__(self, contract: Contract, *, max_rows: int) -> None:
        row = _row_model(contract)
        length = Field(min_length=1, max_length=max_rows)
        rows: Any = Annotated[list[row], length, FailFast()]  # type: ignore[valid-type]
        self.max_rows = max_rows
        self.single: TypeAdapter[Row] = TypeAdapter(row)
        self.batch: TypeAdapter[list[Row]] = TypeAdapter(rows)
        # Not by the adapters' own methods, which look at what else they might have been told.
        self._single = self.single.validator.validate_json
        self._batch = self.batch.validator.validate_json
        self._names = contract.feature_names
        self._values = itemgetter(*self._names)
        self.largest_body = max_rows * sum(len(json.dumps(n)) + NUMBER_BYTES for n in self._names)
        """Bytes that `max_rows` rows need when they are written with room to spare."""

    def parse(self, body: bytes) -> PredictionRequest:
        """Validate a JSON body: one object, or an array of them.

        Raises:
            InvalidJSONError: if the body is empty or not JSON.
            TooManyRowsError: if the array is longer than `max_rows`.
            ContractError: with every error there is, the first 100 of them listed.
        """
        start = body.lstrip()[:1]
        if not start:
            raise InvalidJSONError("The body is empty: send a JSON object, or an array of them.")
        batch = start == b"["
        try:
            rows = self._batch(body) if batch else [self._single(body)]
        except ValidationError as error:
            raise self._refusal(_details(error), body, batch=batch) from error
        if sum(map(len, rows)) != len(rows) * len(self._names):
            raise self._refusal([], body, batch=batch)
        return PredictionRequest(rows, batch)

    def array(self, rows: Sequence[Row], dtype: type[np.floating[Any]]) -> NDArray[Any]:
        """The rows as an array of shape (rows, features), columns in the contract's order."""
        width = len(self._names)
        values: Any = map(self._values, rows)
        flat = values if width == 1 else chain.from_iterable(values)
        return np.fromiter(flat, dtype, count=len(rows) * width).reshape(-1, width)

    def errors(self, row: Mapping[str, Any]) -> list[FieldError]:
        """All that is wrong with one row."""
        return [self._field_error(None, detail) for detail in self._wrong(row)]

    def too_many(self, rows: int) -> TooManyRowsError:
        """What is raised for an array of so many rows."""
        told = f"The batch has {rows:,} rows and may have {self.max_rows:,}: split it."
        return TooManyRowsError(told)

    def _refusal(
        self, found: list[Any], body: bytes, *, batch: bool
    ) -> InvalidJSONError | TooManyRowsError | ContractError:
        if found and found[0]["type"] == "json_invalid":
            return InvalidJSONError(f"{found[0]['msg']}.")
        parsed = from_json(body)
        if not batch:
            return self._contract_error([(None, parsed, found)])
        if len(parsed) > self.max_rows:
            return self.too_many(len(parsed))
        if not parsed:
            empty = "The batch is empty: send one row at least"
            return ContractError((FieldError(None, None, empty, "too_short"),), total=1)
        return self._contract_error((n, row, self._wrong(row)) for n, row in enumerate(parsed))

    def _contract_error(self, rows: Iterable[tuple[int | None, Any, list[Any]]]) -> ContractError:
        """Of each row what Pydantic found in it, and its unknown fields."""
        listed: list[FieldError] = []
        total = 0
        for number, row, wrong in rows:
            unknown = row.keys() - set(self._names) if isinstance(row, dict) else set()
            total += len(wrong) + len(unknown)
            if len(listed) < LISTED_ERRORS:
                listed += [self._field_error(number, detail) for detail in wrong]
                listed += [self._unknown(number, n) for n in islice(unknown, LISTED_ERRORS)]
        return ContractError(tuple(listed[:LISTED_ERRORS]), total)

    def _wrong(self, row: Any) -> list[Any]:
        try:
            self.single.validate_python(row)
        except ValidationError as error:
            return _details(error)
        return []

    def _field_error(self, row: int | None, detail: Any) -> FieldError:
        sentences = {
            "dict_type": "Send an object with a number for each feature",
            "missing": "Missing: every feature needs a number",
        }
        field = detail["loc"][0] if detail["loc"] else None
        kind = detail["type"]
        return FieldError(row, field, sentences.get(kind, detail["msg"]), kind)

    def _unknown(self, row: int | None, name: str) -> FieldError:
        known = f"Unknown feature: the model has {', '.join(self._names)}"
        return FieldError(row, name[:SHOWN_CHARACTERS], known, "extra_forbidden")


def _details(error: ValidationError) -> list[Any]:
    return list(error.errors(include_url=False, include_input=False, include_context=False))


def _row_model(contract: Contract) -> Any:
    """A strict TypedDict with a key per feature: any order, and none missing.

    Unknown keys come through to be counted, for Pydantic would make an error of each; the JSON
    schema says what holds for a client.
    """
    make: Any = TypedDict
    row = make("Row", {feature.name: _number(feature) for feature in contract.features})
    closed: Any = {"additionalProperties": False}
    config = ConfigDict(extra="allow", strict=True, json_schema_extra=closed)
    return with_config(config)(row)


def _number(feature: FeatureSpec) -> Any:
    whole = feature.type == "int"
    field = Field(
        ge=max(math.ceil(feature.minimum), -EXACT_INTEGER) if whole else feature.minimum,
        le=min(math.floor(feature.maximum), EXACT_INTEGER) if whole else feature.maximum,
        allow_inf_nan=None if whole else False,
        description=", in ".join(filter(None, (feature.description, feature.unit))) or None,
        examples=[feature.example],
    )
    return Annotated[int if whole else float, field]
