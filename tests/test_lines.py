from __future__ import annotations

import json
import logging
import sys
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iris_api.lines import HELD_LINES, LINE_BYTES, JSONFormatter, StdoutHandler, TextFormatter


def record(message: Any, *arguments: Any, error: BaseException | None = None) -> logging.LogRecord:
    exc_info = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("x", logging.INFO, __file__, 1, message, arguments, exc_info)


def line(message: Any, *arguments: Any, error: BaseException | None = None) -> dict[str, Any]:
    """A formatted record, after it was found to be one line that a pipe takes whole."""
    text = JSONFormatter().format(record(message, *arguments, error=error))
    assert text.isascii()
    assert len(text) < LINE_BYTES
    assert len(text.splitlines()) == 1
    parsed: dict[str, Any] = json.loads(text)
    return parsed


@pytest.mark.parametrize(
    "text", ['a "quote"', "a\nline", "\x1b[31m", "\u202eturned", "\u2028", "\x00"]
)
def test_a_line_holds_any_text(text: str) -> None:
    """And gives it back as it was."""
    assert line("%s", text)["event"] == text
    assert line({"event": "x", "field": text})["field"] == text


@given(st.dictionaries(st.text(max_size=20), st.text() | st.floats() | st.integers(), max_size=9))
def test_a_line_is_json_whatever_is_in_it(fields: dict[str, Any]) -> None:
    """Lone surrogates, huge numbers and NaN among it."""
    assert line({"event": "x", **fields})["level"]


@pytest.mark.parametrize("character", ["x", "é", "\x01", "\U0001f600"])
def test_a_line_is_bounded(character: str) -> None:
    """A megabyte is cut, and what else is said stays."""
    found = line({"event": "x", "field": character * 1_000_000, "other": "y" * 50})
    assert found["other"] == "y" * 50
    assert found["field"].startswith(character)


def test_a_line_of_too_many_fields_is_replaced() -> None:
    """It can't be cut any more."""
    assert line({f"f{i}": "y" * 90 for i in range(100)})["event"] == "a log line was too long"


def test_a_traceback_is_a_field_and_keeps_its_end() -> None:
    """The exception itself is in the last line."""

    def deep(depth: int) -> None:
        if depth:
            deep(depth - 1)
        raise ValueError("the end" + "." * 1000)

    with pytest.raises(ValueError, match="the end") as caught:
        deep(0)
    found = line("failed", error=caught.value)
    assert found["event"] == "failed"
    assert "ValueError: the end" in found["exc_info"]


def test_a_terminal_gets_text_that_does_not_steer_it() -> None:
    """Fields as name=value, tracebacks over several lines, escapes spelt out."""
    text = TextFormatter().format(
        record({"event": "request", "status": 200, "x": "\x1b[31m\u202e"})
    )
    assert "INFO    request status=200 x=\\x1b[31m\\u202e" in text
    assert TextFormatter().format(record("two\nlines")).count("\n") == 1


@pytest.mark.parametrize(("terminal", "kind"), [(True, TextFormatter), (False, JSONFormatter)])
def test_a_handler_suits_its_stream(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, kind: type
) -> None:
    """Text for a person, JSON for a machine."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    assert isinstance(StdoutHandler().formatter, kind)


def test_a_line_that_can_not_be_written_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The request goes on; stderr has why."""
    handler = StdoutHandler()
    with monkeypatch.context() as patch:
        patch.setattr(sys.stdout, "write", lambda _text: 1 / 0)
        handler.emit(record("x"))
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_held_lines_go_out_together_and_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    """When they are flushed, when a warning comes, or when there are many."""
    handler = StdoutHandler()
    handler.hold()

    def lines() -> list[str]:
        return [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]

    handler.handle(record("one"))
    handler.handle(record("two"))
    assert lines() == []
    handler.flush()
    assert lines() == ["one", "two"]
    handler.handle(record("three"))
    warning = record("four")
    warning.levelno = logging.WARNING
    handler.handle(warning)
    assert lines() == ["three", "four"]
    for number in range(HELD_LINES):
        handler.handle(record(str(number)))
    assert lines() == [str(number) for number in range(HELD_LINES)]


def test_no_line_is_lost_between_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """While some log, others flush; and each write is one that a pipe takes whole."""
    handler, written = StdoutHandler(), list[str]()
    handler.hold()
    monkeypatch.setattr(sys.stdout, "write", written.append)

    def work(worker: int) -> None:
        for number in range(500):
            handler.handle(record(f"{worker}-{number}"))
            if number % 7 == worker:
                handler.flush()

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    handler.flush()
    assert max(map(len, written)) <= LINE_BYTES
    events = [json.loads(line)["event"] for text in written for line in text.splitlines()]
    assert sorted(events) == sorted(f"{w}-{n}" for w in range(4) for n in range(500))
