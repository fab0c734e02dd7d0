"""Rows that keep a contract: their validation, their array, and which of them are equal.

Pydantic validates a batch in one pass, straight from the bytes, as plain typed dictionaries.
"""

from __future__ import annotations

import json
import math
from itertools import chain, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
from pydantic import ConfigDict, FailFast, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from iris_api.errors import ContractError, FieldError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from .columns import FeatureSpec
    from .contract import Contract

MAX_LISTED_ERRORS = 100
MAX_NAME_CHARACTERS = 100
"""Characters of an unknown field's name that an error repeats."""
NUMBER_BYTES = 36
"""Room for a number of 17 digits with sign and exponent, and for the punctuation around it."""
EXACT_INTEGER = 2**53
"""Most JSON clients can't hold a larger integer exactly."""

MESSAGES = {
    "dict_type": "Send an object with a number for each feature",
    "missing": "Missing: every feature needs a number",
}
"""Our own messages, by Pydantic's type of error."""

Row = dict[str, float]


class Rows(NamedTuple):
    """The rows of a request, and whether they came as a batch."""

    values: list[Row]
    is_batch: bool


class RequestSchema:
    """Validates rows against a contract.

    The fast path only asks Pydantic whether something is wrong. The errors of a batch are then made
    row by row: making them all at once took 340 MB for a hostile body of 2 MB.

    Args:
        contract: The features that each row must have.
        max_rows: Most rows in one request.
    """

    def __init__(self, contract: Contract, *, max_rows: int) -> None:
        row = _row_type(contract)
        length = Field(min_length=1, max_length=max_rows)
        rows: Any = Annotated[list[row], length, FailFast()]  # type: ignore[valid-type]
        self.max_rows = max_rows
        self.single: TypeAdapter[Row] = TypeAdapter(row)
        self.batch: TypeAdapter[list[Row]] = TypeAdapter(rows)
        # The validators' own methods skip the adapters' look at options that are never used here.
        self.validate_single = self.single.validator.validate_json
        self.validate_batch = self.batch.validator.validate_json
        self._names = contract.feature_names
        self._values = itemgetter(*self._names)
        self.max_body_bytes = max_rows * sum(len(json.dumps(n)) + NUMBER_BYTES for n in self._names)
        """Bytes that `max_rows` rows need at most when their numbers are written at length."""

    def has_unknown_keys(self, rows: list[Row]) -> bool:
        """Whether any of these validated rows has a key that is not a feature."""
        return sum(map(len, rows)) != len(rows) * len(self._names)

    def array(self, rows: Sequence[Row], dtype: type[np.floating[Any]]) -> NDArray[Any]:
        """The rows as an array of shape (rows, features), columns in the contract's order."""
        width = len(self._names)
        values: Any = map(self._values, rows)
        flat = values if width == 1 else chain.from_iterable(values)
        return np.fromiter(flat, dtype, count=len(rows) * width).reshape(-1, width)

    def errors(self, row: Mapping[str, Any]) -> list[FieldError]:
        """All errors of one row."""
        return [_field_error(None, detail) for detail in self._details(row)]

    def single_error(self, row: Any, error: ValidationError | None) -> ContractError:
        """The error of a single row, with what Pydantic found in it."""
        return self._contract_error([(None, row, details_of(error) if error else [])])

    def batch_error(self, rows: list[Any]) -> ContractError:
        """The error of a batch: everything wrong with each of its rows."""
        if not rows:
            empty = "The batch is empty: send one row at least"
            return ContractError((FieldError(None, None, empty, "too_short"),), total=1)
        return self._contract_error((n, row, self._details(row)) for n, row in enumerate(rows))

    def _contract_error(self, rows: Iterable[tuple[int | None, Any, list[Any]]]) -> ContractError:
        """The error for rows, each with its number and Pydantic's details of what is wrong."""
        listed: list[FieldError] = []
        total = 0
        for number, row, details in rows:
            unknown = row.keys() - set(self._names) if isinstance(row, dict) else set()
            total += len(details) + len(unknown)
            if len(listed) < MAX_LISTED_ERRORS:
                listed += [_field_error(number, detail) for detail in details]
                listed += [self._unknown(number, n) for n in islice(unknown, MAX_LISTED_ERRORS)]
        return ContractError(tuple(listed[:MAX_LISTED_ERRORS]), total)

    def _details(self, row: Any) -> list[Any]:
        try:
            self.single.validate_python(row)
        except ValidationError as error:
            return details_of(error)
        return []

    def _unknown(self, row: int | None, name: str) -> FieldError:
        message = f"Unknown feature: the model has {', '.join(self._names)}"
        return FieldError(row, name[:MAX_NAME_CHARACTERS], message, "extra_forbidden")


def details_of(error: ValidationError) -> list[Any]:
    """Pydantic's errors, without the input and the links to its documentation."""
    return list(error.errors(include_url=False, include_input=False, include_context=False))


def unique_rows(
    rows: NDArray[Any], order: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Deduplicate rows.

    Args:
        rows: Shape (rows, anything).
        order: An order in which equal rows are adjacent, shape (rows,). Equal rows that are not
            adjacent count as different.

    Returns:
        The indices of the distinct rows in this order, and for each row the position of its equal
        among them: `rows[first][inverse]` equals `rows`.
    """
    ordered = rows[order]
    is_first = np.ones(len(rows), np.bool_)
    np.any(ordered[1:] != ordered[:-1], axis=1, out=is_first[1:])
    inverse = np.empty(len(rows), np.intp)
    inverse[order] = np.cumsum(is_first) - 1
    return order[is_first], inverse


def _field_error(row: int | None, detail: Any) -> FieldError:
    field = detail["loc"][0] if detail["loc"] else None
    kind = detail["type"]
    return FieldError(row, field, MESSAGES.get(kind, detail["msg"]), kind)


def _row_type(contract: Contract) -> Any:
    """A strict TypedDict with one required key for each feature.

    Unknown keys pass through and are counted afterwards, because Pydantic would make an error of
    each. The JSON schema says that none is allowed.
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
