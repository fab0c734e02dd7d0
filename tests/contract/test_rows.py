from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import train
from iris_api.contract.columns import FeatureSpec
from iris_api.contract.contract import Contract
from iris_api.contract.rows import RequestSchema
from iris_api.errors import ContractError, InvalidJSONError, TooManyRowsError
from tests.conftest import FLOWER

MIXED = Contract(
    features=(
        FeatureSpec(name="age in years", type="int", minimum=0, maximum=150, example=40),
        FeatureSpec(name="température °C", example=37.2),
    ),
    classes=("well", "ill"),
)


@pytest.fixture(scope="module")
def schema() -> RequestSchema:
    """The iris schema for at most five rows."""
    return RequestSchema(train.CONTRACT, max_rows=5)


def refusal(schema: RequestSchema, body: Any) -> ContractError:
    with pytest.raises(ContractError) as refused:
        schema.parse(body if isinstance(body, bytes) else json.dumps(body).encode())
    return refused.value


def test_an_object_is_one_row_and_an_array_is_a_batch(schema: RequestSchema) -> None:
    """White space before the body changes nothing."""
    one = schema.parse(b" \n\t" + json.dumps(FLOWER).encode())
    assert (one.rows, one.batch) == ([FLOWER], False)
    many = schema.parse(b"\r\n " + json.dumps([FLOWER, FLOWER]).encode())
    assert (many.rows, many.batch) == ([FLOWER, FLOWER], True)


def test_columns_come_in_the_contracts_order_whatever_the_body_had(schema: RequestSchema) -> None:
    """JSON objects have no order; the array has."""
    backwards = dict(reversed(FLOWER.items()))
    rows = schema.parse(json.dumps([backwards, FLOWER]).encode()).rows
    np.testing.assert_array_equal(
        schema.array(rows, np.float64), [[6.7, 3.0, 5.2, 2.3], [6.7, 3.0, 5.2, 2.3]]
    )


def test_a_model_of_one_feature_has_one_column() -> None:
    """The narrowest contract gives a column, not a flat array."""
    contract = Contract(features=(FeatureSpec(name="x", example=1),), classes=("a", "b"))
    schema = RequestSchema(contract, max_rows=3)
    rows = schema.parse(b'[{"x": 1}, {"x": 2}]').rows
    assert schema.array(rows, np.float32).tolist() == [[1.0], [2.0]]


@pytest.mark.parametrize("value", [0, 10, 0.0, 10.0, -0.0, 1e-320, 3, 9.999999999999999])
def test_bounds_are_inclusive_and_integers_are_numbers(schema: RequestSchema, value: float) -> None:
    """0 and 10 are in."""
    assert schema.parse(json.dumps(FLOWER | {"petal_width": value}).encode()).rows


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("true", "float_type"),
        ('"5.1"', "float_type"),
        ("null", "float_type"),
        ("[1]", "float_type"),
        ("{}", "float_type"),
        ("NaN", "finite_number"),
        ("Infinity", "finite_number"),
        ("-Infinity", "finite_number"),
        ("1e400", "finite_number"),
        ("9" * 400, "finite_number"),
        ("10.000000000000002", "less_than_equal"),
        ("-0.1", "greater_than_equal"),
        ("1e300", "less_than_equal"),
    ],
)
def test_only_finite_numbers_in_bounds_are_numbers(
    schema: RequestSchema, value: str, kind: str
) -> None:
    """Strict: no strings, booleans, nulls, NaN or infinities, and nothing beyond the bounds."""
    body = json.dumps(FLOWER).replace("2.3", value).encode()
    (error,) = refusal(schema, body).errors
    assert (error.row, error.field, error.type) == (None, "petal_width", kind)


def test_a_whole_number_feature_takes_no_fraction() -> None:
    """Types of the contract are kept too, and names may be any text."""
    schema = RequestSchema(MIXED, max_rows=5)
    assert schema.parse('{"age in years": 40, "température °C": 37.2}'.encode()).rows
    (error,) = refusal(schema, {"age in years": 40.5, "température °C": 37}).errors
    assert (error.field, error.type) == ("age in years", "int_type")


def test_a_whole_number_without_bounds_is_exact() -> None:
    """Up to where a JSON number is an exact integer for every client."""
    contract = Contract(
        features=(FeatureSpec(name="n", type="int", example=1),), classes=("a", "b")
    )
    schema = RequestSchema(contract, max_rows=5)
    assert schema.parse(b'{"n": -9007199254740992}').rows == [{"n": -9007199254740992}]
    (error,) = refusal(schema, b'{"n": 9007199254740993}').errors
    assert error.type == "less_than_equal"


