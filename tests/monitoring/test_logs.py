from __future__ import annotations

import gc
import json
import logging
import os
import sys
import threading
import time
import weakref
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iris_api.monitoring.logs import (
    BATCH_LINES,
    LINE_BYTES,
    JSONFormatter,
    StdoutHandler,
    TextFormatter,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import FileIO
    from pathlib import Path


def record(message: Any, *arguments: Any, error: BaseException | None = None) -> logging.LogRecord:
    exc_info = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("x", logging.INFO, __file__, 1, message, arguments, exc_info)


def line(message: Any, *arguments: Any, error: BaseException | None = None) -> dict[str, Any]:
    """Format a record, check that it is one line that a pipe takes whole, and parse it."""
    text = JSONFormatter().format(record(message, *arguments, error=error))
    assert text.isascii()
    assert len(text) < LINE_BYTES
    assert len(text.splitlines()) == 1
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def events(data: bytes) -> list[str]:
    return [json.loads(text)["event"] for text in data.splitlines()]


@pytest.mark.parametrize(
    "text", ['a "quote"', "a\nline", "\x1b[31m", "\u202eturned", "\u2028", "\x00"]
)
def test_a_line_holds_any_text(text: str) -> None:
    """A parser gets the text back unchanged."""
    assert line("%s", text)["event"] == text
    assert line({"event": "x", "field": text})["field"] == text


@given(st.dictionaries(st.text(max_size=20), st.text() | st.floats() | st.integers(), max_size=9))
def test_a_line_is_json_whatever_its_fields_are(fields: dict[str, Any]) -> None:
    """Lone surrogates, huge numbers and NaN included."""
    assert line({"event": "x", **fields})["level"]


@pytest.mark.parametrize("character", ["x", "é", "\x01", "\U0001f600"])
def test_a_long_field_is_shortened(character: str) -> None:
    """A megabyte is cut; the other fields are kept."""
    fields = line({"event": "x", "field": character * 1_000_000, "other": "y" * 50})
    assert fields["other"] == "y" * 50
    assert fields["field"].startswith(character)


def test_a_line_of_too_many_fields_keeps_the_essential_ones() -> None:
    """Each of its fields is short already."""
    many = {f"f{number}": "y" * 90 for number in range(100)}
    fields = line({"event": "x", "request_id": "abc"} | many)
    assert set(fields) == {"time", "level", "event", "request_id", "process", "cut"}
    assert (fields["event"], fields["request_id"]) == ("x", "abc")


def test_a_field_that_is_not_text_is_shortened_too() -> None:
    """Class names may be long and not ASCII."""
    fields = line({"event": "x", "labels": {"ü" * 100 + str(i): i for i in range(20)}})
    assert fields["labels"].endswith("...")


def test_a_traceback_keeps_both_ends() -> None:
    """Where it began, and the exception itself."""

    def recurse(depth: int) -> None:
        if depth:
            recurse(depth - 1)
        raise ValueError("the end" + "." * 1000)

    with pytest.raises(ValueError, match="the end") as caught:
        recurse(0)
    fields = line("failed", error=caught.value)
    assert fields["event"] == "failed"
    assert fields["exc_info"].startswith("Traceback")
    assert fields["exc_info"].endswith("." * 100)


def test_text_does_not_control_the_terminal() -> None:
    """Fields are name=value, tracebacks have several lines, control characters are escaped."""
    text = TextFormatter().format(
        record({"event": "request", "status": 200, "x": "\x1b[31m\u202e"})
    )
    assert "INFO    request status=200 x=\\x1b[31m\\u202e" in text
    assert TextFormatter().format(record("two\nlines")).count("\n") == 1


@pytest.mark.parametrize(("terminal", "kind"), [(True, TextFormatter), (False, JSONFormatter)])
def test_a_terminal_gets_text_and_a_pipe_json(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, kind: type
) -> None:
    """As standard output is when the handler is made."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    assert isinstance(StdoutHandler().formatter, kind)


def test_a_failure_to_write_is_reported_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard error says why, not once for each line, and the request goes on."""
    handler = StdoutHandler()
    with monkeypatch.context() as patch:
        patch.setattr(sys.stdout, "write", lambda _text: 1 / 0)
        for _ in range(9):
            handler.emit(record("x"))
    assert capsys.readouterr().err == "iris-api: log lines are lost (division by zero)\n"


def test_a_process_without_stdout_logs_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was started with standard output closed, which is no reason to complain."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)
        StdoutHandler().emit(record("x"))
    assert capsys.readouterr() == ("", "")


def test_held_lines_are_written_together_and_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    """At a flush, at an error, or when many are held."""
    handler = StdoutHandler()
    handler.hold()

    def written() -> list[str]:
        return events(capsys.readouterr().out.encode())

    handler.handle(record("one"))
    handler.handle(record("two"))
    assert written() == []
    handler.flush()
    assert written() == ["one", "two"]
    handler.handle(record("three"))
    error = record("four")
    error.levelno = logging.ERROR
    handler.handle(error)
    assert written() == ["three", "four"]
    for number in range(BATCH_LINES):
        handler.handle(record(str(number)))
    assert written() == [str(number) for number in range(BATCH_LINES)]


@contextmanager
def piped() -> Iterator[FileIO]:
    """Standard output is a pipe, whose other end is not read unless the test does."""
    reading, writing = os.pipe()
    with (
        os.fdopen(writing, "w") as stdout,
        os.fdopen(reading, "rb", buffering=0) as reader,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sys, "stdout", stdout)
        yield reader


def read_rest(reader: FileIO, flush: Callable[[], None]) -> bytes:
    """Read what is in a pipe, and what the handler then writes to it."""
    os.set_blocking(reader.fileno(), False)
    data = b""
    while chunk := reader.read(LINE_BYTES):
        data += chunk
        flush()
    return data


def test_lines_that_nobody_reads_are_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    """A full pipe is waited for once. When it has room again, whole lines follow."""
    handler = StdoutHandler()
    handler.reader_timeout = 0.05
    with piped() as reader:
        began = time.monotonic()
        for number in range(2_000):
            handler.emit(record("x" * 50 + str(number)))
        assert time.monotonic() - began < 5
        assert 0 < len(events(reader.read(1_000_000))) < 2_000
        handler.emit(record("again"))
        assert events(reader.read(LINE_BYTES)) == ["again"]
    assert capsys.readouterr().err.count("nobody reads them") == 1


def test_held_lines_wait_for_a_slow_reader(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody waits for them. Above the limit the latest are lost."""
    handler = StdoutHandler()
    handler.max_held = 2_000
    handler.hold()
    with piped() as reader:
        slowest = 0.0
        for number in range(4_000):
            began = time.monotonic()
            handler.handle(record(str(number)))
            handler.flush(wait=False)
            slowest = max(slowest, time.monotonic() - began)
        assert slowest < handler.reader_timeout / 2
        assert 0 < handler.seconds_left() < handler.hold_seconds
        numbers = events(read_rest(reader, lambda: handler.flush(wait=False)))
        assert numbers == [str(number) for number in range(len(numbers))]
        assert 2_000 <= len(numbers) < 4_000
    assert capsys.readouterr().err == "iris-api: log lines are lost (nobody reads them)\n"


def test_only_the_line_waits_for_a_slow_reader() -> None:
    """A record refers to its request with all headers: thousands of them need too much memory."""
    handler = StdoutHandler()
    handler.hold()
    with piped():
        os.set_blocking(sys.stdout.fileno(), False)
        with suppress(BlockingIOError):
            while True:
                os.write(sys.stdout.fileno(), b" " * LINE_BYTES)
        records = [record(str(number)) for number in range(3 * BATCH_LINES)]
        alive = [weakref.ref(each) for each in records]
        while records:
            handler.handle(records.pop())
        gc.collect()
        assert sum(reference() is not None for reference in alive) <= BATCH_LINES


def test_a_stdout_that_was_closed_is_reported_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing piles up."""
    handler = StdoutHandler()
    handler.hold()
    with open(os.devnull, "w") as closed:  # noqa: PTH123
        pass
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", closed)
        for _ in range(3):
            handler.handle(record("x"))
            handler.flush()
    assert handler.seconds_left() > handler.hold_seconds
    assert capsys.readouterr().err.count("log lines are lost") == 1


@pytest.mark.parametrize("holds", [True, False])
def test_a_non_blocking_stdout_gets_whole_lines(
    capsys: pytest.CaptureFixture[str], holds: bool
) -> None:
    """A parent process may leave it so, and another process may take the room first."""
    handler = StdoutHandler()
    handler.reader_timeout = 0.01
    if holds:
        handler.hold()
    data = b""
    with piped() as reader:
        os.set_blocking(sys.stdout.fileno(), False)
        for number in range(3_000):
            handler.handle(record(str(number)))
            handler.flush(wait=False)
            if number % 100 == 99:
                data += reader.read(7_000)
        data += read_rest(reader, lambda: handler.flush(wait=False))
    numbers = [int(event) for event in events(data)]
    assert numbers == sorted(set(numbers))
    complaint = capsys.readouterr().err
    assert numbers == list(range(3_000)) if holds else "nobody reads them" in complaint


@contextmanager
def written_to(file: Path) -> Iterator[None]:
    """Standard output is a file. No fixture can do this: pytest would undo it before the test."""
    with file.open("w") as stdout, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stdout)
        yield


def test_threads_lose_no_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """While some log, others flush. Each write is one that a pipe takes whole."""
    handler, sizes, write = StdoutHandler(), list[int](), os.write
    handler.hold()

    def record_size(descriptor: int, data: bytes) -> int:
        sizes.append(len(data))
        return write(descriptor, data)

    def log(worker: int) -> None:
        for number in range(500):
            handler.handle(record(f"{worker}-{number}"))
            if number % 7 == worker:
                handler.flush()

    monkeypatch.setattr(os, "write", record_size)
    threads = [threading.Thread(target=log, args=(worker,)) for worker in range(4)]
    with written_to(tmp_path / "stdout"):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        handler.flush()
    assert max(sizes) <= LINE_BYTES
    assert sorted(events((tmp_path / "stdout").read_bytes())) == sorted(
        f"{worker}-{number}" for worker in range(4) for number in range(500)
    )


def test_a_line_follows_a_broken_one_on_a_line_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A disk takes a part of a line and is then full. If it takes the rest, nothing is broken."""
    handler, write = StdoutHandler(), os.write
    limits = iter([LINE_BYTES, 30, None, LINE_BYTES, 30, LINE_BYTES])

    def write_some(descriptor: int, data: bytes) -> int:
        limit = next(limits)
        if limit is None:
            raise OSError(28, "No space left on device")
        return write(descriptor, data[:limit])

    monkeypatch.setattr(os, "write", write_some)
    with written_to(tmp_path / "stdout"):
        for number in range(4):
            handler.handle(record(f"number {number}"))
    first, broken, *rest = (tmp_path / "stdout").read_bytes().splitlines(keepends=True)
    assert events(first + b"".join(rest)) == ["number 0", "number 2", "number 3"]
    assert len(broken) == 31
    assert "No space left" in capsys.readouterr().err
