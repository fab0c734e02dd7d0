from __future__ import annotations

import pytest

from iris_api.web.request import TrustedProxies

PROXIES = TrustedProxies(("127.0.0.1", "10.0.0.0/8", "::1"))


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
def test_the_client_is_the_first_address_before_the_trusted_ones(
    remote: str, forwarded: str | None, client: str | None
) -> None:
    """Nobody can take on another's address, and what is no address ends the search."""
    environ = {"REMOTE_ADDR": remote}
    if forwarded is not None:
        environ["HTTP_X_FORWARDED_FOR"] = forwarded
    assert PROXIES.client(environ) == client


def test_a_long_header_is_read_no_further_than_it_is_trusted() -> None:
    """A hundred thousand made-up hops cost nothing."""
    environ = {"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "1.2.3.4," * 100_000 + "5.6.7.8"}
    assert PROXIES.client(environ) == "5.6.7.8"