def test_all_errors_come_at_once_with_their_rows(schema: RequestSchema) -> None:
    """Missing, unknown and wrong fields of every row are told in one answer."""
    batch = [FLOWER, {"sepal_length": 11, "colour": "red"}, "no row"]
    error = refusal(schema, batch)
    told = {(found.row, found.field, found.type) for found in error.errors}
    assert told == {
        (1, "sepal_length", "less_than_equal"),
        (1, "sepal_width", "missing"),
        (1, "petal_length", "missing"),
        (1, "petal_width", "missing"),
        (1, "colour", "extra_forbidden"),
        (2, None, "dict_type"),
    }
    assert error.total == 6
    assert str(error) == "The body has 6 errors."


def test_the_first_hundred_errors_are_listed_and_all_are_counted() -> None:
    """A hopeless batch does not get an answer larger than itself."""
    error = refusal(RequestSchema(train.CONTRACT, max_rows=1000), [{}] * 1000)
    assert (len(error.errors), error.total) == (100, 4000)
    assert str(error) == "The body has 4000 errors. The first 100 are listed."


@pytest.mark.parametrize("batch", [True, False])
def test_a_hopeless_body_is_told_as_any_other(batch: bool) -> None:
    """Beyond ten thousand errors they are not all made first, and what is told is the same."""
    names = [f"x{i}" for i in range(12_000)]
    row = dict.fromkeys(names, 0.0) | {"sepal_length": float("nan")}
    error = refusal(RequestSchema(train.CONTRACT, max_rows=9), [FLOWER, row, 3] if batch else row)
    assert error.total == 12_004 + batch
    assert len(error.errors) == 100
    told = [(found.row, found.field, found.type) for found in error.errors[:5]]
    expected = ["finite_number", "missing", "missing", "missing", "extra_forbidden"]
    assert [kind for _, _, kind in told] == expected
    assert {where for where, _, _ in told} == {1 if batch else None}
    assert told[4][1] in names


def test_a_name_that_a_client_made_up_is_shown_in_part(schema: RequestSchema) -> None:
    """The answer does not repeat a megabyte."""
    (error,) = refusal(schema, FLOWER | {"x" * 1_000_000: 1}).errors
    assert error.field == "x" * 100


@pytest.mark.parametrize("body", [b"null", b'"text"', b"3", b"true"])
def test_other_json_than_objects_and_arrays_breaks_the_contract(
    schema: RequestSchema, body: bytes
) -> None:
    """The answer says what to send."""
    (error,) = refusal(schema, body).errors
    assert error.message == "Send an object with a number for each feature"


def test_an_empty_batch_breaks_the_contract(schema: RequestSchema) -> None:
    """There is nothing to answer."""
    (error,) = refusal(schema, []).errors
    assert (error.row, error.type) == (None, "too_short")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \n ",
        b"{",
        b"{'a': 1}",
        b"\xff\xfe",
        b'{"sepal_length": 1}}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"\xc3\x28": 1}',
        b'{"\\ud800": 1}',
        '{"sepal_length": 1}'.encode("utf-16"),
    ],
)
def test_what_is_not_json_is_told_apart(schema: RequestSchema, body: bytes) -> None:
    """Empty, cut, nested without end, or not UTF-8: 400, not 422."""
    with pytest.raises(InvalidJSONError):
        schema.parse(body)


@pytest.mark.parametrize("field", ["petal_width", "unknown"])
@pytest.mark.parametrize("form", ["{}", "[{}]"])
def test_a_number_of_five_thousand_digits_is_refused(
    schema: RequestSchema, field: str, form: str
) -> None:
    """Python itself will not read it, wherever it stands."""
    row = json.dumps(FLOWER | {field: 0}).replace(f'"{field}": 0', f'"{field}": {"9" * 5000}')
    with pytest.raises(InvalidJSONError, match="number out of range"):
        schema.parse(form.replace("{}", row).encode())


def test_a_batch_longer_than_allowed_is_too_large(schema: RequestSchema) -> None:
    """Whatever its rows are."""
    assert len(schema.parse(json.dumps([FLOWER] * 5).encode()).rows) == 5
    for row in (FLOWER, {}):
        with pytest.raises(TooManyRowsError, match="has 6 rows and may have 5"):
            schema.parse(json.dumps([row] * 6).encode())


def test_the_largest_body_holds_the_most_rows() -> None:
    """Numbers of 17 digits, indented: still within what the default limit allows."""
    schema = RequestSchema(train.CONTRACT, max_rows=100)
    row = dict.fromkeys(FLOWER, 1.2345678901234567e-100)
    assert len(json.dumps([row] * 100, indent=1)) <= schema.largest_body
