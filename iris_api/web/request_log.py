"""What is logged: a line for each request."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import time
from functools import cached_property, partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from iris_api.monitoring.logs import STDOUT
from iris_api.web.proxies import TrustedProxies
from iris_api.web.request import current

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask, Response

    from iris_api.contract.tasks import Outcome
    from iris_api.web.request import Exchange
    from iris_api.web.service import Service

    View = Callable[..., Response]

TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
"""Of the W3C's Trace Context."""
REFUSED, FAILED = HTTPStatus.BAD_REQUEST.value, HTTPStatus.INTERNAL_SERVER_ERROR.value
"""The first status of a request that was refused, and of one that failed."""
LABELS = 20
"""Most classes whose rows a batch's line counts one by one."""

logger = logging.getLogger(__name__)


class RequestLogRecord(logging.LogRecord):
    """A request's record, whose fields are worked out when its line is made, with many others."""

    ALIKE = vars(logging.makeLogRecord({"name": __name__, "pathname": __file__}))
    """What any formatter may ask for: most of it is the same in all of them."""
    del ALIKE["msg"]

    def __init__(self, level: int, said: Callable[[], dict[str, Any]]) -> None:
        name, now, process = logging.getLevelName(level), time.time(), os.getpid()
        vars(self).update(
            self.ALIKE,
            created=now,
            msecs=now % 1 * 1000,
            levelno=level,
            levelname=name,
            process=process,
            said=said,
        )

    @cached_property
    def msg(self) -> dict[str, Any]:  # type: ignore[override]
        """What there is to say of the request; and what it was made of is let go of."""
        said: dict[str, Any] = vars(self).pop("said")()
        return said

    def work_out(self) -> None:
        """Make the fields now: the rows of a batch are too much to be kept for them."""
        vars(self)["msg"] = self.msg


def init_app(app: Flask) -> None:
    """Log from the level that is set, and log each request when it is answered."""
    service: Service = app.extensions["iris_api"]
    ours = logging.getLogger("iris_api")
    ours.setLevel(service.settings.log_level.upper())
    if not ours.handlers:
        ours.addHandler(STDOUT)
    proxies = TrustedProxies(service.settings.trusted_proxies)
    # Inputs are few and plain: without a key of this run their digests could be searched for.
    digest_key = os.urandom(32)

    def said(
        exchange: Exchange, status: int, seconds: float, outcome: Outcome | None
    ) -> dict[str, Any]:
        line = _line(exchange, status, seconds, proxies)
        return line if outcome is None else line | _prediction(outcome, digest_key)

    @app.after_request
    def log_request(response: Response) -> Response:
        exchange, status = current(), response.status_code
        level = _level(app, exchange, status)
        if logger.isEnabledFor(level):
            outcome = exchange.outcome
            told = exchange, status, exchange.seconds, outcome
            record = RequestLogRecord(level, partial(said, *told))
            if outcome is not None and len(outcome) > 1:
                record.work_out()
            # Not by `logger.log`, which walks the stack for where it was called.
            logger.handle(record)
        return response


def quiet(view: View) -> View:
    """Log a view's good answers at the debug level: probes and scrapes come all the time."""
    view.quiet = True  # type: ignore[attr-defined]
    return view


def _level(app: Flask, exchange: Exchange, status: int) -> int:
    if status >= FAILED:
        return logging.WARNING if exchange.refused else logging.ERROR
    view = app.view_functions.get(exchange.request.endpoint or "")
    good = status < REFUSED
    return logging.DEBUG if good and getattr(view, "quiet", False) else logging.INFO


def _line(
    exchange: Exchange, status: int, seconds: float, proxies: TrustedProxies
) -> dict[str, Any]:
    environ = exchange.request.environ
    line = {
        "event": "request",
        "request_id": exchange.id,
        "method": environ["REQUEST_METHOD"],
        "route": exchange.route,
        "status": status,
        "queue_ms": round(exchange.waited * 1000, 3),
        "duration_ms": round(seconds * 1000, 3),
        "key": exchange.caller,
        "client": proxies.client(environ),
    }
    traceparent = environ.get("HTTP_TRACEPARENT")
    if traceparent and TRACEPARENT.fullmatch(traceparent):
        line["traceparent"] = traceparent
    if exchange.refused:
        line["refused"] = exchange.refused
    return line


def _prediction(outcome: Outcome, digest_key: bytes) -> dict[str, Any]:
    """What was predicted, and a digest to tell equal inputs by: never the inputs."""
    digest = hashlib.blake2b(outcome.rows.tobytes(), digest_size=8, key=digest_key)
    said = {
        "model_version": outcome.model_version,
        "rows": len(outcome),
        "inputs_digest": digest.hexdigest(),
        "confidence": outcome.mean_confidence(),
    }
    if len(outcome) == 1:
        said["label"] = outcome.first["prediction"]
    elif len(outcome.classes) <= LABELS:
        said["labels"] = dict(zip(outcome.classes, outcome.class_counts, strict=True))
    return said
