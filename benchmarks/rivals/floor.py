"""The floor: a bare WSGI callable that reads the body and returns fixed bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ANSWER = (
    b'{"prediction":"virginica","confidence":0.98,"probabilities":{"setosa":0.0,'
    b'"versicolor":0.02,"virginica":0.98},"model_version":"0123456789ab"}'
)
HEADERS = [("Content-Type", "application/json"), ("Content-Length", str(len(ANSWER)))]


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer every request with the same bytes."""
    environ["wsgi.input"].read()
    start_response("200 OK", HEADERS)
    return [ANSWER]
