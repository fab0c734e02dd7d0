from __future__ import annotations

import json

import pytest
from gunicorn.config import Config

from iris_api.server.logger import GunicornLogger


@pytest.mark.parametrize("quoted", ["'X-API-Key iris_x'", '"it\'s iris_x"', "'a\n' 'iris_x'"])
def test_quotations_of_a_request_are_not_logged(
    capsys: pytest.CaptureFixture[str], quoted: str
) -> None:
    """Gunicorn's own workers quote what they can't parse, which may be a key."""
    message = f"Invalid request from ip=127.0.0.1: Invalid HTTP Header: {quoted}"
    GunicornLogger(Config()).warning(message)
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert line["event"] == "Invalid request from ip=127.0.0.1: Invalid HTTP Header: '...'"


def test_other_warnings_are_logged_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """With their arguments."""
    GunicornLogger(Config()).warning("Worker '%s' was terminated", 7)
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert line["event"] == "Worker '7' was terminated"


def test_debug_messages_of_each_request_are_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    """Even at the debug level, which our own loggers use."""
    config = Config()
    config.set("loglevel", "debug")
    GunicornLogger(config).debug("Closing connection.")
    assert capsys.readouterr().out == ""
