"""Bulk scoring: chunks of a table in, lines with the answers of `POST /v1/predict` out.

Bounds are checked column by column. Only a row that may break the contract is validated by
Pydantic, which decides, and words the reasons.
"""

from __future__ import annotations

import math
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np
import orjson

from iris_api.contract.rows import EXACT_INTEGER
from iris_api.dialects.native import figures

from .table import Rejected

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from iris_api.bundle.model import Model
    from iris_api.contract.columns import FeatureSpec

    from .table import Chunk, Place, Table

INTEGER_CHARACTERS = b"0123456789+- "
NUMBER_CHARACTERS = INTEGER_CHARACTERS + b".eE"
"""Every character of a number. Python alone would also accept `1_000`, `nan` and other digits."""


@dataclass(frozen=True, slots=True)
class Scored:
    """The result of one chunk: lines for the output and for the rejects, and their counts."""

    output: bytes
    rejects: bytes
    rows: int
    """Rows with an answer."""
    rejected: int
    end: Place


class Scorer:
    """Scores the chunks of one table with one model; safe to call from several threads.

    Raises:
        TableError: if the header lacks a feature or has it twice, or has a column that the output
            adds.
    """

    def __init__(self, model: Model, table: Table) -> None:
        contract = model.manifest.contract
        self._model = model
        self._features = contract.features
        self._low, self._high = np.array([_bounds(feature) for feature in contract.features]).T
        self._labels = np.array([f",{quoted(name)}".encode() for name in contract.classes])
        self._line_ending = table.line_ending
        added = ("prediction", "confidence", *(f"probability_{n}" for n in contract.classes))
        self.feature_columns = _feature_columns(table, contract.feature_names, added)
        self._ranks = np.argsort(np.argsort(self.feature_columns))
        names = "".join(f",{quoted(name)}" for name in added).encode()
        mark = table.byte_order_mark
        self.header = mark + table.header + names + self._line_ending
        self.rejects_header = mark + b"line,reasons," + table.header + self._line_ending

    def score(self, chunk: Chunk) -> Scored:
        """Validate and predict the records of a chunk."""
        rows, reasons = self._validate(chunk)
        records = chunk.records
        if reasons:
            rows = np.delete(rows, list(reasons), axis=0)
            records = [record for i, record in enumerate(records) if i not in reasons]
        refused = [Rejected(chunk.lines[i], why, chunk.records[i]) for i, why in reasons.items()]
        rejected = sorted(chunk.rejected + refused, key=attrgetter("line"))
        return Scored(
            self._output_lines(records, rows),
            b"".join(map(self._reject_line, rejected)),
            len(records),
            len(rejected),
            chunk.end,
        )

    def _validate(self, chunk: Chunk) -> tuple[NDArray[np.float64], dict[int, str]]:
        """All rows, shape (records, features), and the reasons against some of them, by index."""
        rows = self._parse_at_once(chunk)
        if rows is None:
            pairs = zip(chunk.cells.columns, self._features, strict=True)
            rows = np.column_stack([_numbers(cells, feature) for cells, feature in pairs])
        inside = ((rows >= self._low) & (rows <= self._high)).all(axis=1)
        if inside.all():
            return rows, {}
        columns = chunk.cells.columns
        suspects = np.flatnonzero(~inside).tolist()
        reasons = {i: self._reasons([cells[i] for cells in columns]) for i in suspects}
        return rows, {i: why for i, why in reasons.items() if why}

    def _parse_at_once(self, chunk: Chunk) -> NDArray[np.float64] | None:
        """All rows, parsed as one JSON array, if every cell is a number in JSON's syntax."""
        text = chunk.cells.joined()
        if text.translate(None, NUMBER_CHARACTERS + b","):
            return None
        try:
            numbers = orjson.loads(b"[%b]" % text)
        except orjson.JSONDecodeError:
            return None
        count = len(self._features)
        if len(numbers) != len(chunk.records) * count:
            return None
        for rank, feature in zip(self._ranks, self._features, strict=True):
            if feature.type == "int" and float in map(type, numbers[rank::count]):
                return None
        rows = np.fromiter(numbers, np.float64, len(numbers)).reshape(-1, count)
        return rows[:, self._ranks]

    def _reasons(self, cells: Sequence[bytes]) -> str:
        pairs = zip(self._features, cells, strict=True)
        row = {feature.name: _value(cell, feature) for feature, cell in pairs if cell.strip()}
        errors = self._model.schema.errors(row)
        return "; ".join(f"{error.field}: {error.message}" for error in errors)

    def _output_lines(self, records: list[bytes], rows: NDArray[np.float64]) -> bytes:
        """The records with their answers appended."""
        if not records:
            return b""
        outcome = self._model.predict_array(np.ascontiguousarray(rows, self._model.runtime.dtype))
        labels = outcome.labels
        steps = outcome.steps
        confidences = steps[np.arange(len(steps)), labels]
        endings = np.full(len(steps), self._line_ending)
        cells = _probability_cells()
        probabilities = (cells[column] for column in steps.T)
        columns = (self._labels[labels], cells[confidences], *probabilities, endings)
        answers = _joined(columns).splitlines(keepends=True)
        return b"".join(chain.from_iterable(zip(records, answers, strict=True)))

    def _reject_line(self, rejected: Rejected) -> bytes:
        prefix = f"{rejected.line},{quoted(rejected.reasons)},".encode()
        return prefix + rejected.record + self._line_ending


