from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
from gunicorn.config import Config
from gunicorn.http.parser import RequestParser

from iris_api.server.connection import ClientSocket
from iris_api.server.parser import ConnectionParser

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"
CHUNKED = HEAD.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked")
SECURE = HEAD[:-2] + b"X-Forwarded-Proto: https\r\n\r\n"


@pytest.fixture
def config() -> Config:
    """Gunicorn's configuration, with trusted proxies."""
    config = Config()
    config.set("forwarded_allow_ips", "10.0.0.1,10.1.0.0/16")
    return config


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, ClientSocket]]:
    """Both ends of a connection. The server's waits for half a second."""
    client, accepted = socket.socketpair()
    server = ClientSocket(accepted)
    server.buffer_writes(read_timeout=0.5)
    with client, server:
        yield client, server


def parser_of(config: Config, server: socket.socket, peer: Any = ("127.0.0.1", 1)) -> Any:
    return ConnectionParser(config, server, peer, skip_timeout=0.05)


def test_a_body_that_was_read_is_not_read_again(
    config: Config, ends: tuple[socket.socket, ClientSocket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gunicorn's own search for its end is skipped, and the next request follows."""
    client, server = ends
    parser = parser_of(config, server)
    client.sendall((HEAD + b"first") + (HEAD + b"other"))
    assert next(parser).body.read(5) == b"first"
    monkeypatch.setattr(RequestParser, "finish_body", None)
    assert parser.finish_body() is True
    assert next(parser).body.read(5) == b"other"


@pytest.mark.parametrize(("sent", "ended"), [(b"first", True), (b"fir", False)])
@pytest.mark.parametrize("waits", [True, False])
def test_the_rest_of_a_body_is_discarded_if_it_comes(
    config: Config,
    ends: tuple[socket.socket, ClientSocket],
    sent: bytes,
    *,
    ended: bool,
    waits: bool,
) -> None:
    """Otherwise no request can follow, whether reads may wait for it or not."""
    client, server = ends
    parser = parser_of(config, server)
    client.sendall(HEAD + sent)
    next(parser)
    if not waits:
        server.setblocking(False)
    assert (parser.finish_body() and not server.broken) is ended


def test_no_request_follows_a_broken_body(
    config: Config, ends: tuple[socket.socket, ClientSocket]
) -> None:
    """It is not known where the next one begins."""
    client, server = ends
    parser = parser_of(config, server)
    client.sendall(CHUNKED + b"zz\r\n")
    body = next(parser).body
    with pytest.raises(Exception, match="Invalid chunk size"):
        body.read(5)
    assert parser.finish_body() is False
    client.sendall(HEAD)
    with pytest.raises(StopIteration):
        next(parser)


def test_a_body_that_turns_out_broken_is_not_an_error(
    config: Config, ends: tuple[socket.socket, ClientSocket]
) -> None:
    """The request has its response: Gunicorn would send a second one."""
    client, server = ends
    parser = parser_of(config, server)
    client.sendall(CHUNKED + b"zz\r\n")
    next(parser)
    assert parser.finish_body() is False


def test_the_end_of_a_chunked_body_is_looked_for(
    config: Config, ends: tuple[socket.socket, ClientSocket]
) -> None:
    """Its length is not known in advance."""
    client, server = ends
    parser = parser_of(config, server)
    client.sendall(CHUNKED + b"2\r\nab\r\n0\r\n\r\n")
    next(parser)
    assert parser.finish_body() is True
    client.sendall(CHUNKED + b"2\r\nab\r\n")
    next(parser)
    client.close()
    assert parser.finish_body() is False


@pytest.mark.parametrize(
    ("peer", "scheme"),
    [
        (("10.0.0.1", 1), "https"),
        (("10.1.2.3", 1), "https"),
        (("10.2.0.1", 1), "http"),
        (("::1", 1), "http"),
        ("", "https"),
    ],
)
def test_only_a_trusted_proxy_sets_the_scheme(
    config: Config, ends: tuple[socket.socket, ClientSocket], peer: Any, scheme: str
) -> None:
    """The rule is Gunicorn's own; a Unix socket's peer, without an address, is trusted."""
    client, server = ends
    for parser in (parser_of(config, server, peer), RequestParser(config, server, peer)):
        client.sendall(SECURE + b"first")
        assert next(parser).scheme == scheme


def test_an_address_is_parsed_once(
    config: Config, ends: tuple[socket.socket, ClientSocket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many requests come from it."""
    client, server = ends
    parser = parser_of(config, server, ("10.0.0.1", 1))
    client.sendall((SECURE + b"first") * 2)
    assert next(parser).scheme == "https"
    monkeypatch.setattr("ipaddress.ip_address", None)
    assert next(parser).scheme == "https"
