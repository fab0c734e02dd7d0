from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from flask.testing import FlaskClient


@pytest.mark.parametrize("given", ["abc-123", "a" * 128, "trace/1:2+3=4@host_5.6"])
def test_a_sane_request_id_comes_back(client: FlaskClient, given: str) -> None:
    """The caller's own id follows its request through."""
    answer = client.get("/health", headers={"X-Request-ID": given})
    assert answer.headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", ["", "a" * 129, "a b", "<script>", 'quote"', "é", "a,b"])
def test_another_request_id_is_replaced(client: FlaskClient, given: str) -> None:
    """What could harm a header or a log line is not repeated."""
    answer = client.get("/health", headers={"X-Request-ID": given})
    assert len(answer.headers["X-Request-ID"]) == 32
    assert answer.headers["X-Request-ID"] != given


@pytest.mark.parametrize("path", ["/", "/health", "/nowhere", "/predict", "/v1/model"])
def test_every_answer_has_an_id_of_its_own(client: FlaskClient, path: str) -> None:
    """Errors too, and no two alike."""
    ids = {client.get(path).headers["X-Request-ID"] for _ in range(5)}
    assert len(ids) == 5
