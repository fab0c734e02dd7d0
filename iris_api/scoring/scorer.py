"""Bulk scoring: chunks of a table to lines with the answers that `POST /v1/predict` gives.

Bounds are looked at by column; only a row that may break the contract meets Pydantic, which
decides, and says what is wrong with it.
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
from iris_api.dialects.native import FIGURES
from iris_api.scoring.table import Rejected

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from iris_api.bundle.model import Model
    from iris_api.contract.columns import FeatureSpec
    from iris_api.scoring.table import Chunk, Place, Table

WHOLE = b"0123456789+- "
DECIMAL = WHOLE + b".eE"
"""All that a number is written with. Python would also take `1_000`, `nan` and other digits."""


@dataclass(frozen=True, slots=True)
class Scored:
    """What became of a chunk: lines for the output and for the rejects, and how many of each."""

    output: bytes
    rejects: bytes
    rows: int
    rejected: int
    end: Place


class Scorer:
    """Scores the chunks of one table with one model; safe to call from several threads.

    Raises:
        TableError: if the header does not have each feature once, or has a name of an answer's.
    """

    def __init__(self, model: Model, table: Table) -> None:
        contract = model.manifest.contract
        self._model = model
        self._features = contract.features
        self._low, self._high = np.array([_bounds(feature) for feature in contract.features]).T
        self._labels = np.array([f",{quoted(name)}".encode() for name in contract.classes])
        self._end = table.end_of_line
        answers = ("prediction", "confidence", *(f"probability_{n}" for n in contract.classes))
        self.wanted = _wanted(table, contract.feature_names, answers)
        self._ranks = np.argsort(np.argsort(self.wanted))
        added = "".join(f",{quoted(name)}" for name in answers).encode()
        self.header = table.mark + table.header + added + self._end
        self.rejects_header = table.mark + b"line,reasons," + table.header + self._end

    def score(self, chunk: Chunk) -> Scored:
        """Validate and predict the records of a chunk."""
        rows, wrong = self._rows(chunk)
        records = chunk.records
        if wrong:
            rows = np.delete(rows, list(wrong), axis=0)
            records = [record for i, record in enumerate(records) if i not in wrong]
        refused = [Rejected(chunk.lines[i], told, chunk.records[i]) for i, told in wrong.items()]
        rejected = sorted(chunk.rejected + refused, key=attrgetter("line"))
        return Scored(
            self._answered(records, rows),
            b"".join(self._reject(one) for one in rejected),
            len(records),
            len(rejected),
            chunk.end,
        )

    def _rows(self, chunk: Chunk) -> tuple[NDArray[np.float64], dict[int, str]]:
        """All rows, shape (records, features), and what is wrong with some of them, by index."""
        rows = self._at_once(chunk)
        if rows is None:
            pairs = zip(chunk.cells.columns, self._features, strict=True)
            rows = np.column_stack([_numbers(cells, feature) for cells, feature in pairs])
        kept = ((rows >= self._low) & (rows <= self._high)).all(axis=1)
        if kept.all():
            return rows, {}
        columns = chunk.cells.columns
        told = (
            (i, self._reasons([cells[i] for cells in columns]))
            for i in np.flatnonzero(~kept).tolist()
        )
        return rows, {i: reasons for i, reasons in told if reasons}

    def _at_once(self, chunk: Chunk) -> NDArray[np.float64] | None:
        """All rows, if every cell is a number as JSON has them."""
        text = chunk.cells.in_a_row()
        if text.translate(None, DECIMAL + b","):
            return None
        try:
            found = orjson.loads(b"[%b]" % text)
        except orjson.JSONDecodeError:
            return None
        count = len(self._features)
        if len(found) != len(chunk.records) * count:
            return None
        for rank, feature in zip(self._ranks, self._features, strict=True):
            if feature.type == "int" and float in map(type, found[rank::count]):
                return None
        rows = np.fromiter(found, np.float64, len(found)).reshape(-1, count)
        return rows[:, self._ranks]

    def _reasons(self, cells: Sequence[bytes]) -> str:
        pairs = zip(self._features, cells, strict=True)
        row = {feature.name: _value(cell, feature) for feature, cell in pairs if cell.strip()}
        errors = self._model.schema.errors(row)
        return "; ".join(f"{error.field}: {error.message}" for error in errors)

    def _answered(self, records: list[bytes], rows: NDArray[np.float64]) -> bytes:
        """The records with their answers, as the lines of the output."""
        if not records:
            return b""
        found = self._model.outcome(np.ascontiguousarray(rows, self._model.runtime.dtype))
        labels = found.labels
        steps = found.steps
        confidences = steps[np.arange(len(steps)), labels]
        ends = np.full(len(steps), self._end)
        figures = _figures()
        given = (figures[column] for column in steps.T)
        cells = (self._labels[labels], figures[confidences], *given, ends)
        answers = _joined(cells).splitlines(keepends=True)
        return b"".join(chain.from_iterable(zip(records, answers, strict=True)))

    def _reject(self, rejected: Rejected) -> bytes:
        return f"{rejected.line},{quoted(rejected.reasons)},".encode() + rejected.record + self._end


def score_all(scorer: Scorer, chunks: Iterable[Chunk], *, threads: int) -> Iterator[Scored]:
    """Score chunks on several threads, in their order; a few are held at a time."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Scored]] = deque()
        for chunk in chunks:
            waiting.append(pool.submit(scorer.score, chunk))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@cache
