from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from iris_api.bundle.model import Model
from iris_api.errors import TableError
from iris_api.scoring.scorer import Scorer, score_all
from iris_api.scoring.table import Table
from tests.conftest import FLOWER, pickle_only

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from flask.testing import FlaskClient

    from iris_api.bundle.store import Bundle

NAMES = list(FLOWER)


def score(model: Model, content: bytes) -> tuple[str, str]:
    """Score a table; returns the output and the rejects, each with its header."""
    table = Table(io.BytesIO(content), "t.csv")
    scorer = Scorer(model, table)
    results = list(score_all(scorer, table.chunks(scorer.feature_columns), threads=2))
    output = scorer.header + b"".join(result.output for result in results)
    rejects = scorer.rejects_header + b"".join(result.rejects for result in results)
    return output.decode(), rejects.decode()


def rows_of(text: str) -> list[list[str]]:
    """The rows of a CSV file without its header."""
    return list(csv.reader(io.StringIO(text)))[1:]


@pytest.fixture(scope="module")
def model(trained: Path) -> Model:
    """The trained model, loaded as a server loads it."""
    return Model.load(trained, max_rows=1)


def flowers(count: int) -> list[dict[str, float]]:
    """Random rows, some of them with values on the bounds."""
    rows = np.random.default_rng(1).uniform(-0.5, 10.5, (count, 4)).clip(0, 10)
    return [dict(zip(NAMES, row, strict=True)) for row in rows.tolist()]


@pytest.mark.parametrize("quote", ["", '"'])
def test_the_answers_equal_those_of_the_api(model: Model, client: FlaskClient, quote: str) -> None:
    """Label, confidence and probabilities of 5,000 rows agree to the digit, in any column order."""
    rows = flowers(5000)
    names = [NAMES[2], NAMES[0], NAMES[3], NAMES[1]]
    lines = [",".join(f"{quote}{row[n]!r}{quote}" for n in names) for row in rows]
    output, _ = score(model, "\n".join([",".join(names), *lines]).encode())
    answers = client.post("/v1/predict", json=rows).get_json()["predictions"]
    expected = [
        [*(repr(row[n]) for n in names), answer["prediction"], repr(answer["confidence"])]
        + [repr(value) for value in answer["probabilities"].values()]
        for row, answer in zip(rows, answers, strict=True)
    ]
    header, *lines_with_answers = csv.reader(io.StringIO(output))
    assert lines_with_answers == expected
    classes = [f"probability_{name}" for name in answers[0]["probabilities"]]
    assert header == [*names, "prediction", "confidence", *classes]


def test_other_columns_are_copied_unchanged(model: Model) -> None:
    """So are quotes, blanks, line endings and the byte order mark."""
    content = (
        '\ufeffid,"a ""note""",' + ",".join(NAMES) + '\r\n007,"x, ""y""\nz", 6.7,3.0 ,5.2,2.3\r\n'
    )
    header, record = content.removesuffix("\r\n").rsplit("\r\n", 1)
    output, rejects = score(model, content.encode())
    added = "prediction,confidence,probability_setosa,probability_versicolor,probability_virginica"
    assert output.startswith(f"{header},{added}\r\n{record},virginica,1.0,")
    assert output.endswith("\r\n")
    assert rejects == "\ufeffline,reasons," + header.removeprefix("\ufeff") + "\r\n"


@pytest.mark.parametrize(
    ("cell", "value"),
    [("abc", "abc"), ("10.001", 10.001), ("-0.1", -0.1), ("1e999", math.inf)],
)
def test_a_rejected_row_has_the_message_of_the_api(
    model: Model, client: FlaskClient, cell: str, value: Any
) -> None:
    """The reason equals the API's error for the same value, and the rows around it are scored."""
    good = "6.7,3.0,5.2,2.3"
    content = f"{','.join(NAMES)}\n{good}\n6.7,3.0,{cell},2.3\n{good}\n"
    output, rejects = score(model, content.encode())
    body = str(FLOWER | {"petal_length": value}).replace("'", '"').replace("inf", "1e999")
    refusal = client.post("/v1/predict", data=body, content_type="application/json")
    (error,) = refusal.get_json()["errors"]
    assert rows_of(rejects) == [
        ["3", f"petal_length: {error['message']}", "6.7", "3.0", cell, "2.3"]
    ]
    assert output.count("\n") == 3


@pytest.mark.parametrize(
    "cell",
    ["nan", "inf", "-Infinity", "1_0", "0x1", "1 2", '"1,2"', "٣", "1e", "true", "+-1", "[1]"],
)
def test_a_cell_that_is_not_a_decimal_number_is_rejected(model: Model, cell: str) -> None:
    """Also if Python or JSON would accept it."""
    _, rejects = score(model, f"{','.join(NAMES)}\n6.7,3.0,5.2,{cell}\n".encode())
    assert "petal_width: Input should be a valid number" in rejects


