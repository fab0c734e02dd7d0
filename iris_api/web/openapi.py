"""The OpenAPI document, built from the URL map, the views' declarations and the served model."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from iris_api.dialects.native import MEDIA_TYPE
from iris_api.errors import ContractError

from . import auth, problems, request, schemas
from .operations import routes_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flask import Flask

    from iris_api.bundle.model import Model
    from iris_api.errors import IrisError

    from .operations import Operation, Route

DESCRIPTION = """\
Predictions of the model `{name}`, version `{version}`, for one row or for many.

Send an API key as the header `{header}`, or as a bearer token. A request may have {rows:,} rows
and {max_bytes:,} bytes. Every refusal is a problem document (RFC 9457) with the id that is in the
header `{request_id}`: yours, if you sent one."""
TAGS = {
    "Predictions": "What the model predicts for your rows.",
    "Model": "What is known of the model, and whether live rows look like its training rows.",
    "Operation": "For load balancers and Prometheus.",
    "Service": "The index and this document.",
    "Pages": "For people, in a browser.",
}
HEADERS = {
    "Retry-After": ("Seconds until it is worth trying again.", "integer"),
    "WWW-Authenticate": ("How to authenticate.", "string"),
    "Accept-Post": ("The media type to send.", "string"),
    "ETag": ("Changes with the content.", "string"),
    "Vary": ("The header of the request that the answer depends on.", "string"),
}
"""Headers of answers besides the request id."""
CONDITIONAL_HEADERS = ("ETag", "Vary")
ID_SCHEMA = {"type": "string", "pattern": f"^{request.VALID_ID.pattern}$"}
SENT_ID = {
    "description": "Your id for the request: it is in the answer and in the log. An id that does "
    "not fit the pattern is replaced.",
    "schema": ID_SCHEMA,
}
ANSWERED_ID = {
    "description": "Id of the request: yours, if you sent a valid one.",
    "schema": ID_SCHEMA,
}
EXAMPLE_ID = "7d4f9c0e5b1a48d2a6c3f0e9b8d7c6a5"
"""Request id of the example problems."""

ANY_ROUTE = {
    400: ("The request can't be read.", "Invalid HTTP Header: 'no colon here'"),
    408: ("The request did not arrive in time.", "The request did not arrive within 10 seconds."),
    413: (
        "The body is larger than the proxy accepts.",
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
        "limit request headers fields size",
    ),
    500: ("The service failed, and the request is not to blame.", problems.INTERNAL),
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
"""Refusals in front of every view, by the server or a proxy: description and example by status."""
PLAIN = ANY_ROUTE | {404: ("There is nothing of this name.", problems.NOT_FOUND)}
"""Statuses whose problem has no type of its own."""


def document(app: Flask, model: Model, *, max_bytes: int) -> dict[str, Any]:
    """The OpenAPI document of an application that serves a model.

    Args:
        app: The application, with all its routes.
        model: The served model.
        max_bytes: Largest request body.
    """
    routes = sorted(routes_of(app), key=attrgetter("is_alias", "path"))
    types = [kind for route in routes for kind in route.declared.answers]
    types += [problems.Problem, problems.ContractProblem]
    bodies, by_type, named = schemas.schemas(model, types)
    sent = schemas.request_examples(model)
    answers = schemas.answer_examples(model, sent)
    errors = schemas.error_examples(model, max_bytes)
    writer = _Writer(by_type, answers, errors, _request_body(bodies, sent, max_bytes))
    return {
        "openapi": "3.1.1",
        "info": _info(model, max_bytes),
        "tags": [{"name": tag, "description": text} for tag, text in TAGS.items()],
        "paths": {
            route.path: {
                method.lower(): writer.operation(route, method) for method in route.methods
            }
            for route in routes
        },
        "components": {"schemas": named, **_components(writer)},
    }


def _info(model: Model, max_bytes: int) -> dict[str, Any]:
    name = model.manifest.name
    description = DESCRIPTION.format(
        name=name,
        version=model.version,
        header=auth.HEADER,
        rows=model.schema.max_rows,
        max_bytes=max_bytes,
        request_id=request.HEADER,
    )
    return {
        "title": f"Iris API: {name}",
        "version": model.version,
        "description": description,
        "license": {"name": "MIT", "identifier": "MIT"},
    }


def _components(writer: _Writer) -> dict[str, Any]:
    headers = {
        name: {"description": text, "schema": {"type": kind}}
        for name, (text, kind) in HEADERS.items()
    }
    return {
        "responses": {_shared_name(status): writer.refusal(status) for status in ANY_ROUTE},
        "parameters": {"RequestId": {"name": request.HEADER, "in": "header"} | SENT_ID},
        "headers": headers | {request.HEADER: ANSWERED_ID},
        "securitySchemes": {
            "key": {"type": "apiKey", "in": "header", "name": auth.HEADER},
            "bearer": {"type": "http", "scheme": "bearer"},
        },
    }


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes the operations of one document."""

    schemas: dict[Any, Any]
    answers: dict[Any, Any]
    errors: dict[type[IrisError], IrisError]
    body: dict[str, Any]

    def operation(self, route: Route, method: str) -> dict[str, Any]:
        """One method of one route."""
        fields: dict[str, Any] = {
            "operationId": route.id,
            "summary": route.summary,
            "tags": [route.declared.tag],
            "security": [] if route.public else [{"key": []}, {"bearer": []}],
            "parameters": list(_parameters(route)),
            "responses": self._responses(route),
        }
        return fields | ({"requestBody": self.body} if method == "POST" else {})

    def _responses(self, route: Route) -> dict[str, Any]:
        responses = {"200": self._success(route.declared)}
        if route.declared.conditional:
            responses["304"] = _response("The client has it already.", CONDITIONAL_HEADERS)
            responses["200"]["links"] = {"unchanged": _revalidation(route)}
        raised: dict[int, list[type[IrisError]]] = defaultdict(list)
        for error in (*route.declared.raises, *(() if route.public else auth.RAISES)):
            raised[error.status].append(error)
        for status in sorted({*raised, *ANY_ROUTE, *([404] if route.parameters else [])}):
            is_shared = status in ANY_ROUTE and status not in raised
            responses[str(status)] = (
                {"$ref": f"#/components/responses/{_shared_name(status)}"}
                if is_shared
                else self.refusal(status, *raised[status])
            )
        return responses

    def _success(self, declared: Operation) -> dict[str, Any]:
        content: dict[str, Any] = {}
        kinds = [self.schemas[kind] for kind in declared.answers]
        if kinds:
            content[MEDIA_TYPE] = {"schema": {"oneOf": kinds} if len(kinds) > 1 else kinds[0]}
        if examples := [kind for kind in declared.answers if kind in self.answers]:
            content[MEDIA_TYPE]["examples"] = {
                kind.__name__: {"value": self.answers[kind]} for kind in examples
            }
        content |= {kind: {"schema": {"type": "string"}} for kind in declared.text}
        return _response("As asked.", CONDITIONAL_HEADERS if declared.conditional else (), content)

    def refusal(self, status: int, *raised: type[IrisError]) -> dict[str, Any]:
        """The answer with a status, which these errors and the server give."""
        texts = [(error.__doc__ or "").partition("\n")[0] for error in raised]
        examples = [
            problems.problem_of(self.errors.get(error) or error(), EXAMPLE_ID) for error in raised
        ]
        if status in PLAIN:
            text, detail = PLAIN[status]
            texts.append(text)
            examples.append(problems.problem(status, detail, EXAMPLE_ID))
        kind = problems.ContractProblem if ContractError in raised else problems.Problem
        content = {
            # A client generator reads the reference, a validator both.
            "schema": self.schemas[kind]
            | {"properties": {"type": {"enum": [example["type"] for example in examples]}}},
            "examples": {_example_name(example): {"value": example} for example in examples},
        }
        headers = {name for error in raised for name in error.headers}
        headers |= {"Retry-After"} if status in {429, 503} else set()
        return _response(" ".join(texts), sorted(headers), {problems.MEDIA_TYPE: content})


