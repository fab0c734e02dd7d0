"""The service's own log, and the request id that ties it to what a client was answered.

The id is taken from the caller or made here, and sent back with every answer.
"""

from __future__ import annotations

import logging
import os
import re
from typing import TYPE_CHECKING

from flask.globals import request_ctx

if TYPE_CHECKING:
    from flask import Flask, Response

HEADER = "X-Request-ID"
FORMAT = "%(asctime)s [%(process)d] [%(levelname)s] %(message)s"
"""Gunicorn's, so that the two read as one log."""
KEPT = "iris_api.request_id"
SANE = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


def init_app(app: Flask) -> None:
    """Log from the level that is set, and send each answer with its request's id."""
    logger = logging.getLogger("iris_api")
    logger.setLevel(app.extensions["iris_api"].settings.log_level.upper())
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(FORMAT, "[%Y-%m-%d %H:%M:%S %z]"))
        logger.addHandler(handler)
    app.after_request(_send_id)


def request_id() -> str:
    """Id of this request: the caller's, if it can go into a header and a log as it is."""
    environ = request_ctx.request.environ
    found: str | None = environ.get(KEPT)
    if found is None:
        given = environ.get("HTTP_X_REQUEST_ID", "")
        found = environ[KEPT] = given if SANE.fullmatch(given) else os.urandom(16).hex()
    return found


def _send_id(response: Response) -> Response:
    response.headers[HEADER] = request_id()
    return response
