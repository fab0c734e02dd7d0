"""Log lines: one JSON object each, or text for a person at a terminal.

A JSON line is under 4,096 bytes, which is what a pipe takes from several processes without mixing
them, and plain ASCII, so that nothing a client sends can end it or turn it around.
"""

from __future__ import annotations

import json
import logging
import sys
from collections import deque
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
LEFT_AS_IT_IS = 100
"""Characters of a field that is not shortened any further."""


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
        """One line, its longest text halved until it fits."""
        line = self._ascii(log_data)
        while len(line) >= LINE_BYTES:
            texts = {name: len(value) for name, value in log_data.items() if isinstance(value, str)}
            name = max(texts, key=texts.__getitem__)
            half = texts[name] // 2
            if half < LEFT_AS_IT_IS:
                return self._ascii({"level": "error", "event": "a log line was too long"})
            text = log_data[name]
            # A message says most at its start, and a traceback at its end.
            log_data[name] = f"...{text[-half:]}" if name == "exc_info" else f"{text[:half]}..."
            line = self._ascii(log_data)
        return line

    def _ascii(self, log_data: dict[str, Any]) -> str:
        try:
            line = self.jsonify_log_record(log_data)
        except TypeError:  # orjson takes no lone surrogate, as file names may have.
            return json.dumps(log_data, default=str)
        return line if line.isascii() else json.dumps(json.loads(line))


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

    Each line is written at once, or, in a process that flushes by itself, held for a moment. A
    write lets go of the interpreter, and under load to get it back costs more than the line did.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(TextFormatter() if sys.stdout.isatty() else JSONFormatter())
        self._holds = False
        self._held: deque[str] = deque()
        self._writing = RLock()  # A signal's handler may log in the middle of a write.

    def hold(self) -> None:
        """From now on hold lines until `flush`, but for warnings and worse, or when many wait."""
        self._holds = True

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or hold it."""
        try:
            self._held.append(self.format(record) + "\n")
        except Exception:  # noqa: BLE001  # logging's own way to deal with what a log can't say
            self.handleError(record)
        if not self._holds or record.levelno > logging.INFO or len(self._held) >= HELD_LINES:
            self.flush()

    def flush(self) -> None:
        """Write what is held, in pieces that reach a pipe whole."""
        if not self._held:
            return
        with self._writing:
            try:
                for piece in self._pieces():
                    sys.stdout.write(piece)
                    sys.stdout.flush()
            except Exception:  # noqa: BLE001
                self.handleError(logging.makeLogRecord({"msg": "log lines were lost"}))

    def _pieces(self) -> Iterator[str]:
        """The lines held, as many together as a pipe takes whole."""
        piece = ""
        while self._held:
            line = self._held.popleft()
            if len(piece) + len(line) > LINE_BYTES:
                yield piece
                piece = ""
            piece += line
        yield piece
