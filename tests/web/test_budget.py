"""Limits for the function calls of a request. Time on a shared machine varies; calls do not."""

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
"""Most functions, in Python and C, that a request of one row calls. Measured: 446 on Python 3.11.
An empty view in plain Flask calls 330."""
THOUSAND_ROWS_MORE = 50
"""Most calls that a thousand more rows add. Measured: 7, because no function is called per row."""


def calls(app: Flask, key: Key, body: Any) -> int:
    """Functions that one request calls, after another request has filled the caches."""
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
        request = environ | {"wsgi.input": io.BytesIO(content)}
        sys.setprofile(profiler)
        try:
            list(app(request, lambda status, _headers: statuses.append(status)))  # type: ignore[arg-type]
        finally:
            sys.setprofile(None)
    assert statuses == ["200 OK", "200 OK"]
    return count


def test_a_request_stays_within_its_budget(
    app: Flask, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The calls include authentication, validation, prediction, metrics, log line and answer."""
    monkeypatch.setattr(logging.getLogger("iris_api"), "propagate", False)  # pytest adds handlers.
    assert calls(app, key, FLOWER) <= ONE_ROW


def test_rows_of_a_batch_stay_within_their_budget(app: Flask, key: Key) -> None:
    """Python calls no function per row: work that grows with the rows is done in C."""
    few, many = (
        calls(app, key, [FLOWER] * rows) for rows in (MIN_SORTED_ROWS, MIN_SORTED_ROWS + 1000)
    )
    assert many - few <= THOUSAND_ROWS_MORE


@pytest.mark.parametrize("rows", [1, 50])
def test_the_number_of_calls_is_reproducible(app: Flask, key: Key, rows: int) -> None:
    """Otherwise a budget would mean nothing."""
    assert calls(app, key, [FLOWER] * rows) == calls(app, key, [FLOWER] * rows)
