"""The OpenAPI document: the URL map, what views declare, and the served model, put together."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from inspect import getdoc
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from werkzeug.routing.converters import AnyConverter

from iris_api.errors import ContractError
from iris_api.web import auth, problems, request, shapes
from iris_api.web.body import JSON
from iris_api.web.operations import ANYWHERE, GUARDS, PLAIN, refusals

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flask import Flask

    from iris_api.bundle.model import Model
    from iris_api.errors import IrisError
    from iris_api.web.operations import Operation

DESCRIPTION = """\
Predictions of the model `{name}`, version `{version}`, for one row or for many.

Send an API key as the header `{header}`, or as a bearer token. A request may have {rows:,} rows
and {most_bytes:,} bytes. Every refusal is a problem document (RFC 9457) with the id that is in the
header `{request_id}`: yours, if you sent one."""
TAGS = {
    "Predictions": "What the model makes of your rows.",
    "Model": "What is known of the model, and whether live rows look like those it was trained on.",
    "Operation": "For load balancers and Prometheus.",
    "Service": "What there is.",
    "Pages": "For people, in a browser.",
}
HEADERS = {
    "Retry-After": ("Seconds until it is worth trying again.", "integer"),
    "WWW-Authenticate": ("How to authenticate.", "string"),
    "Accept-Post": ("The media type to send.", "string"),
    "ETag": ("Changes with the content.", "string"),
    "Vary": ("The header of the request that the answer depends on.", "string"),
}
"""Of answers, besides the id of the request."""
TAGGED = ("ETag", "Vary")
SANE_ID = {"type": "string", "pattern": f"^{request.SANE.pattern}$"}
SENT_ID = {
    "description": "Your id for the request: it is in the answer and in the log. One that does not "
    "fit the pattern is replaced.",
    "schema": SANE_ID,
}
GIVEN_ID = {
    "description": "Id of the request: yours, if you sent one that is sane.",
    "schema": SANE_ID,
}
REQUEST_ID = "7d4f9c0e5b1a48d2a6c3f0e9b8d7c6a5"
"""Of the problems among the examples."""


@dataclass(frozen=True, slots=True)
class _Route:
    """One rule of the URL map, and what its view says of itself."""

    alias: bool
    """Whether it is a further way to its view."""
    path: str
    methods: list[str]
    id: str
    summary: str
    declared: Operation
    public: bool
    arguments: dict[str, list[str]]
    """Its variable parts, each with the values it may have, if they are told apart."""


def document(app: Flask, model: Model, *, most_bytes: int) -> dict[str, Any]:
    """What the app serves with a model, as an OpenAPI document."""
    routes = sorted(_routes(app), key=attrgetter("alias", "path"))
    types = [kind for route in routes for kind in route.declared.answers]
    bodies, by_type, named = shapes.schemas(
        model, [*types, problems.Problem, problems.ContractProblem]
    )
    sent = shapes.requests(model)
    examples = shapes.answers(model, sent) | shapes.refusals(model) | refusals(most_bytes)
    writer = _Writer(by_type, examples, _body(bodies, sent, most_bytes))
    told = {
        "name": model.manifest.name,
        "version": model.version,
        "header": auth.HEADER,
        "rows": model.schema.max_rows,
        "most_bytes": most_bytes,
        "request_id": request.HEADER,
    }
    return {
        "openapi": "3.1.1",
        "info": {
            "title": f"Iris API: {model.manifest.name}",
            "version": model.version,
            "description": DESCRIPTION.format(**told),
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "tags": [{"name": tag, "description": text} for tag, text in TAGS.items()],
        "paths": {
            route.path: {
                method.lower(): writer.operation(route, method) for method in route.methods
            }
            for route in routes
        },
        "components": {
            "schemas": named,
            "responses": {_shared(status): writer.refusal(status) for status in ANYWHERE},
            "parameters": {"RequestId": {"name": request.HEADER, "in": "header"} | SENT_ID},
            "headers": {
                name: {"description": text, "schema": {"type": kind}}
                for name, (text, kind) in HEADERS.items()
            }
            | {request.HEADER: GIVEN_ID},
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": auth.HEADER},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _routes(app: Flask) -> Iterable[_Route]:
    # A view that is reached in several ways has its own name as the endpoint of the first.
    rules = {rule.endpoint: rule for rule in app.url_map.iter_rules()}
    views = {endpoint: app.view_functions[endpoint] for endpoint in rules}
    first = {views[e]: rules[e].rule for e in rules if e.rpartition(".")[2] == views[e].__name__}
    for endpoint, rule in rules.items():
        view = views[endpoint]
        summary = (getdoc(view) or "").partition("\n")[0]
        alias = first.get(view, rule.rule) != rule.rule
        yield _Route(
            alias,
            re.sub(r"<(?:[^:>]+:)?(\w+)>", r"{\1}", rule.rule),
            sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}),
            endpoint.removeprefix("v1.").replace(".", "_"),
            f"Alias of {first[view]}: {summary[0].lower()}{summary[1:]}" if alias else summary,
            vars(view)["operation"],
            auth.is_public(app, endpoint),
            {name: _values(rule._converters[name]) for name in sorted(rule.arguments)},
        )


def _values(converter: Any) -> list[str]:
    return sorted(converter.items) if isinstance(converter, AnyConverter) else []


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes the operations of one document."""

    schemas: dict[Any, Any]
    examples: dict[Any, Any]
    body: dict[str, Any]

    def operation(self, route: _Route, method: str) -> dict[str, Any]:
        """One method of one route."""
        made: dict[str, Any] = {
            "operationId": route.id,
            "summary": route.summary,
            "tags": [route.declared.tag],
            "security": [] if route.public else [{"key": []}, {"bearer": []}],
            "parameters": list(_parameters(route)),
            "responses": self._responses(route),
        }
        return made | ({"requestBody": self.body} if method == "POST" else {})

    def _responses(self, route: _Route) -> dict[str, Any]:
        responses = {"200": self._good(route.declared)}
        if route.declared.tagged:
            responses["304"] = _response("The client has it already.", TAGGED)
            responses["200"]["links"] = {"unchanged": _again(route)}
        raised: dict[int, list[type[IrisError]]] = defaultdict(list)
        for error in (*route.declared.raises, *(() if route.public else GUARDS)):
            raised[error.status].append(error)
        for status in sorted({*raised, *ANYWHERE, *([404] if route.arguments else [])}):
            shared = status in ANYWHERE and status not in raised
            responses[str(status)] = (
                {"$ref": f"#/components/responses/{_shared(status)}"}
                if shared
                else self.refusal(status, *raised[status])
            )
        return responses

    def _good(self, declared: Operation) -> dict[str, Any]:
        content: dict[str, Any] = {}
        kinds = [self.schemas[kind] for kind in declared.answers]
        if kinds:
            content[JSON] = {"schema": {"oneOf": kinds} if len(kinds) > 1 else kinds[0]}
        if found := [kind for kind in declared.answers if kind in self.examples]:
            content[JSON]["examples"] = {
                kind.__name__: {"value": self.examples[kind]} for kind in found
            }
        content |= {kind: {"schema": {"type": "string"}} for kind in declared.text}
        return _response("As asked.", TAGGED if declared.tagged else (), content)

    def refusal(self, status: int, *raised: type[IrisError]) -> dict[str, Any]:
        """The answer of a status that these errors have, if any."""
        texts = [(error.__doc__ or "").partition("\n")[0] for error in raised]
        made = [problems.problem_of(self.examples[error], REQUEST_ID) for error in raised]
        if status in PLAIN:
            text, detail = PLAIN[status]
            texts.append(text)
            made.append(problems.problem(status, detail, REQUEST_ID))
        kind = problems.ContractProblem if ContractError in raised else problems.Problem
        types = [each["type"] for each in made]
        content = {
            # A generator of clients takes the reference, a validator both.
            "schema": self.schemas[kind] | {"properties": {"type": {"enum": types}}},
            "examples": {_name(each): {"value": each} for each in made},
        }
        headers = {name for error in raised for name in error.headers}
        headers |= {"Retry-After"} if status in {429, 503} else set()
        return _response(" ".join(texts), sorted(headers), {problems.MEDIA_TYPE: content})


