"""Gunicorn's request parser, without repeating per request what is known of the connection."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from gunicorn.http.body import LengthReader
from gunicorn.http.errors import NoMoreData, ParseException
from gunicorn.http.message import HeaderPolicy, Request
from gunicorn.http.parser import RequestParser

MAX_SKIPPED_BYTES = 2 * 1024 * 1024
"""Most bytes of an unread request body to discard so that its connection can be kept."""


class KnownPeerRequest(Request):  # type: ignore[misc]
    """A request that parses its peer's address once per address, not once per request."""

    def _peer_is_trusted_proxy(self) -> bool:
        if not isinstance(self.peer_addr, tuple):
            return True
        return _is_trusted(self.cfg, self.peer_addr[0])


class ConnectionParser(RequestParser):  # type: ignore[misc]
    """Parses the requests of one connection, and discards the rest of a body if it comes soon."""

    mesg_class = KnownPeerRequest

    def __init__(self, *arguments: Any, skip_timeout: float) -> None:
        super().__init__(*arguments)
        self._skip_timeout = skip_timeout

    def finish_body(self, *_: Any, **__: Any) -> bool:
        """Discard the unread rest of the last request's body, within our own limits.

        Returns:
            Whether the body ended, so that another request can follow.
        """
        body = self.mesg.body if self.mesg else None
        reader = body.reader if body and not body.failed else None
        if isinstance(reader, LengthReader) and reader.length == 0:
            return True
        if body:
            self.unreader.sock.renew_read_timeout(self._skip_timeout)
        try:
            return bool(super().finish_body(max_bytes=MAX_SKIPPED_BYTES))
        except (BlockingIOError, NoMoreData, ParseException):  # The request has its response.
            return False


@lru_cache(maxsize=1024)
def _is_trusted(cfg: Any, address: str) -> bool:
    """Whether forwarding headers of a peer are trusted, by Gunicorn's own rule."""
    policy = HeaderPolicy()
    policy.cfg, policy.peer_addr = cfg, (address,)
    return bool(policy._peer_is_trusted_proxy())
