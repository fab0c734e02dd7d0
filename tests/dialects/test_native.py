from __future__ import annotations

import json
from typing import Any

import numpy as np
import orjson
import pytest

import train
from iris_api.contract.columns import FeatureSpec
from iris_api.contract.contract import Contract
from iris_api.contract.rows import RequestSchema, Rows
from iris_api.contract.tasks import Outcome
from iris_api.dialects import native
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
        native.decode(body if isinstance(body, bytes) else json.dumps(body).encode(), schema)
    return refused.value


def test_an_object_is_one_row_and_an_array_is_a_batch(schema: RequestSchema) -> None:
    """White space before the body changes nothing."""
    row = native.decode(b" \n\t" + json.dumps(FLOWER).encode(), schema)
    assert (row.values, row.is_batch) == ([FLOWER], False)
    batch = native.decode(b"\r\n " + json.dumps([FLOWER, FLOWER]).encode(), schema)
    assert (batch.values, batch.is_batch) == ([FLOWER, FLOWER], True)


def test_columns_are_in_the_order_of_the_contract(schema: RequestSchema) -> None:
    """The order of keys in a JSON object does not matter."""
    backwards = dict(reversed(FLOWER.items()))
    rows = native.decode(json.dumps([backwards, FLOWER]).encode(), schema).values
    np.testing.assert_array_equal(
        schema.array(rows, np.float64), [[6.7, 3.0, 5.2, 2.3], [6.7, 3.0, 5.2, 2.3]]
    )


def test_a_model_of_one_feature_has_one_column() -> None:
    """The array of a single feature has two dimensions."""
    contract = Contract(features=(FeatureSpec(name="x", example=1),), classes=("a", "b"))
    schema = RequestSchema(contract, max_rows=3)
    rows = native.decode(b'[{"x": 1}, {"x": 2}]', schema).values
    assert schema.array(rows, np.float32).tolist() == [[1.0], [2.0]]


@pytest.mark.parametrize("value", [0, 10, 0.0, 10.0, -0.0, 1e-320, 3, 9.999999999999999])
def test_bounds_are_inclusive_and_integers_are_numbers(schema: RequestSchema, value: float) -> None:
    """A value on a bound is allowed, and so is an integer for a number."""
    assert native.decode(json.dumps(FLOWER | {"petal_width": value}).encode(), schema)


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
    """Validation is strict: no strings, booleans, nulls, NaN, infinity or values out of bounds."""
    body = json.dumps(FLOWER).replace("2.3", value).encode()
    (error,) = refusal(schema, body).errors
    assert (error.row, error.field, error.type) == (None, "petal_width", kind)


def test_an_integer_feature_refuses_a_fraction() -> None:
    """The type of a feature is enforced, and its name may be any text."""
    schema = RequestSchema(MIXED, max_rows=5)
    assert native.decode('{"age in years": 40, "température °C": 37.2}'.encode(), schema)
    (error,) = refusal(schema, {"age in years": 40.5, "température °C": 37}).errors
    assert (error.field, error.type) == ("age in years", "int_type")


def test_an_integer_without_bounds_is_exact() -> None:
    """Its bounds are those within which every JSON client holds integers exactly."""
    contract = Contract(
        features=(FeatureSpec(name="n", type="int", example=1),), classes=("a", "b")
    )
    schema = RequestSchema(contract, max_rows=5)
    assert native.decode(b'{"n": -9007199254740992}', schema).values == [{"n": -9007199254740992}]
    (error,) = refusal(schema, b'{"n": 9007199254740993}').errors
    assert error.type == "less_than_equal"


