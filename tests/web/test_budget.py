"""What a request may cost, in calls: they can be counted, where time on a shared machine can't."""

from __future__ import annotations

import io
import json
import logging
import sys
from typing import TYPE_CHECKING, Any

import pytest
from werkzeug.test import EnvironBuilder

from iris_api.bundle.runtimes import MIN_SORTED_ROWS
from tests.conftest import FLOWER, Key

if TYPE_CHECKING:
    from flask import Flask

ONE_ROW = 460
"""Functions that a request of one row may call, in Python and C. Measured: 446 on Python 3.11; an
empty view in plain Flask calls 330."""
THOUSAND_ROWS_MORE = 50
"""And that a thousand further rows may add. Measured: 7, for each thousand that is answered; no
function is called per row."""


def calls(app: Flask, key: Key, body: Any) -> int:
    """Functions that one request calls, after a first has filled what is filled once."""
    content = json.dumps(body).encode()
    environ = EnvironBuilder(
        "/v1/predict",
        method="POST",
        data=content,
        content_type="application/json",
        headers=list(key.headers.items()),
    ).get_environ()
    count = 0

    def counting(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    statuses = []
    for profiler in (None, counting):
        fresh = environ | {"wsgi.input": io.BytesIO(content)}
        sys.setprofile(profiler)
        try:
            list(app(fresh, lambda status, _headers: statuses.append(status)))  # type: ignore[arg-type]
        finally:
            sys.setprofile(None)
    assert statuses == ["200 OK", "200 OK"]
    return count


def test_a_request_stays_within_its_budget(
    app: Flask, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Key, validation, prediction, request id, metrics, log line and answer of one row."""
    monkeypatch.setattr(logging.getLogger("iris_api"), "propagate", False)  # To pytest's handlers.
    assert calls(app, key, FLOWER) <= ONE_ROW


def test_a_row_of_a_batch_stays_within_its_budget(app: Flask, key: Key) -> None:
    """No object, no call and no validation per row: what grows with the rows is done in C."""
    some, more = (
        calls(app, key, [FLOWER] * rows) for rows in (MIN_SORTED_ROWS, MIN_SORTED_ROWS + 1000)
    )
    assert more - some <= THOUSAND_ROWS_MORE


@pytest.mark.parametrize("rows", [1, 50])
def test_the_count_is_the_same_each_time(app: Flask, key: Key, rows: int) -> None:
    """Or a budget would mean nothing."""
    assert calls(app, key, [FLOWER] * rows) == calls(app, key, [FLOWER] * rows)