@pytest.mark.parametrize("cell", [".5", "+0.5", "5e-1", "00.50", " 0.5 ", "5E-1", '"0.5"'])
def test_a_number_may_be_written_in_other_ways(model: Model, cell: str) -> None:
    """The answer is that of the same number, and the cell is copied unchanged."""
    output, _ = score(model, f"{','.join(NAMES)}\n6.7,3.0,5.2,{cell}\n6.7,3.0,5.2,0.5\n".encode())
    answer, expected = output.splitlines()[1:]
    assert answer.removeprefix(f"6.7,3.0,5.2,{cell}") == expected.removeprefix("6.7,3.0,5.2,0.5")


def test_a_reject_lists_all_reasons(model: Model) -> None:
    """Empty cells count as missing; rejects of every kind are in the order of their lines."""
    content = f'{",".join(NAMES)},note\n,x,11,1,\n1,2\n1,1,1, ,é\n1,1,1,1,"x"y\n'
    _, rejects = score(model, content.encode())
    missing = "Missing: every feature needs a number"
    others = (
        "sepal_width: Input should be a valid number; "
        "petal_length: Input should be less than or equal to 10"
    )
    assert [row[:2] for row in rows_of(rejects)] == [
        ["2", f"sepal_length: {missing}; {others}"],
        ["3", "2 cells where the header has 5"],
        ["4", f"petal_width: {missing}"],
        ["5", "text follows the closing quote of a cell: a quote inside a cell is written twice"],
    ]
    assert rows_of(rejects)[-1][2:] == ['1,1,1,1,"x"y']


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([*NAMES[1:], "x"], "no column sepal_length: it has to name each feature once"),
        ([*NAMES, "petal_width"], "more than one column petal_width: it has to name each"),
        ([*NAMES, "confidence"], "has column confidence, which the output adds: rename it"),
        ([*NAMES, "confidence", "prediction"], "columns prediction, confidence, .* rename them"),
        ([";".join(NAMES)], "no column sepal_length, .* there are semicolons in it, but cells"),
        (["\t".join(NAMES)], "no column sepal_length, .* there are tabs in it, but cells have to"),
        ([*NAMES[1:], "x;y"], "no column sepal_length: it has to name each feature once"),
    ],
)
def test_a_header_without_the_features_is_refused(
    model: Model, names: list[str], message: str
) -> None:
    """So is one with a column that the output adds; the message says what to change."""
    with pytest.raises(TableError, match=message):
        score(model, ",".join(names).encode())


def test_an_integer_feature_refuses_fractions(save: Callable[..., Bundle]) -> None:
    """It also takes the largest exact integer, and any probability is written as the API has it."""
    rows = np.random.default_rng(2).integers(0, 50, (200, 2)).astype(float)
    labels = (rows.sum(axis=1) + rows[:, 0] > 60).astype(int)
    estimator = LogisticRegression().fit(rows, labels)
    bundle = save(estimator, rows, labels, type="int")
    other = Model.of(bundle, max_rows=1000)
    lines = "".join(f"{a},{b}\n" for a, b in rows.astype(int).tolist())
    output, rejects = score(
        other, f"a,b\n{lines}1,9007199254740992\n1,2.0\n1,9007199254740993\n".encode()
    )
    outcome = other.predict([{"a": a, "b": b} for a, b in rows.tolist()])
    scored = rows_of(output)
    pairs = zip(outcome.labels.tolist(), outcome.probabilities.tolist(), strict=True)
    assert [row[2:] for row in scored[:-1]] == [
        [outcome.classes[label], repr(probabilities[label]), *map(repr, probabilities)]
        for label, probabilities in pairs
    ]
    assert scored[-1][:2] == ["1", "9007199254740992"]
    assert [row[:2] for row in rows_of(rejects)] == [
        ["203", "b: Input should be a valid integer"],
        ["204", "b: Input should be less than or equal to 9007199254740992"],
    ]


def test_the_scikit_learn_runtime_gives_the_same_output(model: Model, model_dir: Path) -> None:
    """A bundle without an ONNX artefact can be scored."""
    pickled = Model.of(pickle_only(model_dir), max_rows=1)
    content = (",".join(NAMES) + "\n" + "6.7,3.0,5.2,2.3\n" * 3).encode()
    assert score(pickled, content) == score(model, content)


@pytest.mark.parametrize("lines", ["", "1\n", "x,1,1,1\n" * 3])
def test_a_table_without_a_valid_row_gives_a_header(model: Model, lines: str) -> None:
    """The output is the header alone; rejects have their lines."""
    output, rejects = score(model, f"{','.join(NAMES)}\n{lines}".encode())
    assert output.count("\n") == 1
    assert rejects.count("\n") == 1 + lines.count("\n")


def test_a_long_cell_is_read_beside_any_other_lines(model: Model) -> None:
    """It is read whether the lines beside it are valid, quoted or broken."""
    header = ",".join((*FLOWER, "note")).encode()
    row = ",".join(map(str, FLOWER.values())).encode()
    text = header + b"\n" + row + b"," + b"x" * 200_000 + b"\n"
    for following in (b"", b"bad\n", row + b',"y"\n'):
        output, _ = score(model, text + following)
        assert "x" * 200_000 in output
