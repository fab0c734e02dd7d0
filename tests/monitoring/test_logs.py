from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iris_api.monitoring import logs
from iris_api.monitoring.logs import (
    HELD_LINES,
    LINE_BYTES,
    JSONFormatter,
    StdoutHandler,
    TextFormatter,
)


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
    found = line({"event": "x", "request_id": "abc"} | {f"f{i}": "y" * 90 for i in range(100)})
    assert set(found) == {"time", "level", "event", "request_id", "process", "cut"}
    assert (found["event"], found["request_id"]) == ("x", "abc")


def test_a_field_that_is_no_text_is_cut_too() -> None:
    """Classes may have long names that are no ASCII."""
    found = line({"event": "x", "labels": {"ü" * 100 + str(i): i for i in range(20)}})
    assert found["labels"].endswith("...")


def test_a_traceback_is_a_field_and_keeps_both_ends() -> None:
    """Where it began, and the exception itself."""

    def deep(depth: int) -> None:
        if depth:
            deep(depth - 1)
        raise ValueError("the end" + "." * 1000)

    with pytest.raises(ValueError, match="the end") as caught:
        deep(0)
    found = line("failed", error=caught.value)
    assert found["event"] == "failed"
    assert found["exc_info"].startswith("Traceback")
    assert found["exc_info"].endswith("." * 100)


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
    """The request goes on; stderr has why, once and not for each line."""
    handler = StdoutHandler()
    with monkeypatch.context() as patch:
        patch.setattr(sys.stdout, "write", lambda _text: 1 / 0)
        for _ in range(9):
            handler.emit(record("x"))
    assert capsys.readouterr().err == "iris-api: log lines are lost (division by zero)\n"


def test_a_line_that_nobody_reads_is_dropped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A full pipe holds nobody up for long; when it has room again, lines go on whole."""
    monkeypatch.setattr(logs, "SECONDS_FOR_A_READER", 0.05)
    reading, writing = os.pipe()
    handler = StdoutHandler()
    with os.fdopen(writing, "w") as full, os.fdopen(reading, "rb") as reader:
        monkeypatch.setattr(sys, "stdout", full)
        began = time.monotonic()
        for number in range(2_000):
            handler.emit(record("x" * 50 + str(number)))
        assert time.monotonic() - began < 5
        kept = reader.read1(1_000_000).splitlines()
        assert all(json.loads(line)["event"] for line in kept)
        assert len(kept) < 2_000
        handler.emit(record("again"))
        assert json.loads(reader.read1())["event"] == "again"
    assert capsys.readouterr().err.count("nobody reads them") == 1


def test_a_process_without_stdout_says_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may have been started with it closed: that is no reason to complain of each line."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)
        StdoutHandler().emit(record("x"))
    assert capsys.readouterr() == ("", "")


def test_held_lines_go_out_together_and_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    """When they are flushed, when an error comes, or when there are many."""
    handler = StdoutHandler()
    handler.hold()

    def told() -> list[str]:
        return [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]

    handler.handle(record("one"))
    handler.handle(record("two"))
    assert told() == []
    handler.flush()
    assert told() == ["one", "two"]
    handler.handle(record("three"))
    error = record("four")
    error.levelno = logging.ERROR
    handler.handle(error)
    assert told() == ["three", "four"]
    for number in range(HELD_LINES):
        handler.handle(record(str(number)))
    assert told() == [str(number) for number in range(HELD_LINES)]


def taking_all(monkeypatch: pytest.MonkeyPatch, written: list[bytes]) -> None:
    """A stdout that takes all."""

    def write(_descriptor: int, piece: bytes) -> int:
        written.append(piece)
        return len(piece)

    monkeypatch.setattr(StdoutHandler, "_descriptor", lambda _self: 1)
    monkeypatch.setattr(StdoutHandler, "_has_room", lambda _self, _until: True)
    monkeypatch.setattr(os, "write", write)


def test_no_line_is_lost_between_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """While some log, others flush; and each write is one that a pipe takes whole."""
    handler, written = StdoutHandler(), list[bytes]()
    handler.hold()
    taking_all(monkeypatch, written)

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


def test_lines_wait_for_a_slow_reader_and_nobody_for_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where lines are held: none is lost until they are too many, and then the latest."""
    monkeypatch.setattr(logs, "MAX_HELD_LINES", 2_000)
    reading, writing = os.pipe()
    handler = StdoutHandler()
    handler.hold()
    with os.fdopen(writing, "w") as full, os.fdopen(reading, "rb") as reader:
        monkeypatch.setattr(sys, "stdout", full)
        slowest = 0.0
        for number in range(4_000):
            began = time.monotonic()
            handler.handle(record(str(number)))
            handler.flush(wait=False)
            slowest = max(slowest, time.monotonic() - began)
        assert slowest < logs.SECONDS_FOR_A_READER / 2
        assert 0 < handler.seconds_left() < logs.HELD_SECONDS
        os.set_blocking(reading, False)
        read = b""
        while chunk := reader.read1(4096):
            read += chunk
            handler.flush(wait=False)
        events = [int(json.loads(line)["event"]) for line in read.splitlines()]
        assert events == list(range(len(events)))
        assert 2_000 <= len(events) < 4_000
    assert capsys.readouterr().err == "iris-api: log lines are lost (nobody reads them)\n"


