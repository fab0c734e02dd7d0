"""Iris API: a trained scikit-learn model, served over HTTP.

`create_app` is imported at its first use. Training and scoring import this package without a web
server, and Gunicorn sets the environment of the numeric libraries before they are imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iris_api.app import create_app

__all__ = ["create_app"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from iris_api.app import create_app

    return create_app
