"""The service without some of its parts, named in WITHOUT: what they cost is the difference."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from iris_api import create_app
from iris_api.bundle.model import Model
from iris_api.web import auth, request_log, request_metrics

if TYPE_CHECKING:
    from flask import Flask

    from iris_api.contract.tasks import Outcome

PARTS = {"logs": request_log, "metrics": request_metrics, "auth": auth}
LEFT_OUT = set(os.environ["WITHOUT"].split(","))


def nothing(app: Flask) -> None:
    """In the place of a part that plugs in."""


for name in PARTS.keys() & LEFT_OUT:
    PARTS[name].init_app = nothing  # type: ignore[attr-defined]
app = create_app()
if "answer" in LEFT_OUT:
    model = app.extensions["iris_api"].model
    known = model.answer(
        b'{"sepal_length":6.7,"sepal_width":3.0,"petal_length":5.2,"petal_width":2.3}'
    )

    def answer_known(self: Model, body: bytes) -> tuple[bytes, Outcome]:  # noqa: ARG001
        """The same answer to everything."""
        return known  # type: ignore[no-any-return]

    Model.answer = answer_known  # type: ignore[method-assign]
