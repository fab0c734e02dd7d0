"""Whose address a request came from, through proxies that can be believed and no others."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Any


class TrustedProxies:
    """Reads X-Forwarded-For from its end, for as long as the hop before it is a trusted proxy.

    Args:
        networks: Addresses or networks of the proxies.
    """

    def __init__(self, networks: tuple[str, ...]) -> None:
        self._networks = [ip_network(network) for network in networks]
        self._trusts = lru_cache(maxsize=1024)(self._is_trusted)

    def client(self, environ: dict[str, Any]) -> str | None:
        """Address of the client; None on a socket that has none."""
        address: str | None = environ.get("REMOTE_ADDR") or None
        if "HTTP_X_FORWARDED_FOR" not in environ:
            return address
        hops = environ["HTTP_X_FORWARDED_FOR"].split(",")
        # Only what is on this machine can talk through a socket without an address.
        while hops and (address is None or self._trusts(address) is True):
            hop = hops.pop().strip()
            if self._trusts(hop) is None:
                break
            address = hop
        return address

    def sent(self, environ: dict[str, Any]) -> bool:
        """Whether the request came straight from a trusted proxy, so that its headers are true."""
        address = environ.get("REMOTE_ADDR") or None
        return address is None or self._trusts(address) is True

    def _is_trusted(self, text: str) -> bool | None:
        """Whether an address is a trusted proxy's; None if it is no address."""
        try:
            address = ip_address(text)
        except ValueError:
            return None
        if "%" in text:  # A scope id is any text at all.
            return None
        # An IPv4 client of a socket that takes both has an address such as ::ffff:192.0.2.1.
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._networks)