def test_all_errors_of_a_batch_are_listed_with_their_rows(schema: RequestSchema) -> None:
    """One answer lists the missing, unknown and invalid fields of every row."""
    batch = [FLOWER, {"sepal_length": 11, "colour": "red"}, "no row"]
    error = refusal(schema, batch)
    listed = {(each.row, each.field, each.type) for each in error.errors}
    assert listed == {
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
    """The answer to a batch full of errors stays small."""
    error = refusal(RequestSchema(train.CONTRACT, max_rows=1000), [{}] * 1000)
    assert (len(error.errors), error.total) == (100, 4000)
    assert str(error) == "The body has 4000 errors. The first 100 are listed."


@pytest.mark.parametrize("batch", [True, False])
def test_thousands_of_errors_are_counted_exactly(batch: bool) -> None:
    """A row with 12,004 errors lists the first hundred."""
    names = [f"x{i}" for i in range(12_000)]
    row = dict.fromkeys(names, 0.0) | {"sepal_length": float("nan")}
    error = refusal(RequestSchema(train.CONTRACT, max_rows=9), [FLOWER, row, 3] if batch else row)
    assert error.total == 12_004 + batch
    assert len(error.errors) == 100
    listed = [(each.row, each.field, each.type) for each in error.errors[:5]]
    expected = ["finite_number", "missing", "missing", "missing", "extra_forbidden"]
    assert [kind for _, _, kind in listed] == expected
    assert {row for row, _, _ in listed} == {1 if batch else None}
    assert listed[4][1] in names


def test_an_unknown_name_is_shortened(schema: RequestSchema) -> None:
    """The answer does not repeat a name of a megabyte."""
    (error,) = refusal(schema, FLOWER | {"x" * 1_000_000: 1}).errors
    assert error.field == "x" * 100


@pytest.mark.parametrize("body", [b"null", b'"text"', b"3", b"true"])
def test_other_json_than_objects_and_arrays_breaks_the_contract(
    schema: RequestSchema, body: bytes
) -> None:
    """The message names the type of body to send."""
    (error,) = refusal(schema, body).errors
    assert error.message == "Send an object with a number for each feature"


def test_an_empty_batch_breaks_the_contract(schema: RequestSchema) -> None:
    """A batch needs at least one row."""
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
def test_a_body_that_is_not_json_has_its_own_error(schema: RequestSchema, body: bytes) -> None:
    """An empty, truncated, endlessly nested or non-UTF-8 body is a 400, not a 422."""
    with pytest.raises(InvalidJSONError):
        native.decode(body, schema)


@pytest.mark.parametrize("field", ["petal_width", "unknown"])
@pytest.mark.parametrize("form", ["{}", "[{}]"])
def test_a_number_of_five_thousand_digits_is_refused(
    schema: RequestSchema, field: str, form: str
) -> None:
    """Python can't read such a number, neither in a known nor in an unknown field."""
    row = json.dumps(FLOWER | {field: 0}).replace(f'"{field}": 0', f'"{field}": {"9" * 5000}')
    with pytest.raises(InvalidJSONError, match="number out of range"):
        native.decode(form.replace("{}", row).encode(), schema)


def test_a_batch_longer_than_allowed_is_too_large(schema: RequestSchema) -> None:
    """The limit applies to valid and to invalid rows."""
    assert len(native.decode(json.dumps([FLOWER] * 5).encode(), schema).values) == 5
    for row in (FLOWER, {}):
        with pytest.raises(TooManyRowsError, match="has 6 rows and may have 5"):
            native.decode(json.dumps([row] * 6).encode(), schema)


def test_the_largest_body_holds_the_most_rows() -> None:
    """Indented numbers of 17 digits fit into the default limit."""
    schema = RequestSchema(train.CONTRACT, max_rows=100)
    row = dict.fromkeys(FLOWER, 1.2345678901234567e-100)
    assert len(json.dumps([row] * 100, indent=1)) <= schema.max_body_bytes


RNG = np.random.default_rng(3)
BATCH = Rows([], is_batch=True)


def single(outcome: Outcome, row: dict[str, float]) -> bytes:
    return native.encode(outcome, Rows([row], is_batch=False))


def rows_of(outcome: Outcome) -> list[Outcome]:
    """An outcome for each row."""
    return [
        Outcome(outcome.rows[n : n + 1], outcome.probabilities[n : n + 1], outcome.classes, "v")
        for n in range(len(outcome))
    ]


def test_the_answers_of_a_batch_are_rounded_to_four_decimals() -> None:
    """The body has the predictions in order, their count and the model's version."""
    raw = np.array([[0.5, 0.5], [0.33333, 0.66667]])
    outcome = Outcome(np.zeros((2, 1)), raw, ("a", "b"), "v1")
    assert json.loads(native.encode(outcome, BATCH)) == {
        "predictions": [
            {"prediction": "a", "confidence": 0.5, "probabilities": {"a": 0.5, "b": 0.5}},
            {"prediction": "b", "confidence": 0.6667, "probabilities": {"a": 0.3333, "b": 0.6667}},
        ],
        "count": 2,
        "model_version": "v1",
    }


def test_a_large_batch_with_few_distinct_answers_repeats_them_in_order() -> None:
    """Each distinct answer is written once, and each row still gets its own."""
    distinct = RNG.dirichlet([0.3] * 3, 40)
    raw = distinct[RNG.integers(0, 40, 3000)]
    outcome = Outcome(np.zeros((3000, 1)), raw, ("a", "b", "c"), "v")
    answers = [orjson.loads(single(row, {})) for row in rows_of(outcome)]
    names = ("prediction", "confidence", "probabilities")
    expected = [{name: answer[name] for name in names} for answer in answers]
    assert json.loads(native.encode(outcome, BATCH))["predictions"] == expected


@pytest.mark.parametrize("rows", [1, 3, 3000])
def test_a_probability_of_nan_is_never_answered(rows: int) -> None:
    """A linear model may give NaN for inputs of 1e38: the request fails instead."""
    outcome = Outcome(np.zeros((rows, 1)), np.full((rows, 2), np.nan), ("a", "b"), "v")
    with pytest.raises(ArithmeticError):
        native.encode(outcome, BATCH)
    with pytest.raises(ValueError, match="NaN"):
        single(outcome, {})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [("a", "b"), ('"', "\\%b", "ü\u202e", "</script>")])
@pytest.mark.parametrize("rows", [1, 2, native.ROWS_AT_ONCE, native.ROWS_AT_ONCE + 1])
def test_each_answer_of_a_batch_equals_the_answer_to_its_row_alone(
    rows: int, classes: tuple[str, ...], dtype: type
) -> None:
    """The bytes are those that orjson writes, also for ties, zeros and ones."""
    raw = RNG.dirichlet([0.3] * len(classes), rows)
    raw[::7] = 1 / len(classes)
    raw[::5] = np.eye(len(classes))[0]
    outcome = Outcome(np.zeros((rows, 1)), raw.astype(dtype), classes, "v")
    answers = [orjson.loads(single(row, {"x": 0.0})) for row in rows_of(outcome)]
    for answer in answers:
        assert answer.pop("input") == {"x": 0.0}
        assert answer.pop("model_version") == "v"
    whole = {"predictions": answers, "count": rows, "model_version": "v"}
    expected = orjson.dumps(whole, option=orjson.OPT_APPEND_NEWLINE)
    assert native.encode(outcome, BATCH) == expected
