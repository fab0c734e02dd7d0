"""What a view says of itself for the OpenAPI document: what it answers, and what it raises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from .exceptions import IrisError

View = TypeVar("View", bound="Callable[..., object]")


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
