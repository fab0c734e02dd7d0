"""The application with predictions that take 80 ms, so that one machine can overload it."""

from __future__ import annotations

import time
from functools import wraps
from typing import TYPE_CHECKING, Any

from tests.system.apps import MODEL_SECONDS
from wsgi import app

if TYPE_CHECKING:
    from collections.abc import Callable


def slow(view: Callable[..., Any]) -> Callable[..., Any]:
    """Delay a view, which runs after authentication and load shedding."""

    @wraps(view)
    def delayed(*args: Any, **kwargs: Any) -> Any:
        time.sleep(MODEL_SECONDS)
        return view(*args, **kwargs)

    return delayed


for endpoint in ("v1.predict", "v1.predict_alias"):
    app.view_functions[endpoint] = slow(app.view_functions[endpoint])

__all__ = ["app"]
