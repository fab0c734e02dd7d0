from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gunicorn.config import Config

from iris_api.server.logger import GunicornLogger

if TYPE_CHECKING:
    import pytest


def test_messages_of_gunicorn_are_lines_of_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    """With their text as the event."""
    GunicornLogger(Config()).warning("Worker '%s' was terminated", 7)
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert line["event"] == "Worker '7' was terminated"


def test_debug_messages_of_each_request_are_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    """Even at the debug level, which our own loggers use."""
    config = Config()
    config.set("loglevel", "debug")
    GunicornLogger(config).debug("Closing connection.")
    assert capsys.readouterr().out == ""
