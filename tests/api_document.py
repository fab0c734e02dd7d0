"""Checks every response that a test receives against the service's OpenAPI document."""

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
REQUIRED_HEADERS = {"Accept-Post", "WWW-Authenticate", "ETag", "Vary"}
"""Headers that a response must carry where the document lists them."""
DOCUMENTS: WeakKeyDictionary[Flask, tuple[Any, ApiDocument]] = WeakKeyDictionary()
"""The document that each app served last, as it was served and as it is checked against."""


class ApiDocument:
    """An OpenAPI document and the responses that it allows."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.version = document["info"]["version"]
        self._validator = cache(self._compile)

    @cached_property
    def _path_patterns(self) -> dict[str, re.Pattern[str]]:
        return {path: re.compile(re.sub(r"{\w+}", ".*", path)) for path in self.document["paths"]}

    @cached_property
    def _request_id_pattern(self) -> re.Pattern[str]:
        return re.compile(
            self.document["components"]["headers"]["X-Request-ID"]["schema"]["pattern"]
        )

    def check(
        self, method: str, path: str, status: int, headers: Mapping[str, str], body: bytes
    ) -> None:
        """Fail unless the document describes this response and its body."""
        summary = f"{method} {path[:80]}: {status}"
        assert self._request_id_pattern.fullmatch(headers.get("X-Request-ID", "")), summary
        media_type = headers.get("Content-Type", "").partition(";")[0]
        template = next((t for t, rule in self._path_patterns.items() if rule.fullmatch(path)), "")
        path_item = self.document["paths"].get(template, {})
        operation = path_item.get("get" if method == "HEAD" else method.lower())
        if operation is None:
            self._check_without_operation(method, status, headers, bool(path_item), summary)
            content = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        else:
            response = self._resolve(operation["responses"].get(str(status)))
            assert response, f"{summary} is not described"
            content = response.get("content", {})
            assert not set(response["headers"]) & REQUIRED_HEADERS - set(headers), summary
        if body and method != "HEAD":
            assert media_type in content, f"{summary} with {media_type} is not described"
            if media_type.endswith("json"):
                self._check_json(template, content[media_type]["schema"], json.loads(body), status)

    def _check_without_operation(
        self, method: str, status: int, headers: Mapping[str, str], path_exists: bool, summary: str
    ) -> None:
        """A request without an operation gets 404 or 405, or a refusal that any request can get."""
        if method == "OPTIONS" and status == 200:
            return
        shared = {int(name[-3:]) for name in self.document["components"]["responses"]}
        assert status in shared | {405 if path_exists else 404, 401, 503}, summary
        assert status != 405 or headers.get("Allow"), summary

    def _check_json(self, template: str, schema: Any, body: Any, status: int) -> None:
        if status >= 400:
            assert body["status"] == status
        if isinstance(body, dict) and body.get("model_version", self.version) != self.version:
            return  # Another model answered, and its document differs.
        if template != "/openapi.json":
            self._validator(json.dumps(schema)).validate(body)

    def _resolve(self, response: Any) -> Any:
        if response and "$ref" in response:
            return self.document["components"]["responses"][response["$ref"].rpartition("/")[2]]
        return response

    def _compile(self, schema: str) -> Any:
        return jsonschema_rs.validator_for(
            json.loads(schema) | {"components": {"schemas": self._closed_schemas}}
        )

    @cached_property
    def _closed_schemas(self) -> dict[str, Any]:
        """The document's schemas, allowing no property that they do not name."""
        return {
            name: {"additionalProperties": False} | schema if "properties" in schema else schema
            for name, schema in self.document["components"]["schemas"].items()
        }


class CheckedClient(FlaskClient):
    """Flask's test client, which also checks each response against the app's document."""

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        response = super().open(*args, **kwargs)
        if document := self._current_document():
            request = response.request
            path = request.environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")
            headers = dict(response.headers)
            body = self._json_body(response)
            document.check(request.method, path or "/", response.status_code, headers, body)
        return response

    def _json_body(self, response: TestResponse) -> bytes:
        """The body if it is JSON; other bodies are streams that the test reads itself."""
        readable = response.is_json and "Content-Encoding" not in response.headers
        return response.get_data() if readable else b""

    def _current_document(self) -> ApiDocument | None:
        """The document of what the app serves now; None where it serves no model."""
        app = self.application
        if "iris_documents" not in app.extensions:
            return None
        try:
            served = app.extensions["iris_documents"].current()
        except OperatorError:
            return None
        last = DOCUMENTS.get(app)
        if last is None or last[0] is not served:
            last = DOCUMENTS[app] = served, ApiDocument(json.loads(served.body))
        return last[1]