def _name(problem: problems.Problem) -> str:
    """What an example is called: as its kind of problem, or as its status."""
    slug = problem["type"].removeprefix(problems.TYPE_PREFIX)
    return slug if slug != problem["type"] else problem["title"].lower().replace(" ", "-")


def _body(schemas: list[Any], sent: list[Any], most_bytes: int) -> dict[str, Any]:
    single, batch = sent
    examples = {"row": {"value": single}, "batch": {"value": batch}}
    return {
        "required": True,
        "description": f"At most {most_bytes:,} bytes.",
        "x-max-bytes": most_bytes,
        "content": {JSON: {"schema": {"oneOf": schemas}, "examples": examples}},
    }


def _shared(status: int) -> str:
    return f"Refused{status}"


def _response(
    text: str, headers: Iterable[str], content: dict[str, Any] | None = None
) -> dict[str, Any]:
    names = (request.HEADER, *headers)
    made: dict[str, Any] = {
        "description": text,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
    }
    return made | ({"content": content} if content else {})


def _again(route: _Route) -> dict[str, Any]:
    given = {f"path.{name}": f"$request.path.{name}" for name in route.arguments}
    return {
        "operationId": route.id,
        "description": "Asked for again with its ETag, it is not sent twice.",
        "parameters": given | {"header.If-None-Match": "$response.header.ETag"},
    }


def _parameters(route: _Route) -> Iterable[dict[str, Any]]:
    yield {"$ref": "#/components/parameters/RequestId"}
    for name, values in route.arguments.items():
        schema = {"type": "string"} | ({"enum": values} if values else {})
        yield {"name": name, "in": "path", "required": True, "schema": schema}
    if route.declared.tagged:
        yield {"name": "If-None-Match", "in": "header", "schema": {"type": "string"}}
