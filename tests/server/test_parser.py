from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
from gunicorn.config import Config
from gunicorn.http.parser import RequestParser

from iris_api.server.parser import ConnectionParser

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"
SECURE = HEAD[:-2] + b"X-Forwarded-Proto: https\r\n\r\n"


@pytest.fixture
def config() -> Config:
    """Gunicorn's own, with a proxy that is believed."""
    config = Config()
    config.set("forwarded_allow_ips", "10.0.0.1,10.1.0.0/16")
    return config


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client's end of a connection, and the server's, which waits a moment for it."""
    client, server = socket.socketpair()
    server.settimeout(0.2)
    with client, server:
        yield client, server


def test_a_body_that_was_read_is_not_read_again(
    config: Config, ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is Gunicorn asked for the rest: the next request is read at once."""
    client, server = ends
    parser = ConnectionParser(config, server, ("127.0.0.1", 1))
    client.sendall((HEAD + b"first") + (HEAD + b"other"))
    assert next(parser).body.read(5) == b"first"
    monkeypatch.setattr("gunicorn.http.parser.RequestParser.finish_body", None)
    assert parser.finish_body() is True
    assert next(parser).body.read(5) == b"other"


@pytest.mark.parametrize(("sent", "whole"), [(b"first", True), (b"fir", False)])
def test_what_is_left_of_a_body_is_read(
    config: Config, ends: tuple[socket.socket, socket.socket], sent: bytes, *, whole: bool
) -> None:
    """If it comes: else no request can follow."""
    client, server = ends
    parser = ConnectionParser(config, server, ("127.0.0.1", 1))
    client.sendall(HEAD + sent)
    next(parser)
    assert parser.finish_body() is whole


def test_after_a_body_that_broke_no_request_follows(
    config: Config, ends: tuple[socket.socket, socket.socket]
) -> None:
    """Where the next one would begin is not known."""
    client, server = ends
    parser = ConnectionParser(config, server, ("127.0.0.1", 1))
    client.sendall(HEAD + b"first")
    read = next(parser)
    read.body.read(5)
    read.body.failed = True
    assert parser.finish_body() is False
    client.sendall(HEAD)
    with pytest.raises(StopIteration):
        next(parser)


def test_of_a_chunked_body_the_end_is_looked_for(
    config: Config, ends: tuple[socket.socket, socket.socket]
) -> None:
    """Its length is not known before."""
    client, server = ends
    parser = ConnectionParser(config, server, ("127.0.0.1", 1))
    head = HEAD.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked")
    for end, whole in ((b"0\r\n\r\n", True), (b"", False)):
        client.sendall(head + b"2\r\nab\r\n" + end)
        next(parser)
        assert parser.finish_body() is whole


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
def test_only_proxies_that_are_believed_tell_the_scheme(
    config: Config, ends: tuple[socket.socket, socket.socket], peer: Any, scheme: str
) -> None:
    """By Gunicorn's rule: a socket without an address is this machine's."""
    client, server = ends
    for kind in (ConnectionParser, RequestParser):
        client.sendall(SECURE + b"first")
        assert next(kind(config, server, peer)).scheme == scheme


def test_an_address_is_looked_at_once(
    config: Config, ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many requests come from it."""
    client, server = ends
    parser = ConnectionParser(config, server, ("10.0.0.1", 1))
    client.sendall((SECURE + b"first") * 2)
    assert next(parser).scheme == "https"
    monkeypatch.setattr("gunicorn.http.message.ipaddress.ip_address", None)
    assert next(parser).scheme == "https"
