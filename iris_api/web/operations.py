"""What a view says of itself for the OpenAPI document, and what can happen in front of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from iris_api.errors import (
    BodyTooLargeError,
    DrainingError,
    IrisError,
    MediaTypeError,
    NotAuthenticatedError,
    OverloadedError,
    WrongKeyError,
)
from iris_api.web import auth, problems
from iris_api.web.body import SEND_JSON, TOO_LARGE
from iris_api.web.drain import ABOUT_TO_STOP
from iris_api.web.shed import BUSY

if TYPE_CHECKING:
    from collections.abc import Callable

View = TypeVar("View", bound="Callable[..., object]")

ANYWHERE = {
    400: ("The request can't be read.", "Invalid HTTP Header: 'no colon here'"),
    408: ("The request was not there in time.", "The request was not there after 10 seconds."),
    413: (
        "The body is larger than the proxy takes.",
        "Answered by nginx: the service did not see the request.",
    ),
    414: ("The path is too long.", "Request Line is too large (5014 > 4094)"),
    417: (
        "The header Expect has something other than 100-continue.",
        "Unable to comply with expectation: 'nonsense'",
    ),
    429: (
        "More requests than one caller may send (from the proxy).",
        "Answered by nginx: more requests than one caller may send. Slow down.",
    ),
    431: (
        "The headers are too large.",
        "Error parsing headers: 'limit request headers fields size'",
    ),
    500: ("Something went wrong here, not with the request.", problems.UNFORESEEN),
    501: (
        "The body is transferred in an unknown encoding.",
        "Unsupported transfer coding: 'brotli'",
    ),
    503: (
        "The service is away, or has as many requests as it can take.",
        "Answered by nginx: the service has as many requests as it can take, or is away.",
    ),
    504: (
        "The service took too long (from the proxy).",
        "Answered by nginx: the service took too long.",
    ),
}
"""Refusals in front of every view, by the server or by the proxy before it; what each may say."""
PLAIN = ANYWHERE | {404: ("There is nothing of this name.", problems.NOWHERE)}
"""All that is told by its status alone."""
GUARDS = (NotAuthenticatedError, WrongKeyError, OverloadedError)
"""What stands in front of a view that asks for a key."""


@dataclass(frozen=True, slots=True)
class Operation:
    """Of a view, what its name, its docstring, its key and its rule don't tell."""

    tag: str
    """Under which heading it is listed."""
    answers: tuple[Any, ...] = ()
    """Types of its JSON answers."""
    text: tuple[str, ...] = ()
    """Media types of its other answers."""
    raises: tuple[type[IrisError], ...] = ()
    """What it raises itself; every view may meet what stands in front of it."""
    tagged: bool = False
    """Whether its answer has an ETag, and so can be 304."""


def operation(tag: str, *answers: Any, **more: Any) -> Callable[[View], View]:
    """Declare a view's answers; `more` are the other fields of `Operation`."""

    def declare(view: View) -> View:
        view.operation = Operation(tag, answers, **more)  # type: ignore[attr-defined]
        return view

    return declare


def refusals(most_bytes: int) -> dict[type[IrisError], IrisError]:
    """Each error that is raised without a model, as it is raised."""
    raised: tuple[IrisError, ...] = (
        NotAuthenticatedError(auth.HOW),
        WrongKeyError(auth.NOBODYS),
        OverloadedError(BUSY),
        DrainingError(ABOUT_TO_STOP),
        BodyTooLargeError(TOO_LARGE.format(most_bytes)),
        MediaTypeError(SEND_JSON),
    )
    return {type(error): error for error in raised}