def score_all(scorer: Scorer, chunks: Iterable[Chunk], *, threads: int) -> Iterator[Scored]:
    """Score chunks on several threads and yield the results in order.

    At most one chunk more than there are threads is held at a time.
    """
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Scored]] = deque()
        for chunk in chunks:
            waiting.append(pool.submit(scorer.score, chunk))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@cache
def _probability_cells() -> NDArray[np.bytes_]:
    """A cell for each probability an answer can have, made on first use: a server needs none."""
    return np.array([b"," + figure for figure in figures()])


def quoted(text: str) -> str:
    """The text as a cell of CSV."""
    if not any(mark in text for mark in ',"\r\n'):
        return text
    return '"' + text.replace('"', '""') + '"'


def _feature_columns(table: Table, features: Sequence[str], added: Sequence[str]) -> list[int]:
    """The index of each feature's column."""
    names = table.names
    problems = [f"no column {name}" for name in features if name not in names]
    problems += [f"more than one column {name}" for name in features if names.count(name) > 1]
    if problems:
        separator = "" if set(features) & set(names) else _other_separator(table.header)
        remedy = separator or "it has to name each feature once"
        raise table.error(f"the header has {', '.join(problems)}: {remedy}")
    clashes = [name for name in added if name in names]
    if clashes:
        columns, them = ("column", "it") if len(clashes) == 1 else ("columns", "them")
        columns = f"{columns} {', '.join(clashes)}"
        raise table.error(f"the header has {columns}, which the output adds: rename {them}")
    return [names.index(name) for name in features]


def _other_separator(header: bytes) -> str:
    """The remedy, if the names seem to be separated by something other than commas."""
    for mark, name in ((b";", "semicolons"), (b"\t", "tabs")):
        if mark in header:
            return f"there are {name} in it, but cells have to be separated by commas"
    return ""


def _bounds(feature: FeatureSpec) -> tuple[float, float]:
    """Bounds that every valid value keeps. Pydantic decides about a value outside them."""
    if feature.type == "float":
        return feature.minimum, feature.maximum
    largest = EXACT_INTEGER - 1
    return max(math.ceil(feature.minimum), -largest), min(math.floor(feature.maximum), largest)


def _numbers(cells: list[bytes], feature: FeatureSpec) -> NDArray[np.float64]:
    """The numbers of a column, parsed as JSON if possible; NaN for a cell that is not a number."""
    text = b",".join(cells)
    with suppress(orjson.JSONDecodeError):
        numbers = [] if _foreign(text, feature).strip(b",") else orjson.loads(b"[%b]" % text)
        if len(numbers) == len(cells):
            return np.array(numbers, np.float64)
    return np.fromiter((_number(cell, feature) for cell in cells), np.float64, len(cells))


def _number(cell: bytes, feature: FeatureSpec) -> float:
    with suppress(ValueError):
        return math.nan if _foreign(cell, feature) else float(cell)
    return math.nan


def _value(cell: bytes, feature: FeatureSpec) -> float | str:
    """The number as JSON would have it, or the cell's text if it is not a number."""
    with suppress(ValueError):
        if not _foreign(cell, feature):
            return int(cell) if feature.type == "int" else float(cell)
    return cell.decode()


def _foreign(text: bytes, feature: FeatureSpec) -> bytes:
    """The characters that no number of this feature has."""
    return text.translate(None, INTEGER_CHARACTERS if feature.type == "int" else NUMBER_CHARACTERS)


def _joined(columns: Iterable[NDArray[np.bytes_]]) -> bytes:
    """The cells row by row, as one text. NumPy pads cells with zero bytes, which are removed."""
    parts = [column.view(np.uint8).reshape(len(column), -1) for column in columns]
    return np.concatenate(parts, axis=1).tobytes().translate(None, b"\0")
