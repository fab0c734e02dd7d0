from __future__ import annotations

import csv
import io
import math
from dataclasses import replace
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
    from numpy.typing import NDArray

    from iris_api.bundle.runtimes import Runtime
    from iris_api.bundle.store import Bundle

NAMES = list(FLOWER)


def scored(model: Model, content: bytes) -> tuple[str, str]:
    """The output and the rejects, each with its header."""
    table = Table(io.BytesIO(content), "t.csv")
    scorer = Scorer(model, table)
    made = list(score_all(scorer, table.chunks(scorer.wanted), threads=2))
    output = scorer.header + b"".join(one.output for one in made)
    return output.decode(), (scorer.rejects_header + b"".join(one.rejects for one in made)).decode()


@pytest.fixture(scope="module")
def model(trained: Path) -> Model:
    """The model as it serves."""
    return Model.load(trained, max_rows=1)


def flowers(count: int) -> list[dict[str, float]]:
    """Random rows, some of them on the bounds."""
    rows = np.random.default_rng(1).uniform(-0.5, 10.5, (count, 4)).clip(0, 10)
    return [dict(zip(NAMES, row, strict=True)) for row in rows.tolist()]


@pytest.mark.parametrize("quote", ["", '"'])
def test_the_answers_are_those_of_the_api(model: Model, client: FlaskClient, quote: str) -> None:
    """Label, confidence and probabilities of 5,000 rows to the digit, in any order of columns."""
    rows = flowers(5000)
    names = [NAMES[2], NAMES[0], NAMES[3], NAMES[1]]
    lines = [",".join(f"{quote}{row[n]!r}{quote}" for n in names) for row in rows]
    output, _ = scored(model, "\n".join([",".join(names), *lines]).encode())
    answers = client.post("/v1/predict", json=rows).get_json()["predictions"]
    expected = [
        [*(repr(row[n]) for n in names), made["prediction"], repr(made["confidence"])]
        + [repr(value) for value in made["probabilities"].values()]
        for row, made in zip(rows, answers, strict=True)
    ]
    header, *found = csv.reader(io.StringIO(output))
    assert found == expected
    classes = [f"probability_{name}" for name in answers[0]["probabilities"]]
    assert header == [*names, "prediction", "confidence", *classes]


class Recording:
    """A runtime that keeps the rows it was given."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime, self.dtype = runtime.runtime, runtime.dtype
        self.given: list[list[float]] = []
        self._predictor = runtime

    def probabilities(self, rows: NDArray[Any]) -> NDArray[np.floating[Any]]:
        self.given += rows.tolist()
        return self._predictor.probabilities(rows)


def test_rows_that_are_repeated_are_predicted_once(model: Model) -> None:
    """Numbers that differ only in the last bit the estimator sees are not the same."""
    near = [
        float(np.nextafter(np.float32(4.9), np.float32(step), dtype=np.float32)) for step in (0, 9)
    ]
    rows = [(5.0, 3.5, x, 1.5) for x in (4.9, 1.4, *near)] * 500
    np.random.default_rng(1).shuffle(rows)
    recording = Recording(model.runtime)
    lines = [",".join(map(repr, row)) for row in rows]
    content = "\n".join([",".join(NAMES), *lines]).encode()
    output, _ = scored(replace(model, runtime=recording), content)
    assert sorted(recording.given) == sorted(np.unique(np.array(rows, np.float32), axis=0).tolist())
    assert len(recording.given) == 4
    alone = {line: scored(model, f"{','.join(NAMES)}\n{line}".encode())[0] for line in set(lines)}
    assert output.splitlines()[1:] == [alone[line].splitlines()[1] for line in lines]


def test_other_columns_are_carried_through_as_they_came(model: Model) -> None:
    """Quotes, blanks and line ends included; with line ends and byte order mark of the input."""
    given = (
        '\ufeffid,"a ""note""",' + ",".join(NAMES) + '\r\n007,"x, ""y""\nz", 6.7,3.0 ,5.2,2.3\r\n'
    )
    header, record = given.removesuffix("\r\n").rsplit("\r\n", 1)
    output, rejects = scored(model, given.encode())
    added = "prediction,confidence,probability_setosa,probability_versicolor,probability_virginica"
    assert output.startswith(f"{header},{added}\r\n{record},virginica,1.0,")
    assert output.endswith("\r\n")
    assert rejects == "\ufeffline,reasons," + header.removeprefix("\ufeff") + "\r\n"


@pytest.mark.parametrize(
    ("cell", "value"),
    [("abc", "abc"), ("10.001", 10.001), ("-0.1", -0.1), ("1e999", math.inf)],
)
def test_a_row_is_rejected_in_the_words_of_the_api(
    model: Model, client: FlaskClient, cell: str, value: Any
) -> None:
    """Where the API would see the same thing; beside it good rows are scored."""
    good = "6.7,3.0,5.2,2.3"
    content = f"{','.join(NAMES)}\n{good}\n6.7,3.0,{cell},2.3\n{good}\n"
    output, rejects = scored(model, content.encode())
    body = str(FLOWER | {"petal_length": value}).replace("'", '"').replace("inf", "1e999")
    refusal = client.post("/v1/predict", data=body, content_type="application/json")
    (error,) = refusal.get_json()["errors"]
    assert list(csv.reader(io.StringIO(rejects)))[1:] == [
        ["3", f"petal_length: {error['message']}", "6.7", "3.0", cell, "2.3"]
    ]
    assert output.count("\n") == 3


