"""Log lines: one JSON object each, or text for a person at a terminal.

A JSON line is under 4,096 bytes, which is what a pipe takes from several processes without mixing
them, and plain ASCII, so that nothing a client sends can end it or turn it around.
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
"""PIPE_BUF on Linux, newline included."""
HELD_LINES = 64
"""Lines that are written together, before their time."""
MAX_HELD_LINES = 4096
"""That wait for who reads them, where nobody may wait for that."""
HELD_SECONDS = 0.01
"""How long the first of them waits."""
SECONDS_BETWEEN_COMPLAINTS = 60.0
SECONDS_FOR_A_READER = 1.0
"""That a full pipe may take until it has room again, where one may wait; then lines are lost."""
LEFT_AS_IT_IS = 100
"""Characters of a field that is not shortened any further."""
KEPT = ("time", "level", "event", "request_id", "process")
"""Fields of a line that has so many that all short ones together are too long."""


class JSONFormatter(OrjsonFormatter):
    """Lines of one shape: time, level, event, what belongs to the event, and the process id."""

    def add_fields(
        self,
        log_data: dict[str, Any],
        record: logging.LogRecord,
        message_dict: dict[str, Any],
    ) -> None:
        """The fields of a record. A dictionary that is logged names its event itself."""
        log_data["time"] = datetime.fromtimestamp(record.created, UTC)
        log_data["level"] = record.levelname.lower()
        if record.message:
            log_data["event"] = record.message
        log_data |= message_dict
        log_data["process"] = record.process

    def serialize_log_record(self, log_data: dict[str, Any]) -> str:
        """One line, its longest field shortened until it fits."""
        line = self._ascii(log_data)
        while len(line) >= LINE_BYTES:
            sizes = {name: len(str(value)) for name, value in log_data.items()}
            name = max(sizes, key=sizes.__getitem__)
            if sizes[name] < LEFT_AS_IT_IS:  # There are too many.
                log_data = {name: log_data.get(name) for name in KEPT} | {"cut": True}
            else:
                log_data[name] = _shortened(name, str(log_data[name]))
            line = self._ascii(log_data)
        return line

    def _ascii(self, log_data: dict[str, Any]) -> str:
        try:
            line = self.jsonify_log_record(log_data)
        except TypeError:  # orjson takes no lone surrogate, as file names may have.
            return json.dumps(log_data, default=str)
        return line if line.isascii() else json.dumps(json.loads(line))


def _shortened(name: str, text: str) -> str:
    """About half of it: a message says most at its start, a traceback at both of its ends."""
    half = len(text) // 2
    if name == "exc_info":
        return f"{text[: half // 2]} ... {text[-half // 2 :]}"
    return f"{text[:half]}..."


class TextFormatter(logging.Formatter):
    """Lines for a person, in which nothing steers the terminal."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """The record as text, its fields as name=value."""
        if isinstance(record.msg, dict):
            fields = dict(record.msg)
            shown = [str(fields.pop("event"))] + [f"{k}={v}" for k, v in fields.items()]
            record = logging.makeLogRecord(record.__dict__ | {"msg": " ".join(shown)})
        return "".join(
            c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in super().format(record)
        )


class StdoutHandler(logging.Handler):
    """Writes to stdout as it is now: text if that is a terminal, else JSON.

    Each record is written at once, or, in a process that flushes by itself, held for a moment. To
    make and write many lines together costs a third of what it costs one by one, between requests,
    when all that it takes has left the processor's cache. What is held is written at a worker's
    end, unless that is a kill -9.

    A reader that is slow delays nobody who holds: its lines wait for it, and are lost when they are
    too many.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(
            TextFormatter() if sys.stdout and sys.stdout.isatty() else JSONFormatter()
        )
        self._holds = False
        self._held: deque[logging.LogRecord | bytes] = deque()  # Bytes: what was made already.
        self._due = 0.0
        self._stalled = False
        self._torn = False  # Whether stdout ends in a part of a line, the rest of which is lost.
        self._in_a_line = False  # Whether it does, and the rest is held.
        self._complained = -SECONDS_BETWEEN_COMPLAINTS
        self._writing = RLock()  # A signal's handler may log in the middle of a write.

    def hold(self) -> None:
        """From now on hold records until `flush`, but for errors, or when many wait."""
        self._holds = True

    def seconds_left(self) -> float:
        """Until what is held should be written; endless if nothing is."""
        return self._due - time.monotonic() if self._held else math.inf

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or hold the record that it is made of."""
        if not self._held:
            self._due = time.monotonic() + HELD_SECONDS
        waiting = len(self._held)
        if waiting >= MAX_HELD_LINES:
            self._complain("nobody reads them")
            return
        # Where a reader is slow, no request is kept with all its headers until it goes on.
        self._held.append(record if waiting < HELD_LINES else self._line(record))
        if not self._holds:
            self.flush()
        elif record.levelno > logging.WARNING or waiting % HELD_LINES == HELD_LINES - 1:
            self.flush(wait=False)

    def flush(self, *, wait: bool = True) -> None:
        """Write what is held, in pieces that reach a pipe whole.

        What finds no room is held on; or, where one may wait for that, lost after
        `SECONDS_FOR_A_READER`.
        """
        if sys.stdout is None:  # It was closed before the start.
            self._held.clear()
        if not self._held:
            return
        with self._writing:
            until = time.monotonic() + (SECONDS_FOR_A_READER if wait else 0.0)
            try:
                while self._held and self._has_room(until) and self._write(self._piece()):
                    pass
            except ValueError as error:  # It was closed.
                self._held.clear()
                self._complain(error)
            if self._held and wait:
                self._stalled = True
                self._lose()
                self._complain("nobody reads them")
            self._due = time.monotonic() + HELD_SECONDS

    def _has_room(self, until: float) -> bool:
        """Whether stdout takes a line now, or soon: who reads it must not stop the service."""
        descriptor = self._descriptor()
        if descriptor is None:
            return True
        waiting = 0.0 if self._stalled else max(until - time.monotonic(), 0.0)
        room = bool(select.select([], [descriptor], [], waiting)[1])
        self._stalled = self._stalled and not room
        return room

    def _descriptor(self) -> int | None:
        try:
            return sys.stdout.fileno()
        except io.UnsupportedOperation:  # It is no file at all, as in a test.
            return None

    def _write(self, piece: bytes) -> bool:
        """Write, without a buffer that would hold a part; returns whether more can be tried."""
        start = b"\n" if self._torn else b""
        descriptor = self._descriptor()
        try:
            if descriptor is None:
                sys.stdout.write(piece.decode())
                return True
            written = os.write(descriptor, start + piece)
        except BlockingIOError:  # Another process was faster.
            self._held.appendleft(piece)
            return False
        except Exception as error:  # noqa: BLE001  # No log line is worth an answer.
            self._complain(error)
            self._torn, self._in_a_line = self._torn or self._in_a_line, False
            return True
        self._torn = False
        self._in_a_line = written < len(start + piece)
        if self._in_a_line:
            self._held.appendleft((start + piece)[written:])
        return True

    def _lose(self) -> None:
        self._held.clear()
        self._torn, self._in_a_line = self._torn or self._in_a_line, False

    def _piece(self) -> bytes:
        """The next lines of those held, as many together as a pipe takes whole."""
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
        except Exception as error:  # noqa: BLE001
            self._complain(error)
            return b""

    def _complain(self, why: Exception | str) -> None:
        """On stderr, and not for each line: a full disk would fill the other one too."""
        if time.monotonic() - self._complained > SECONDS_BETWEEN_COMPLAINTS:
            self._complained = time.monotonic()
            with suppress(Exception):
                sys.stderr.write(f"iris-api: log lines are lost ({why})\n")


logging.logThreads = logging.logMultiprocessing = False  # No line names them.
STDOUT = StdoutHandler()
"""One for all loggers: pieces of two would mix on their way to a pipe."""
