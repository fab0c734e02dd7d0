"""The service without the parts named in WITHOUT: the difference is what they cost.

A part is left out by removing its hooks from the application. `answer` replaces the prediction by
one that was made before. The log line alone needs nothing here: IRIS_LOG_LEVEL turns it off.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from iris_api import create_app
from iris_api.dialects import native
from iris_api.web.flask_app import BytesResponse
from iris_api.web.request import current, read_body

if TYPE_CHECKING:
    from flask import Flask

HOOKS = {
    "records": ("iris_api.web.recording", "iris_api.monitoring.metrics"),
    "keys": ("iris_api.web.auth",),
}
"""The modules whose functions run before and after each request, by part."""
ONE_ROW = b'{"sepal_length":6.7,"sepal_width":3.0,"petal_length":5.2,"petal_width":2.3}'


def remove_hooks(app: Flask, modules: tuple[str, ...]) -> None:
    """Take the hooks of these modules off an app.

    Raises:
        LookupError: if there is none, as the figures would be those of the whole service.
    """
    before_and_after: list[list[Any]] = [
        app.before_request_funcs[None],
        app.after_request_funcs[None],
    ]
    removed = 0
    for hooks in before_and_after:
        kept = [hook for hook in hooks if getattr(hook, "__module__", "") not in modules]
        removed += len(hooks) - len(kept)
        hooks[:] = kept
    if not removed:
        raise LookupError(f"no hook in {', '.join(modules)}")


def answer_alike(app: Flask) -> None:
    """Give every request the answer to one row."""
    serving = app.extensions["iris_api"].serving
    rows = native.decode(ONE_ROW, serving.model.schema)
    outcome = serving.model.predict(rows.values)
    body = native.encode(outcome, rows)

    def predict() -> BytesResponse:
        read_body(serving.max_body_bytes)
        exchange = current()
        exchange.counter, exchange.outcome = serving.counter, outcome
        return BytesResponse(body, 200, native.MEDIA_TYPE)

    app.view_functions["v1.predict"] = predict


app = create_app()
for part in os.environ["WITHOUT"].split(","):
    if part == "answer":
        answer_alike(app)
    else:
        remove_hooks(app, HOOKS[part])