def _figures() -> NDArray[np.bytes_]:
    """Each probability that can be answered, as a cell; made for who scores, not for a server."""
    return np.array([b"," + figure for figure in FIGURES])


def quoted(text: str) -> str:
    """The text as a cell of CSV."""
    if not any(mark in text for mark in ',"\r\n'):
        return text
    return '"' + text.replace('"', '""') + '"'


def _wanted(table: Table, features: Sequence[str], answers: Sequence[str]) -> list[int]:
    """Which columns are the features'."""
    names = table.names
    told = [f"no column {name}" for name in features if name not in names]
    told += [f"more than one column {name}" for name in features if names.count(name) > 1]
    if told:
        other = "" if set(features) & set(names) else _separator(table.header)
        mend = other or "it has to name each feature once"
        raise table.error(f"the header has {', '.join(told)}: {mend}")
    taken = [name for name in answers if name in names]
    if taken:
        columns, them = ("column", "it") if len(taken) == 1 else ("columns", "them")
        columns = f"{columns} {', '.join(taken)}"
        raise table.error(f"the header has {columns}, which the answers are to have: rename {them}")
    return [names.index(name) for name in features]


def _separator(header: bytes) -> str:
    """What to do about a header that seems to have something else between its names than commas."""
    for mark, name in ((b";", "semicolons"), (b"\t", "tabs")):
        if mark in header:
            return f"there are {name} in it, but cells have to be separated by commas"
    return ""


def _bounds(feature: FeatureSpec) -> tuple[float, float]:
    """Bounds that only a good row keeps; whether one is good that does not, Pydantic knows."""
    if feature.type == "float":
        return feature.minimum, feature.maximum
    largest = EXACT_INTEGER - 1
    return max(math.ceil(feature.minimum), -largest), min(math.floor(feature.maximum), largest)


def _numbers(cells: list[bytes], feature: FeatureSpec) -> NDArray[np.float64]:
    """A column's numbers, read as JSON if they can be; NaN where there is none."""
    text = b",".join(cells)
    with suppress(orjson.JSONDecodeError):
        found = [] if _foreign(text, feature).strip(b",") else orjson.loads(b"[%b]" % text)
        if len(found) == len(cells):
            return np.array(found, np.float64)
    return np.fromiter((_number(cell, feature) for cell in cells), np.float64, len(cells))


def _number(cell: bytes, feature: FeatureSpec) -> float:
    with suppress(ValueError):
        return math.nan if _foreign(cell, feature) else float(cell)
    return math.nan


def _value(cell: bytes, feature: FeatureSpec) -> float | str:
    """The number as JSON would have it, or the text that is none."""
    with suppress(ValueError):
        if not _foreign(cell, feature):
            return int(cell) if feature.type == "int" else float(cell)
    return cell.decode()


def _foreign(text: bytes, feature: FeatureSpec) -> bytes:
    """What of a text is no part of a number."""
    return text.translate(None, WHOLE if feature.type == "int" else DECIMAL)


def _joined(columns: Iterable[NDArray[np.bytes_]]) -> bytes:
    """The texts of each row, one after the other; NumPy pads them with zeros."""
    parts = [column.view(np.uint8).reshape(len(column), -1) for column in columns]
    return np.concatenate(parts, axis=1).tobytes().translate(None, b"\0")
