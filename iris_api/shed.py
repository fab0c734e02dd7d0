"""A request that has waited too long is refused at once: its client may be gone, others are not."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from .auth import is_public
from .exceptions import OverloadedError
from .exchange import current

if TYPE_CHECKING:
    from flask import Flask

STARTED = re.compile(r"t=(\d{1,12}\.\d{3})")
"""X-Request-Start as nginx writes it: `t=$msec`, Unix time in seconds."""


def init_app(app: Flask) -> None:
    """Look at the age of every request that is no probe, before anything is done for it."""
    longest = app.extensions["iris_api"].settings.max_queue_ms / 1000

    @app.before_request
    def shed() -> None:
        request = current().request
        started = STARTED.fullmatch(request.environ.get("HTTP_X_REQUEST_START", ""))
        if started and time.time() - float(started[1]) > longest:
            if request.endpoint is None or is_public(app, request.endpoint):
                return
            raise OverloadedError("The service is busier than it can be: try again in a second.")
