"""Answers held against the OpenAPI document: whatever a test sees has to be in it."""

from __future__ import annotations

import json
import re
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import jsonschema_rs
from flask.testing import FlaskClient

from iris_api.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flask import Flask
    from werkzeug.test import TestResponse

PROBLEM = "application/problem+json"
DOCUMENTS: WeakKeyDictionary[Flask, tuple[Any, Described]] = WeakKeyDictionary()
"""Of each app, what it served last."""


class Described:
    """A document, and what it says of an answer."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.version = document["info"]["version"]
        self._validator = cache(self._compiled)

    @cached_property
    def _patterns(self) -> dict[str, re.Pattern[str]]:
        return {path: re.compile(re.sub(r"{\w+}", ".*", path)) for path in self.document["paths"]}

    @cached_property
    def _sane(self) -> re.Pattern[str]:
        return re.compile(
            self.document["components"]["headers"]["X-Request-ID"]["schema"]["pattern"]
        )

    def check(
        self, method: str, path: str, status: int, headers: Mapping[str, str], body: bytes
    ) -> None:
        """Fail unless this answer is described, and its body is what the description says."""
        told = f"{method} {path[:80]}: {status}"
        assert self._sane.fullmatch(headers.get("X-Request-ID", "")), told
        media_type = headers.get("Content-Type", "").partition(";")[0]
        template = next((t for t, rule in self._patterns.items() if rule.fullmatch(path)), None)
        item = self.document["paths"].get(template, {})
        operation = item.get("get" if method == "HEAD" else method.lower())
        if operation is None:
            self._check_undescribed(method, status, headers, known=bool(item), told=told)
            content = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        else:
            response = self._resolved(operation["responses"].get(str(status)))
            assert response, f"{told} is not described"
            content = response.get("content", {})
            wanted = set(response["headers"]) & {"Accept-Post", "WWW-Authenticate", "ETag", "Vary"}
            assert not wanted - set(headers), told
        if body and method != "HEAD":
            assert media_type in content, f"{told} with {media_type} is not described"
            if media_type.endswith("json"):
                self._check_json(template, content[media_type]["schema"], json.loads(body), status)

    def _check_undescribed(
        self, method: str, status: int, headers: Mapping[str, str], *, known: bool, told: str
    ) -> None:
        """No route, or none for this method: which is said as HTTP says it."""
        if method == "OPTIONS" and status == 200:
            return
        anywhere = {int(name[-3:]) for name in self.document["components"]["responses"]}
        assert status in anywhere | {405 if known else 404, 401, 503}, told
        assert status != 405 or headers.get("Allow"), told

    def _check_json(self, path: str | None, schema: Any, body: Any, status: int) -> None:
        if status >= 400:
            assert body["status"] == status
        if isinstance(body, dict) and body.get("model_version", self.version) != self.version:
            return  # Another model's, whose document says other things of it.
        if path != "/openapi.json":
            self._validator(json.dumps(schema)).validate(body)

    def _resolved(self, response: Any) -> Any:
        if response and "$ref" in response:
            return self.document["components"]["responses"][response["$ref"].rpartition("/")[2]]
        return response

    def _compiled(self, schema: str) -> Any:
        return jsonschema_rs.validator_for(
            json.loads(schema) | {"components": {"schemas": self._closed}}
        )

    @cached_property
    def _closed(self) -> dict[str, Any]:
        """Its schemas, with nothing allowed that they do not name."""
        return {
            name: {"additionalProperties": False} | schema if "properties" in schema else schema
            for name, schema in self.document["components"]["schemas"].items()
        }


class CheckedClient(FlaskClient):
    """Flask's test client, but each answer of the service has to be described."""

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        response = super().open(*args, **kwargs)
        if described := self._described():
            sent = response.request
            path = sent.environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")
            headers = dict(response.headers)
            described.check(
                sent.method, path or "/", response.status_code, headers, self._body(response)
            )
        return response

    def _body(self, response: TestResponse) -> bytes:
        """If it is JSON; files are left to be read by the test."""
        readable = response.is_json and "Content-Encoding" not in response.headers
        return response.get_data() if readable else b""

    def _described(self) -> Described | None:
        """The document of what the app serves now; without a model there is none."""
        app = self.application
        if "iris_documents" not in app.extensions:
            return None
        try:
            made = app.extensions["iris_documents"].current()
        except OperatorError:
            return None
        known = DOCUMENTS.get(app)
        if known is None or known[0] is not made:
            known = DOCUMENTS[app] = made, Described(json.loads(made.body))
        return known[1]
