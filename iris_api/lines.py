"""Log lines: one JSON object each, or text for a person at a terminal.

A JSON line is under 4,096 bytes, which is what a pipe takes from several processes without mixing
them, and plain ASCII, so that nothing a client sends can end it or turn it around.
"""

from __future__ import annotations

import json
import logging
import math
import select
import sys
import time
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from threading import RLock
from typing import TYPE_CHECKING, Any

from pythonjsonlogger.orjson import OrjsonFormatter

if TYPE_CHECKING:
    from collections.abc import Iterator

LINE_BYTES = 4096
"""PIPE_BUF on Linux, newline included."""
HELD_LINES = 64
"""Most lines that wait to be written."""
HELD_SECONDS = 0.01
"""How long the first of them waits."""
SECONDS_BETWEEN_COMPLAINTS = 60.0
SECONDS_FOR_A_READER = 1.0
"""That a full pipe may take until it has room again; then lines are lost until it has."""
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
    """

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(
            TextFormatter() if sys.stdout and sys.stdout.isatty() else JSONFormatter()
        )
        self._holds = False
        self._held: deque[logging.LogRecord] = deque()
        self._due = 0.0
        self._stalled = False
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
        self._held.append(record)
        if not self._holds or record.levelno > logging.WARNING or len(self._held) >= HELD_LINES:
            self.flush()

    def flush(self) -> None:
        """Write what is held, in pieces that reach a pipe whole."""
        if not self._held:
            return
        with self._writing:
            try:
                for piece in self._pieces():
                    if self._has_room():
                        sys.stdout.write(piece)
                        sys.stdout.flush()
            except Exception as error:  # noqa: BLE001
                self._complain(error)

    def _has_room(self) -> bool:
        """Whether stdout takes a line now, or soon: who reads it must not stop the service."""
        if sys.stdout is None:  # It was closed before the start.
            return False
        try:
            descriptor = sys.stdout.fileno()
        except OSError:  # No file at all, as in a test.
            return True
        waiting = 0.0 if self._stalled else SECONDS_FOR_A_READER
        self._stalled = not select.select([], [descriptor], [], waiting)[1]
        if self._stalled:
            self._complain(BlockingIOError("nobody reads them"))
        return not self._stalled

    def _complain(self, error: Exception) -> None:
        """On stderr, and not for each line: a full disk would fill the other one too."""
        if time.monotonic() - self._complained > SECONDS_BETWEEN_COMPLAINTS:
            self._complained = time.monotonic()
            with suppress(Exception):
                sys.stderr.write(f"iris-api: log lines are lost ({error})\n")

    def _pieces(self) -> Iterator[str]:
        """The lines held, as many together as a pipe takes whole."""
        piece = ""
        while self._held:
            try:
                line = self.format(self._held.popleft()) + "\n"
            except Exception as error:  # noqa: BLE001  # No log line is worth an answer.
                self._complain(error)
                continue
            if len(piece) + len(line) > LINE_BYTES:
                yield piece
                piece = ""
            piece += line
        yield piece


logging.logThreads = logging.logMultiprocessing = False  # No line names them.
STDOUT = StdoutHandler()
"""One for all loggers: pieces of two would mix on their way to a pipe."""
