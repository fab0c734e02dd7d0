"""Gunicorn's parser of requests, which does not do again what it has done for the connection."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from gunicorn.http.body import LengthReader
from gunicorn.http.message import Request, _ip_in_allow_list
from gunicorn.http.parser import RequestParser


class KnownPeerRequest(Request):  # type: ignore[misc]
    """A request of a peer whose address is looked at once: it comes with every one of its heads."""

    def _peer_is_trusted_proxy(self) -> bool:
        if not isinstance(self.peer_addr, tuple):
            return True
        return _is_trusted(self.cfg, self.peer_addr[0])


class ConnectionParser(RequestParser):  # type: ignore[misc]
    """Reads what is left of a body only where something is."""

    mesg_class = KnownPeerRequest

    def finish_body(self, deadline: float | None = None, max_bytes: int | None = None) -> bool:
        """Whether all of the body was read, or can be; then another request may follow it."""
        body = self.mesg.body if self.mesg else None
        reader = body.reader if body and not body.failed else None
        if isinstance(reader, LengthReader) and reader.length == 0:
            return True
        return bool(super().finish_body(deadline, max_bytes))


@lru_cache(maxsize=1024)
def _is_trusted(cfg: Any, address: str) -> bool:
    """Whether a peer's forwarding headers are believed, by Gunicorn's rule."""
    found = _ip_in_allow_list(address, cfg.forwarded_allow_ips, cfg.forwarded_allow_networks())
    return bool(found)
