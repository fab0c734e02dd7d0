"""A request that has waited too long is refused at once: its client may be gone, others are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iris_api.errors import OverloadedError
from iris_api.web.auth import is_public
from iris_api.web.request import current

if TYPE_CHECKING:
    from flask import Flask

BUSY = "The service is busier than it can be: try again in a second."


def init_app(app: Flask) -> None:
    """Look at the age of every request that is no probe, before anything is done for it."""
    longest = app.extensions["iris_api"].settings.max_queue_ms / 1000

    @app.before_request
    def shed() -> None:
        exchange = current()
        if exchange.waited > longest:
            endpoint = exchange.request.endpoint
            if endpoint is None or is_public(app, endpoint):
                return
            raise OverloadedError(BUSY)
