"""What is known of a request while it is answered; its log line and metrics are made of it."""

from __future__ import annotations

import os
import re
from contextvars import ContextVar
from time import perf_counter
from typing import TYPE_CHECKING

from flask.globals import request_ctx

if TYPE_CHECKING:
    from flask import Flask, Request, Response

    from .answers import Outcome
    from .tally import Tally

HEADER = "X-Request-ID"
SANE = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")

_current: ContextVar[Exchange] = ContextVar("exchange")


class Exchange:
    """One request and its answer."""

    __slots__ = ("caller", "id", "outcome", "refused", "request", "started", "tally", "wrong_key")

    def __init__(self, request: Request) -> None:
        given = request.environ.get("HTTP_X_REQUEST_ID", "")
        self.id = given if SANE.fullmatch(given) else os.urandom(16).hex()
        """The caller's request id, if it can go into a header and a log as it is, or a new one."""
        self.request = request
        self.started = perf_counter()
        self.caller: str | None = None
        """Name of the caller's key."""
        self.wrong_key = False
        """Whether a key was sent that is nobody's."""
        self.refused: str | None = None
        """Why the answer is a problem, in a word."""
        self.outcome: Outcome | None = None
        """What was predicted."""
        self.tally: Tally | None = None
        """Where it is counted: with the version that predicted it."""

    @property
    def route(self) -> str | None:
        """The rule of the URL map that matched."""
        rule = self.request.url_rule
        return rule.rule if rule else None

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return perf_counter() - self.started


def init_app(app: Flask) -> None:
    """Take note of a request before all else, and send its id with its answer."""
    app.before_request(_begin)
    app.after_request(_end)


def current() -> Exchange:
    """The exchange of this request."""
    return _current.get()


def _begin() -> None:
    _current.set(Exchange(request_ctx.request))


def _end(response: Response) -> Response:
    exchange = current()
    response.headers[HEADER] = exchange.id
    exchange.outcome = None  # Ten thousand rows need not stay until this thread's next request.
    return response
