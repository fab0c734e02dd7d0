"""Log lines: one JSON object each, or text for a person at a terminal.

A JSON line has less than 4,096 bytes, so that a pipe takes it whole from several processes. It is
plain ASCII, so that nothing a client sends can end the line or reverse its direction.
"""

from __future__ import annotations

import io
import json
import logging
import math
import os
import select
import sys
import time
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from threading import RLock
from typing import Any

from pythonjsonlogger.orjson import OrjsonFormatter

LINE_BYTES = 4096
"""Longest line including its newline: PIPE_BUF on Linux."""
BATCH_LINES = 64
"""Number of held lines that are written at once without waiting longer."""
MIN_SHORTENED = 100
"""Shortest field, in characters, that is shortened further."""
ESSENTIAL_FIELDS = ("time", "level", "event", "request_id", "process")
"""What remains of a line whose many short fields are too long together."""


class JSONFormatter(OrjsonFormatter):
    """Formats a record as an object with time, level, event, the event's fields and process id."""

    def add_fields(
        self,
        log_data: dict[str, Any],
        record: logging.LogRecord,
        message_dict: dict[str, Any],
    ) -> None:
        """Collect the fields of a record. A logged dictionary has its own `event`."""
        log_data["time"] = datetime.fromtimestamp(record.created, UTC)
        log_data["level"] = record.levelname.lower()
        if record.message:
            log_data["event"] = record.message
        log_data |= message_dict
        log_data["process"] = record.process

    def serialize_log_record(self, log_data: dict[str, Any]) -> str:
        """Format the fields as one line, shortening the longest field until it fits."""
        line = self._ascii(log_data)
        while len(line) >= LINE_BYTES:
            sizes = {name: len(str(value)) for name, value in log_data.items()}
            name = max(sizes, key=sizes.__getitem__)
            if sizes[name] < MIN_SHORTENED:
                log_data = {name: log_data.get(name) for name in ESSENTIAL_FIELDS} | {"cut": True}
            else:
                log_data[name] = _shorten(name, str(log_data[name]))
            line = self._ascii(log_data)
        return line

    def _ascii(self, log_data: dict[str, Any]) -> str:
        try:
            line = self.jsonify_log_record(log_data)
        except TypeError:  # orjson refuses lone surrogates, which file names may contain.
            return json.dumps(log_data, default=str)
        return line if line.isascii() else json.dumps(json.loads(line))


def _shorten(name: str, text: str) -> str:
    """Halve a text: keep the start of a message, and both ends of a traceback."""
    half = len(text) // 2
    if name == "exc_info":
        return f"{text[: half // 2]} ... {text[-half // 2 :]}"
    return f"{text[:half]}..."


class TextFormatter(logging.Formatter):
    """Formats a record for a person, without characters that control the terminal."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as text, its fields as name=value."""
        if isinstance(record.msg, dict):
            fields = dict(record.msg)
            words = [str(fields.pop("event"))] + [f"{k}={v}" for k, v in fields.items()]
            record = logging.makeLogRecord(record.__dict__ | {"msg": " ".join(words)})
        return "".join(
            c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in super().format(record)
        )


