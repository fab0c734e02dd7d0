"""The application with a route that blocks its thread for ever, without holding the GIL."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from wsgi import app as service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class StuckRoute:
    """Reads from a pipe that has no writer for /stuck; passes every other request on."""

    def __getattr__(self, name: str) -> Any:
        """The application's attributes, which the server's hooks use."""
        return getattr(service, name)

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/stuck":
            os.read(os.pipe()[0], 1)
        return service(environ, start_response)


app = StuckRoute()
