from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.conftest import FLOWER

if TYPE_CHECKING:
    from flask.testing import FlaskClient


def asked(client: FlaskClient, started: str, path: str = "/v1/predict") -> int:
    headers = {"X-Request-Start": started}
    if path == "/v1/predict":
        return client.post(path, json=FLOWER, headers=headers).status_code
    return client.get(path, headers=headers).status_code


@pytest.mark.parametrize(("age", "status"), [(0.1, 200), (1.5, 503), (-100, 200)])
def test_a_request_that_waited_too_long_is_refused(
    client: FlaskClient, age: float, status: int
) -> None:
    """Older than IRIS_MAX_QUEUE_MS, as nginx wrote down its start."""
    assert asked(client, f"t={time.time() - age:.3f}") == status


def test_only_a_trusted_proxy_is_believed(client: FlaskClient) -> None:
    """Anyone else could have their requests refused, and alarms raised."""
    client.environ_base["REMOTE_ADDR"] = "192.0.2.1"
    assert asked(client, "t=1.000") == 200


def test_a_refusal_says_when_to_come_back(client: FlaskClient) -> None:
    """As a problem, with Retry-After."""
    answer = client.post("/v1/predict", json=FLOWER, headers={"X-Request-Start": "t=1.000"})
    assert answer.headers["Retry-After"] == "1"
    assert answer.json
    assert answer.json["type"] == "urn:iris-api:problem:overloaded"


@pytest.mark.parametrize("given", ["", "1.000", "t=x", "t=1", "t=1.000 ", "t=" + "9" * 99 + ".000"])
def test_what_nginx_would_not_write_is_not_read(client: FlaskClient, given: str) -> None:
    """Nothing a client sends there breaks a request."""
    assert asked(client, given) == 200


@pytest.mark.parametrize("path", ["/health", "/health/live", "/"])
def test_a_probe_is_never_refused(client: FlaskClient, path: str) -> None:
    """An overloaded service is not a dead one."""
    assert asked(client, "t=1.000", path) == 200
