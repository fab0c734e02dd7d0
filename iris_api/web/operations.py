"""What a view declares for the OpenAPI document, and the routes that follow from it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from inspect import getdoc
from typing import TYPE_CHECKING, Any, TypeVar

from .auth import is_public

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flask import Flask

    from iris_api.errors import IrisError

View = TypeVar("View", bound="Callable[..., object]")


@dataclass(frozen=True, slots=True)
class Operation:
    """What a view declares beyond its name, docstring, rule and need for a key."""

    tag: str
    """The heading that lists it."""
    answers: tuple[Any, ...] = ()
    """Types of its JSON answers."""
    text: tuple[str, ...] = ()
    """Media types of its other answers."""
    raises: tuple[type[IrisError], ...] = ()
    """The errors that it raises itself, besides those of the guard."""
    parameters: dict[str, list[str]] = field(default_factory=dict)
    """Allowed values of its path parameters, where they are fixed."""
    conditional: bool = False
    """Whether its answer has an ETag and can be 304."""


def operation(tag: str, *answers: Any, **fields: Any) -> Callable[[View], View]:
    """Declare the answers of a view. `fields` are the other fields of `Operation`."""

    def declare(view: View) -> View:
        view.operation = Operation(tag, answers, **fields)  # type: ignore[attr-defined]
        return view

    return declare


@dataclass(frozen=True, slots=True)
class Route:
    """One rule of the URL map, with the declaration of its view."""

    is_alias: bool
    """Whether the rule is a further path to a view that has another."""
    path: str
    methods: list[str]
    id: str
    summary: str
    declared: Operation
    public: bool
    parameters: dict[str, list[str]]


def routes_of(app: Flask) -> Iterable[Route]:
    """The routes of an application, with what their views declare."""
    # A view with several rules has its own name as the endpoint of the first one.
    rules = {rule.endpoint: rule for rule in app.url_map.iter_rules()}
    views = {endpoint: app.view_functions[endpoint] for endpoint in rules}
    first = {views[e]: rules[e].rule for e in rules if e.rpartition(".")[2] == views[e].__name__}
    for endpoint, rule in rules.items():
        view = views[endpoint]
        declared: Operation = vars(view)["operation"]
        summary = (getdoc(view) or "").partition("\n")[0]
        is_alias = first.get(view, rule.rule) != rule.rule
        yield Route(
            is_alias,
            re.sub(r"<(?:[^:>]+:)?(\w+)>", r"{\1}", rule.rule),
            sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}),
            endpoint.removeprefix("v1.").replace(".", "_"),
            f"Alias of {first[view]}: {summary[0].lower()}{summary[1:]}" if is_alias else summary,
            declared,
            is_public(app, endpoint),
            {name: declared.parameters.get(name, []) for name in sorted(rule.arguments)},
        )