def _example_name(problem: problems.Problem) -> str:
    """The slug of a problem's type, or else its title."""
    slug = problem["type"].removeprefix(problems.TYPE_PREFIX)
    return slug if slug != problem["type"] else problem["title"].lower().replace(" ", "-")


def _request_body(bodies: list[Any], sent: list[Any], max_bytes: int) -> dict[str, Any]:
    single, batch = sent
    examples = {"row": {"value": single}, "batch": {"value": batch}}
    return {
        "required": True,
        "description": f"At most {max_bytes:,} bytes.",
        "x-max-bytes": max_bytes,
        "content": {MEDIA_TYPE: {"schema": {"oneOf": bodies}, "examples": examples}},
    }


def _shared_name(status: int) -> str:
    return f"Refused{status}"


def _response(
    text: str, headers: Iterable[str], content: dict[str, Any] | None = None
) -> dict[str, Any]:
    names = (request.HEADER, *headers)
    response: dict[str, Any] = {
        "description": text,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
    }
    return response | ({"content": content} if content else {})


def _revalidation(route: Route) -> dict[str, Any]:
    parameters = {f"path.{name}": f"$request.path.{name}" for name in route.parameters}
    return {
        "operationId": route.id,
        "description": "A request with the ETag of an unchanged answer gets a 304.",
        "parameters": parameters | {"header.If-None-Match": "$response.header.ETag"},
    }


def _parameters(route: Route) -> Iterable[dict[str, Any]]:
    yield {"$ref": "#/components/parameters/RequestId"}
    for name, values in route.parameters.items():
        schema = {"type": "string"} | ({"enum": values} if values else {})
        yield {"name": name, "in": "path", "required": True, "schema": schema}
    if route.declared.conditional:
        yield {"name": "If-None-Match", "in": "header", "schema": {"type": "string"}}
