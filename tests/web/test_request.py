from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from iris_api.web.request import TrustedProxies, record_queue_wait
from tests.conftest import FLOWER

if TYPE_CHECKING:
    from flask.testing import FlaskClient

PROXIES = TrustedProxies(("127.0.0.1", "10.0.0.0/8", "::1"))


@pytest.mark.parametrize("request_id", ["abc-123", "a" * 128, "trace/1:2+3=4@host_5.6"])
def test_a_valid_request_id_is_returned(client: FlaskClient, request_id: str) -> None:
    """The caller's own id stays the id of its request."""
    answer = client.get("/health", headers={"X-Request-ID": request_id})
    assert answer.headers["X-Request-ID"] == request_id


@pytest.mark.parametrize("request_id", ["", "a" * 129, "a b", "<script>", 'quote"', "é", "a,b"])
def test_an_invalid_request_id_is_replaced(client: FlaskClient, request_id: str) -> None:
    """An id that could harm a header or a log line is not repeated."""
    answer = client.get("/health", headers={"X-Request-ID": request_id})
    assert len(answer.headers["X-Request-ID"]) == 32
    assert answer.headers["X-Request-ID"] != request_id


@pytest.mark.parametrize("path", ["/", "/health", "/nowhere", "/predict", "/v1/model"])
def test_every_answer_has_an_id_of_its_own(client: FlaskClient, path: str) -> None:
    """Errors have one too."""
    ids = {client.get(path).headers["X-Request-ID"] for _ in range(5)}
    assert len(ids) == 5


@pytest.mark.parametrize(
    ("remote", "forwarded", "client"),
    [
        ("127.0.0.1", None, "127.0.0.1"),
        ("127.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "198.51.100.1, 203.0.113.9, 10.1.2.3", "203.0.113.9"),
        ("127.0.0.1", "203.0.113.9, nonsense", "127.0.0.1"),
        ("127.0.0.1", "nonsense, 203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "10.0.0.1,10.0.0.2", "10.0.0.1"),
        ("::1", "2001:db8::7", "2001:db8::7"),
        ("198.51.100.1", "203.0.113.9", "198.51.100.1"),
        ("", "203.0.113.9", "203.0.113.9"),
        ("", None, None),
    ],
)
def test_the_client_is_the_last_address_before_the_trusted_proxies(
    remote: str, forwarded: str | None, client: str | None
) -> None:
    """Nobody can claim the address of another client, and the search ends at an invalid address."""
    environ = {"REMOTE_ADDR": remote}
    if forwarded is not None:
        environ["HTTP_X_FORWARDED_FOR"] = forwarded
    assert PROXIES.client(environ) == client


def test_a_long_forwarding_header_is_read_only_from_its_end() -> None:
    """A hundred thousand invented hops cost nothing."""
    environ = {"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "1.2.3.4," * 100_000 + "5.6.7.8"}
    assert PROXIES.client(environ) == "5.6.7.8"


def test_a_wait_in_the_workers_queue_counts_for_its_thread(client: FlaskClient) -> None:
    """Without a proxy's timestamp, the wait that the worker recorded decides."""
    statuses: list[int] = []

    def answer() -> None:
        for seconds in (60.0, 0.0):
            record_queue_wait(seconds)
            statuses.append(client.post("/v1/predict", json=FLOWER).status_code)

    thread = threading.Thread(target=answer)
    thread.start()
    thread.join()
    assert statuses == [503, 200]
