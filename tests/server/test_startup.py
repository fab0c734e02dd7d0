from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest

from iris_api.server.startup import check_addresses, check_options, local_address
from iris_api.settings import Settings

OPTIONS = {"is_ssl": False, "protocol": "http", "http2_cleartext": "off"}


@pytest.fixture
def taken() -> Any:
    """An address that another process listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()


def test_a_taken_port_ends_the_start(taken: Any) -> None:
    """The message says why, and what to do."""
    with pytest.raises(SystemExit, match="Address already in use"):
        check_addresses([taken], Settings(port=taken[1]))


def test_an_inherited_listener_is_not_checked(taken: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its port is taken by the server that this one replaces."""
    monkeypatch.setenv("LISTEN_FDS", "1")
    check_addresses([taken], Settings(port=taken[1]))


def test_a_free_port_is_accepted() -> None:
    """Port 0 is always free."""
    check_addresses([("127.0.0.1", 0)], Settings(port=0))


@pytest.mark.parametrize("address", [("192.0.2.1", 8000), ("127.0.0.1", 8001), "/unix.sock"])
def test_another_address_than_the_settings_ends_the_start(address: Any) -> None:
    """Two servers with the same address in their settings would mix their counters."""
    with pytest.raises(SystemExit, match="set IRIS_HOST and PORT instead of --bind"):
        check_addresses([address], Settings())


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("is_ssl", True, "TLS is nginx's"),
        ("protocol", "uwsgi", "leave --protocol"),
        ("http2_cleartext", "prior-knowledge", "leave --protocol"),
    ],
)
def test_other_protocols_end_the_start(option: str, value: Any, message: str) -> None:
    """The worker reads plain HTTP/1.1 only."""
    check_options(SimpleNamespace(**OPTIONS))
    with pytest.raises(SystemExit, match=message):
        check_options(SimpleNamespace(**OPTIONS | {option: value}))


@pytest.mark.parametrize(
    ("listener", "address"),
    [
        ("http://0.0.0.0:8000", "http://127.0.0.1:8000"),
        ("http://[::]:8000", "http://[::1]:8000"),
        ("http://192.0.2.1:80", "http://192.0.2.1:80"),
    ],
)
def test_the_printed_address_can_be_called(listener: str, address: str) -> None:
    """A wildcard is no address to connect to."""
    assert local_address(listener) == address
