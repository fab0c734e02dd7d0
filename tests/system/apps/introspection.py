"""The application with routes that report what its worker has imported and frozen."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any

from wsgi import app as service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class IntrospectionRoutes:
    """Answers /modules and /frozen; passes every other request on."""

    def __getattr__(self, name: str) -> Any:
        """The application's attributes, which the server's hooks use."""
        return getattr(service, name)

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/modules":
                body = "\n".join(sys.modules)
            case "/frozen":
                body = str(gc.get_freeze_count())
            case _:
                return service(environ, start_response)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [body.encode()]


app = IntrospectionRoutes()