def test_a_stdout_that_was_closed_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told once, and nothing piles up."""
    handler = StdoutHandler()
    handler.hold()
    with open(os.devnull, "w") as closed:  # noqa: PTH123
        pass
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", closed)
        for _ in range(3):
            handler.handle(record("x"))
            handler.flush()
    assert handler.seconds_left() > logs.HELD_SECONDS
    assert capsys.readouterr().err.count("log lines are lost") == 1


@pytest.mark.parametrize("holds", [True, False])
def test_a_stdout_that_does_not_block_gets_whole_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], holds: bool
) -> None:
    """As a parent process may leave it; another process has taken the room that was seen."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    handler = StdoutHandler()
    if holds:
        handler.hold()
    read = b""
    monkeypatch.setattr(logs, "SECONDS_FOR_A_READER", 0.01)
    with os.fdopen(writing, "w") as full, os.fdopen(reading, "rb", buffering=0) as reader:
        monkeypatch.setattr(sys, "stdout", full)
        for number in range(3_000):
            handler.handle(record(str(number)))
            handler.flush(wait=False)
            if number % 100 == 99:
                read += reader.read(7_000)
        os.set_blocking(reading, False)
        while chunk := reader.read(4_096):
            read += chunk
            handler.flush(wait=False)
    events = [int(json.loads(line)["event"]) for line in read.splitlines()]
    assert events == sorted(set(events))
    told = capsys.readouterr().err
    assert events == list(range(3_000)) if holds else "nobody reads them" in told


def test_a_line_that_was_cut_is_ended_before_the_next(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A disk took a part of one and then was full: what follows is a line of its own."""
    handler, written = StdoutHandler(), list[bytes]()
    taking_all(monkeypatch, written)
    take = os.write

    def some(descriptor: int, piece: bytes) -> int:
        return take(descriptor, piece[:30])

    def none(_descriptor: int, _piece: bytes) -> int:
        raise OSError(28, "No space left on device")

    for number, write in enumerate((take, some, none, take, some, take)):
        monkeypatch.setattr(os, "write", write)
        if not handler._held:
            handler._held.append(record(f"number {number}"))
        handler._write(handler._piece())
    first, cut, third, *fourth = b"".join(written).splitlines()
    assert [json.loads(line)["event"] for line in (first, third, b"".join(fourth))] == [
        "number 0",
        "number 3",
        "number 4",
    ]
    assert len(cut) == 30
    assert "No space left" in capsys.readouterr().err


def test_what_waits_for_a_slow_reader_is_its_line_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request's record has all its headers, of which thousands would be too much."""
    monkeypatch.setattr(StdoutHandler, "_has_room", lambda _self, _until: False)
    handler = StdoutHandler()
    handler.hold()
    for number in range(3 * HELD_LINES):
        handler.handle(record(str(number)))
    kinds = [type(held) for held in handler._held]
    assert kinds == [logging.LogRecord] * HELD_LINES + [bytes] * 2 * HELD_LINES
