"""Each answered request in the metrics and in the log, before its answer is sent.

Whatever answer a client has received was counted, even if the worker dies right after.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from iris_api.monitoring.logs import STDOUT

from .request import TrustedProxies, current

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask, Response

    from iris_api.contract.tasks import Outcome
    from iris_api.monitoring.metrics import Metrics

    from .request import Exchange
    from .service import Service

    View = Callable[..., Response]

TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
"""`traceparent` as W3C Trace Context defines it."""
BAD_REQUEST = HTTPStatus.BAD_REQUEST.value
SERVER_ERROR = HTTPStatus.INTERNAL_SERVER_ERROR.value
MAX_LABELS = 20
"""A batch's line counts the rows of each class if there are at most this many classes."""

logger = logging.getLogger(__name__)


class RequestLogRecord(logging.LogRecord):
    """The record of a request. Its fields are computed when the line is written.

    Lines are written many at a time, which costs less than computing each one's fields alone.
    """

    def __init__(
        self, level: int, log: RequestLog, exchange: Exchange, status: int, outcome: Outcome | None
    ) -> None:
        super().__init__(logger.name, level, "", 0, None, None, None)
        del vars(self)["msg"]
        self._arguments: tuple[Any, ...] | None = exchange, status, exchange.seconds, outcome
        self._log = log

    @cached_property
    def msg(self) -> dict[str, Any]:  # type: ignore[override]
        """The fields of the line. Reading them releases the request."""
        arguments, self._arguments = self._arguments, None
        return self._log.fields(*arguments or ())


class RequestLog:
    """Writes one line for each request."""

    def __init__(self, app: Flask) -> None:
        settings = app.extensions["iris_api"].settings
        self._views = app.view_functions
        self._proxies = TrustedProxies(settings.trusted_proxies)
        # Few inputs are likely: without a secret of this run, digests could be guessed.
        self._digest_key = os.urandom(32)

    def write(self, exchange: Exchange, status: int) -> None:
        """Log an answered request, if its level is enabled."""
        level = self._level(exchange, status)
        if not logger.isEnabledFor(level):
            return
        outcome = exchange.outcome
        record = RequestLogRecord(level, self, exchange, status, outcome)
        if outcome is not None and len(outcome) > 1:
            _ = record.msg  # Frees the rows of a batch now.
        # `logger.log` would walk the stack for the caller's line.
        logger.handle(record)

    def fields(
        self, exchange: Exchange, status: int, seconds: float, outcome: Outcome | None
    ) -> dict[str, Any]:
        """The fields of a request's line."""
        environ = exchange.request.environ
        fields = {
            "event": "request",
            "request_id": exchange.id,
            "method": environ["REQUEST_METHOD"],
            "route": exchange.route,
            "status": status,
            "queue_ms": round(exchange.queue_seconds * 1000, 3),
            "duration_ms": round(seconds * 1000, 3),
            "key": exchange.caller,
            "client": self._proxies.client(environ),
        }
        traceparent = environ.get("HTTP_TRACEPARENT")
        if traceparent and TRACEPARENT.fullmatch(traceparent):
            fields["traceparent"] = traceparent
        if exchange.refusal:
            fields["refused"] = exchange.refusal
        return fields if outcome is None else fields | self._prediction_fields(outcome)

    def _level(self, exchange: Exchange, status: int) -> int:
        if status >= SERVER_ERROR:
            return logging.WARNING if exchange.refusal else logging.ERROR
        view = self._views.get(exchange.request.endpoint or "")
        succeeded = status < BAD_REQUEST
        return logging.DEBUG if succeeded and getattr(view, "quiet", False) else logging.INFO

    def _prediction_fields(self, outcome: Outcome) -> dict[str, Any]:
        """The predictions, and a digest that is equal for equal inputs; never the inputs."""
        digest = hashlib.blake2b(outcome.rows.tobytes(), digest_size=8, key=self._digest_key)
        fields = {
            "model_version": outcome.model_version,
            "rows": len(outcome),
            "inputs_digest": digest.hexdigest(),
            "confidence": outcome.mean_confidence(),
        }
        if len(outcome) == 1:
            fields["label"] = outcome.first["prediction"]
        elif len(outcome.classes) <= MAX_LABELS:
            fields["labels"] = dict(zip(outcome.classes, outcome.class_counts, strict=True))
        return fields


def init_app(app: Flask) -> None:
    """Count and log each request of the application."""
    service: Service = app.extensions["iris_api"]
    metrics = service.metrics
    for rule in app.url_map.iter_rules():
        if "POST" in (rule.methods or ()):
            metrics.declare_route(rule.rule)
    _configure_logger(service.settings.log_level)
    log = RequestLog(app)
    app.before_request(metrics.request_started)

    @app.after_request
    def record(response: Response) -> Response:
        exchange = current()
        _count(metrics, exchange, response.status_code)
        log.write(exchange, response.status_code)
        return response


def quiet(view: View) -> View:
    """Log the successful answers of a view at the debug level: probes and scrapes are frequent."""
    view.quiet = True  # type: ignore[attr-defined]
    return view


def _configure_logger(level: str) -> None:
    package_logger = logging.getLogger("iris_api")
    package_logger.setLevel(level.upper())
    if not package_logger.handlers:
        package_logger.addHandler(STDOUT)


def _count(metrics: Metrics, exchange: Exchange, status: int) -> None:
    if exchange.counted:  # Flask runs this again for the error of a later function.
        return
    # If counting fails, the request becomes a 500 and is counted without its predictions.
    counter, exchange.counter = exchange.counter, None
    outcome = exchange.outcome
    increments = counter.increments(outcome) if counter and outcome is not None else []
    if exchange.caller is not None:
        increments.append(metrics.caller_increment(exchange.caller))
    exchange.counted = True
    metrics.request_finished(
        exchange.route,
        status,
        seconds=exchange.seconds,
        queue_seconds=exchange.queue_seconds,
        increments=increments,
    )
    if exchange.refusal is not None:
        metrics.count_refusal(exchange.refusal)
