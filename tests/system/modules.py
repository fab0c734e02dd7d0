"""The application, with routes that tell what its worker has imported and frozen."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any

from wsgi import app as served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Telling:
    """Answers /modules itself and passes everything else on."""

    extensions = served.extensions
    register_error_handler = served.register_error_handler

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        told = {"/modules": "\n".join(sys.modules), "/frozen": str(gc.get_freeze_count())}
        if environ["PATH_INFO"] not in told:
            return served(environ, start)
        start("200 OK", [("Content-Type", "text/plain")])
        return [told[environ["PATH_INFO"]].encode()]


app = Telling()
