"""What is known of a request while it is answered; its log line and metrics are made of it."""

from __future__ import annotations

import re
from contextvars import ContextVar
from random import getrandbits
from time import perf_counter, time
from typing import TYPE_CHECKING, Any

from flask.globals import _cv_request

from iris_api.web.proxies import TrustedProxies
from iris_api.web.queueing import seconds_in_queue

if TYPE_CHECKING:
    from flask import Flask, Request, Response

    from iris_api.contract.tasks import Outcome
    from iris_api.monitoring.prediction_counts import PredictionCounter
    from iris_api.web.service import Service

HEADER = "X-Request-ID"
STAMP = re.compile(r"t=(\d{1,12}\.\d{3})")
"""X-Request-Start as nginx writes it: `t=$msec`, Unix time in seconds."""
SANE = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")

_current: ContextVar[Exchange] = ContextVar("exchange")


class Exchange:
    """One request and its answer."""

    __slots__ = (
        "caller",
        "counted",
        "id",
        "outcome",
        "refused",
        "request",
        "service",
        "started",
        "tally",
        "waited",
        "wrong_key",
    )

    def __init__(self, request: Request, service: Service, waited: float) -> None:
        given = request.environ.get("HTTP_X_REQUEST_ID", "")
        self.id = given if SANE.fullmatch(given) else new_id()
        """The caller's request id, if it can go into a header and a log as it is, or a new one."""
        self.request = request
        self.service = service
        self.started = perf_counter()
        self.waited = waited
        """Seconds from its arrival, at the proxy if there is one, until it was taken up."""
        self.caller: str | None = None
        """Name of the caller's key."""
        self.wrong_key = False
        """Whether a key was sent that is nobody's."""
        self.refused: str | None = None
        """Why the answer is a problem, in a word."""
        self.counted = False
        """Whether it is in the metrics."""
        self.outcome: Outcome | None = None
        """What was predicted."""
        self.tally: PredictionCounter | None = None
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
    service: Service = app.extensions["iris_api"]
    proxies = TrustedProxies(service.settings.trusted_proxies)

    @app.before_request
    def begin() -> None:
        request = _cv_request.get().request
        _current.set(Exchange(request, service, _waited(request.environ, proxies)))

    app.after_request(_end)


def new_id() -> str:
    """A request id, of 32 hexadecimal digits."""
    return f"{getrandbits(128):032x}"


def current() -> Exchange:
    """The exchange of this request."""
    return _current.get()


def _waited(environ: dict[str, Any], proxies: TrustedProxies) -> float:
    """In seconds: from the proxy's stamp, if there is one to believe, or in our own queue."""
    sent = environ.get("HTTP_X_REQUEST_START")
    if sent is not None and (stamp := STAMP.fullmatch(sent)) and proxies.sent(environ):
        return max(time() - float(stamp[1]), 0.0)
    return seconds_in_queue()


def _end(response: Response) -> Response:
    exchange = current()
    response.headers.add(HEADER, exchange.id)
    exchange.outcome = None  # Ten thousand rows need not stay until this thread's next request.
    return response
