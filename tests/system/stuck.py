"""The application, with a route that calls what never comes back, without the interpreter."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from wsgi import app as served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Stuck:
    """Reads from a pipe that nobody writes to, and passes everything else on."""

    extensions = served.extensions
    register_error_handler = served.register_error_handler

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/stuck":
            os.read(os.pipe()[0], 1)
        return served(environ, start)


app = Stuck()
