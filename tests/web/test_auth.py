from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from iris_api.web.auth import is_public
from tests.conftest import FLOWER, Key

if TYPE_CHECKING:
    from flask import Flask
    from flask.testing import FlaskClient

DOCS_FILE = '/docs/<any("swagger-ui.css", "swagger-ui-bundle.js"):name>'
PUBLIC = {
    "/",
    "/docs",
    DOCS_FILE,
    "/drift",
    "/health",
    "/health/live",
    "/health/ready",
    "/openapi.json",
    "/static/<path:name>",
}


def test_every_route_is_guarded_or_on_the_public_list(app: Flask) -> None:
    """A new route requires a key unless it is marked as public."""
    requests = 0
    for rule in app.url_map.iter_rules():
        assert is_public(app, rule.endpoint) == (rule.rule in PUBLIC), rule
        for method in (rule.methods or set()) - {"OPTIONS"}:
            path = rule.rule.replace("<path:name>", "drift.js").replace(
                DOCS_FILE, "/docs/swagger-ui.css"
            )
            answer = app.test_client().open(path, method=method)
            assert (answer.status_code == 401) == (rule.rule not in PUBLIC), (method, rule)
            answer.close()
            requests += 1
    assert requests > len(PUBLIC)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": ""},
        {"X-API-Key": "wrong"},
        {"X-API-Key": "é"},
        {"X-API-Key": "x" * 10_000},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic c2hvcDprZXk="},
        {"Authorization": "nonsense"},
        {"Authorization": "Basic \xff"},
        {"Authorization": "Bearer \xff"},
        {"Authorization": "Digest \xff=\xff"},
        {"Authorization": ""},
    ],
)
def test_a_request_without_a_valid_key_is_refused(
    stranger: FlaskClient, headers: dict[str, str]
) -> None:
    """The problem is a 401 that names both ways to send a key."""
    answer = stranger.post("/v1/predict", json=FLOWER, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="iris-api"'
    assert answer.json
    assert "X-API-Key" in answer.json["detail"]


def test_a_key_is_accepted_in_either_header(stranger: FlaskClient, key: Key) -> None:
    """X-API-Key and a bearer token are equivalent, and the scheme is case-insensitive."""
    bearer = ({"Authorization": f"{scheme} {key.secret}"} for scheme in ("Bearer", "bearer"))
    for headers in (*bearer, key.headers):
        assert stranger.post("/v1/predict", json=FLOWER, headers=headers).status_code == 200


def test_the_key_is_checked_before_the_body(stranger: FlaskClient) -> None:
    """Without a key, an invalid body is a 401."""
    answer = stranger.post("/v1/predict", data=b"nonsense")
    assert answer.status_code == 401


def test_a_wrong_path_or_method_needs_no_key(stranger: FlaskClient) -> None:
    """It is a 404 or a 405 for everyone."""
    assert stranger.get("/nowhere").status_code == 404
    assert stranger.delete("/v1/predict").status_code == 405


def status_after(client: FlaskClient, start: str, path: str = "/v1/predict") -> int:
    """Status of the answer to a request that a proxy received at `start`."""
    headers = {"X-Request-Start": start}
    if path == "/v1/predict":
        return client.post(path, json=FLOWER, headers=headers).status_code
    return client.get(path, headers=headers).status_code


@pytest.mark.parametrize(("seconds", "status"), [(0.1, 200), (1.5, 503), (-100, 200)])
def test_a_request_that_waited_too_long_is_refused(
    client: FlaskClient, seconds: float, status: int
) -> None:
    """The proxy's timestamp is older than IRIS_MAX_QUEUE_MS."""
    assert status_after(client, f"t={time.time() - seconds:.3f}") == status


def test_only_the_timestamp_of_a_trusted_proxy_counts(client: FlaskClient) -> None:
    """Any other client could have its requests refused, and raise alarms."""
    client.environ_base["REMOTE_ADDR"] = "192.0.2.1"
    assert status_after(client, "t=1.000") == 200


def test_a_refusal_for_overload_says_when_to_try_again(client: FlaskClient) -> None:
    """It is a problem with Retry-After."""
    answer = client.post("/v1/predict", json=FLOWER, headers={"X-Request-Start": "t=1.000"})
    assert answer.headers["Retry-After"] == "1"
    assert answer.json
    assert answer.json["type"] == "urn:iris-api:problem:overloaded"


@pytest.mark.parametrize("start", ["", "1.000", "t=x", "t=1", "t=1.000 ", "t=" + "9" * 99 + ".000"])
def test_a_timestamp_in_another_format_is_ignored(client: FlaskClient, start: str) -> None:
    """Only the format that nginx writes is read."""
    assert status_after(client, start) == 200


@pytest.mark.parametrize("path", ["/health", "/health/live", "/"])
def test_a_probe_is_never_refused_for_its_age(client: FlaskClient, path: str) -> None:
    """An overloaded service is still alive and ready."""
    assert status_after(client, "t=1.000", path) == 200