@pytest.mark.parametrize(
    "cell",
    ["nan", "inf", "-Infinity", "1_0", "0x1", "1 2", '"1,2"', "٣", "1e", "true", "+-1", "[1]"],
)
def test_what_is_no_decimal_number_is_rejected(model: Model, cell: str) -> None:
    """Also what Python or JSON would take."""
    _, rejects = scored(model, f"{','.join(NAMES)}\n6.7,3.0,5.2,{cell}\n".encode())
    assert "petal_width: Input should be a valid number" in rejects


@pytest.mark.parametrize("cell", [".5", "+0.5", "5e-1", "00.50", " 0.5 ", "5E-1", '"0.5"'])
def test_a_number_may_be_written_as_other_programs_do(model: Model, cell: str) -> None:
    """It is the same number, and kept as it was written."""
    output, _ = scored(model, f"{','.join(NAMES)}\n6.7,3.0,5.2,{cell}\n6.7,3.0,5.2,0.5\n".encode())
    one, other = output.splitlines()[1:]
    assert one.removeprefix(f"6.7,3.0,5.2,{cell}") == other.removeprefix("6.7,3.0,5.2,0.5")


def test_all_that_is_wrong_with_a_row_is_told_at_once(model: Model) -> None:
    """Empty cells and others; records that are none are told in the order of lines with them."""
    content = f'{",".join(NAMES)},note\n,x,11,1,\n1,2\n1,1,1, ,é\n1,1,1,1,"x"y\n'
    _, rejects = scored(model, content.encode())
    missing = "Missing: every feature needs a number"
    words = (
        "sepal_width: Input should be a valid number; "
        "petal_length: Input should be less than or equal to 10"
    )
    assert [row[:2] for row in csv.reader(io.StringIO(rejects))][1:] == [
        [
            "2",
            f"sepal_length: {missing}; {words}",
        ],
        ["3", "2 cells where the header has 5"],
        ["4", f"petal_width: {missing}"],
        ["5", "a cell goes on after its closing quote: a quote within a cell is written twice"],
    ]
    assert list(csv.reader(io.StringIO(rejects)))[-1][2:] == ['1,1,1,1,"x"y']


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([*NAMES[1:], "x"], "no column sepal_length: it has to name each feature once"),
        ([*NAMES, "petal_width"], "more than one column petal_width: it has to name each"),
        ([*NAMES, "confidence"], "has column confidence, which the answers are to have: rename it"),
        ([*NAMES, "confidence", "prediction"], "columns prediction, confidence, .* rename them"),
        ([";".join(NAMES)], "no column sepal_length, .* there are semicolons in it, but cells"),
        (["\t".join(NAMES)], "no column sepal_length, .* there are tabs in it, but cells have to"),
        ([*NAMES[1:], "x;y"], "no column sepal_length: it has to name each feature once"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(
    model: Model, names: list[str], message: str
) -> None:
    """Before anything is written."""
    with pytest.raises(TableError, match=message):
        scored(model, ",".join(names).encode())


def test_whole_numbers_are_whole_and_probabilities_any(save: Callable[..., Bundle]) -> None:
    """A contract of integers refuses fractions as the API does, and takes the largest there is."""
    rows = np.random.default_rng(2).integers(0, 50, (200, 2)).astype(float)
    labels = (rows.sum(axis=1) + rows[:, 0] > 60).astype(int)
    estimator = LogisticRegression().fit(rows, labels)
    bundle = save(estimator, rows, labels, type="int")
    other = Model.of(bundle, max_rows=1000)
    lines = "".join(f"{a},{b}\n" for a, b in rows.astype(int).tolist())
    output, rejects = scored(
        other, f"a,b\n{lines}1,9007199254740992\n1,2.0\n1,9007199254740993\n".encode()
    )
    made = other.predict([{"a": a, "b": b} for a, b in rows.tolist()])
    found = list(csv.reader(io.StringIO(output)))[1:]
    assert [row[2:] for row in found[:-1]] == [
        [made.classes[label], repr(given[label]), *map(repr, given)]
        for label, given in zip(made.labels.tolist(), made.probabilities.tolist(), strict=True)
    ]
    assert found[-1][:2] == ["1", "9007199254740992"]
    assert [row[:2] for row in csv.reader(io.StringIO(rejects))][1:] == [
        ["203", "b: Input should be a valid integer"],
        ["204", "b: Input should be less than or equal to 9007199254740992"],
    ]


def test_scikit_learn_scores_too(model: Model, model_dir: Path) -> None:
    """A bundle without an ONNX artefact, by the runtime that serves it."""
    slow = Model.of(pickle_only(model_dir), max_rows=1)
    content = (",".join(NAMES) + "\n" + "6.7,3.0,5.2,2.3\n" * 3).encode()
    assert scored(slow, content) == scored(model, content)


@pytest.mark.parametrize("lines", ["", "1\n", "x,1,1,1\n" * 3])
def test_a_table_without_a_good_row_gives_a_header(model: Model, lines: str) -> None:
    """No row, or none that is good."""
    output, rejects = scored(model, f"{','.join(NAMES)}\n{lines}".encode())
    assert output.count("\n") == 1
    assert rejects.count("\n") == 1 + lines.count("\n")


def test_a_long_cell_is_read_in_any_company(model: Model) -> None:
    """Whether the lines beside it are good or not."""
    header = ",".join((*FLOWER, "note")).encode()
    row = ",".join(map(str, FLOWER.values())).encode()
    text = header + b"\n" + row + b"," + b"x" * 200_000 + b"\n"
    for company in (b"", b"bad\n", row + b',"y"\n'):
        output, _ = scored(model, text + company)
        assert "x" * 200_000 in output