class StdoutHandler(logging.Handler):
    """Writes to standard output: text if that is a terminal, otherwise JSON.

    It writes each record at once, unless its process calls `hold`: then it holds records for a
    moment and writes many together, which costs a third less than writing each between requests.
    The standard library's `MemoryHandler` would pass records on one by one, and wait for a reader.
    Here a slow reader of standard output delays nobody: lines wait for it, up to a limit.
    """

    hold_seconds = 0.01
    """How long the first held record waits, in seconds."""
    max_held = 4096
    """Number of held lines above which new ones are lost."""
    reader_timeout = 1.0
    """Longest wait for a full pipe, in seconds, where waiting is allowed. Then lines are lost."""
    complaint_interval = 60.0
    """Shortest time between two complaints about lost lines, in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(
            TextFormatter() if sys.stdout and sys.stdout.isatty() else JSONFormatter()
        )
        self._holds = False
        self._held: deque[logging.LogRecord | bytes] = deque()  # Bytes are formatted already.
        self._due = 0.0
        self._reader_stalled = False
        self._partial_line = False  # Whether stdout ends in a part of a line; the rest is held.
        self._broken_line = False  # Whether stdout ends in a part of a line; the rest is lost.
        self._last_complaint = -math.inf
        self._write_lock = RLock()  # A signal handler may log during a write.

    def hold(self) -> None:
        """From now on hold records until `flush` is called, an error is logged, or many wait."""
        self._holds = True

    def seconds_left(self) -> float:
        """Time until held records should be written, in seconds; infinite if there are none."""
        return self._due - time.monotonic() if self._held else math.inf

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or hold it."""
        if not self._held:
            self._due = time.monotonic() + self.hold_seconds
        waiting = len(self._held)
        if waiting >= self.max_held:
            self._complain("nobody reads them")
            return
        # A record keeps its request with all headers: if a reader is slow, hold the line alone.
        self._held.append(record if waiting < BATCH_LINES else self._line(record))
        if not self._holds:
            self.flush()
        elif record.levelno > logging.WARNING or waiting % BATCH_LINES == BATCH_LINES - 1:
            self.flush(wait=False)

    def flush(self, *, wait: bool = True) -> None:
        """Write what is held, in pieces that a pipe takes whole.

        Args:
            wait: Whether to wait for a reader, up to `reader_timeout`, and lose what it does not
                take. Otherwise the rest stays held.
        """
        if sys.stdout is None:  # It was closed when the process started.
            self._held.clear()
        if not self._held:
            return
        with self._write_lock:
            deadline = time.monotonic() + (self.reader_timeout if wait else 0.0)
            try:
                while self._held and self._has_room(deadline) and self._write(self._next_piece()):
                    pass
            except ValueError as error:  # It was closed since.
                self._held.clear()
                self._complain(error)
            if self._held and wait:
                self._reader_stalled = True
                self._held.clear()
                self._break_line()
                self._complain("nobody reads them")
            self._due = time.monotonic() + self.hold_seconds

    def _has_room(self, deadline: float) -> bool:
        """Whether standard output takes a line before the deadline.

        After one timeout it is not waited for again until it takes a line.
        """
        descriptor = _descriptor()
        if descriptor is None:
            return True
        seconds = 0.0 if self._reader_stalled else max(deadline - time.monotonic(), 0.0)
        room = bool(select.select([], [descriptor], [], seconds)[1])
        self._reader_stalled = self._reader_stalled and not room
        return room

    def _write(self, piece: bytes) -> bool:
        """Write without a buffer, which could hold a part back. Returns whether to go on."""
        data = b"\n" + piece if self._broken_line else piece
        descriptor = _descriptor()
        try:
            if descriptor is None:
                sys.stdout.write(piece.decode())
                return True
            written = os.write(descriptor, data)
        except BlockingIOError:  # Another process took the room.
            self._held.appendleft(piece)
            return False
        except Exception as error:  # noqa: BLE001  # A lost log line must not fail a request.
            self._complain(error)
            self._break_line()
            return True
        self._broken_line = False
        self._partial_line = written < len(data)
        if self._partial_line:
            self._held.appendleft(data[written:])
        return True

    def _break_line(self) -> None:
        """Note that the rest of a partly written line is lost: the next line starts anew."""
        self._broken_line, self._partial_line = self._broken_line or self._partial_line, False

    def _next_piece(self) -> bytes:
        """The next held lines, as many as a pipe takes whole."""
        piece = b""
        while self._held:
            line = self._line(self._held.popleft())
            if piece and len(piece) + len(line) > LINE_BYTES:
                self._held.appendleft(line)
                break
            piece += line
        return piece

    def _line(self, record: logging.LogRecord | bytes) -> bytes:
        if isinstance(record, bytes):
            return record
        try:
            return self.format(record).encode(errors="backslashreplace") + b"\n"
        except Exception as error:  # noqa: BLE001  # A lost log line must not fail a request.
            self._complain(error)
            return b""

    def _complain(self, why: Exception | str) -> None:
        """Say on standard error that lines are lost, but not for each line."""
        if time.monotonic() - self._last_complaint > self.complaint_interval:
            self._last_complaint = time.monotonic()
            with suppress(Exception):
                sys.stderr.write(f"iris-api: log lines are lost ({why})\n")


def _descriptor() -> int | None:
    """File descriptor of standard output; None if it is no file, as in a test."""
    try:
        return sys.stdout.fileno()
    except io.UnsupportedOperation:
        return None


logging.logThreads = logging.logMultiprocessing = False  # No line names them.
STDOUT = StdoutHandler()
"""The handler of all loggers: lines of two handlers would mix on their way to a pipe."""
