"""Gunicorn's own messages, in the shape of all our log lines."""

from __future__ import annotations

import logging
from typing import Any

from gunicorn.glogging import Logger

from iris_api.monitoring.logs import STDOUT


class GunicornLogger(Logger):  # type: ignore[misc]
    """Gunicorn's logger with our handler. It keeps no access log: the request log says more."""

    def setup(self, cfg: Any) -> None:
        """Take the level from Gunicorn's configuration, but not its debug lines of each request."""
        super().setup(cfg)
        self.error_log.handlers = [STDOUT]
        self.error_log.setLevel(max(self.error_log.level, logging.INFO))
