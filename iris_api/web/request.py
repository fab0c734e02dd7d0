"""A request and what is known of it: its id, its client, its wait in a queue, and its body."""

from __future__ import annotations

import re
from contextvars import ContextVar
from functools import lru_cache
from ipaddress import ip_address, ip_network
from random import getrandbits
from threading import local
from time import perf_counter, time
from typing import IO, TYPE_CHECKING, Any

from flask.globals import request_ctx
from werkzeug.exceptions import ClientDisconnected

from iris_api.dialects import native
from iris_api.errors import BodyTooLargeError, InvalidJSONError, MediaTypeError

if TYPE_CHECKING:
    from flask import Flask, Request, Response

    from iris_api.contract.tasks import Outcome
    from iris_api.monitoring.prediction_counts import PredictionCounter

    from .service import Service

HEADER = "X-Request-ID"
REQUEST_START = re.compile(r"t=(\d{1,12}\.\d{3})")
"""X-Request-Start as nginx writes it: `t=$msec`, Unix time in seconds."""
MAX_LENGTH_DIGITS = 20
VALID_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
"""A request id that is safe in a header and in a log line."""

_current: ContextVar[Exchange] = ContextVar("exchange")
_thread = local()


class Exchange:
    """One request and its answer. Its log line and its metrics are made from it."""

    __slots__ = (
        "caller",
        "counted",
        "counter",
        "id",
        "outcome",
        "queue_seconds",
        "refusal",
        "request",
        "service",
        "started",
        "wrong_key",
    )

    def __init__(self, request: Request, service: Service, queue_seconds: float) -> None:
        sent_id = request.environ.get("HTTP_X_REQUEST_ID", "")
        self.id = sent_id if VALID_ID.fullmatch(sent_id) else new_id()
        """The client's request id if it is valid, else a new one."""
        self.request = request
        self.service = service
        self.started = perf_counter()
        self.queue_seconds = queue_seconds
        """Seconds from the request's arrival, at the proxy if there is one, until now."""
        self.caller: str | None = None
        """Name of the API key."""
        self.wrong_key = False
        """Whether the request carries a key that is not known."""
        self.refusal: str | None = None
        """Slug of the problem, if the answer is one."""
        self.counted = False
        """Whether the metrics include this request."""
        self.outcome: Outcome | None = None
        """The predictions of this request."""
        self.counter: PredictionCounter | None = None
        """Counts the predictions of the version that made them."""

    @property
    def route(self) -> str | None:
        """The URL rule that matched."""
        rule = self.request.url_rule
        return rule.rule if rule else None

    @property
    def seconds(self) -> float:
        """Seconds since the request was taken from the queue."""
        return perf_counter() - self.started


class TrustedProxies:
    """Reads headers that only a trusted proxy may set.

    Args:
        networks: Addresses or networks of the proxies.
    """

    def __init__(self, networks: tuple[str, ...]) -> None:
        self._networks = [ip_network(network) for network in networks]
        self._trusts = lru_cache(maxsize=1024)(self._is_trusted)

    def client(self, environ: dict[str, Any]) -> str | None:
        """Address of the client; None for a unix socket.

        X-Forwarded-For is read from its end, as long as the hop before is a trusted proxy.
        """
        address: str | None = environ.get("REMOTE_ADDR") or None
        if "HTTP_X_FORWARDED_FOR" not in environ:
            return address
        hops = environ["HTTP_X_FORWARDED_FOR"].split(",")
        # Only a program on this machine can connect to a socket without an address.
        while hops and (address is None or self._trusts(address) is True):
            hop = hops.pop().strip()
            if self._trusts(hop) is None:
                break
            address = hop
        return address

    def is_sender(self, environ: dict[str, Any]) -> bool:
        """Whether a trusted proxy sent the request, so that its headers can be believed."""
        address = environ.get("REMOTE_ADDR") or None
        return address is None or self._trusts(address) is True

    def _is_trusted(self, text: str) -> bool | None:
        """Whether an address belongs to a trusted proxy; None if the text is no address."""
        try:
            address = ip_address(text)
        except ValueError:
            return None
        if "%" in text:  # A scope id may be any text.
            return None
        # A socket for both families sees an IPv4 client as ::ffff:192.0.2.1.
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._networks)


def init_app(app: Flask) -> None:
    """Begin an exchange before anything else, and send its id with the answer."""
    service: Service = app.extensions["iris_api"]
    proxies = TrustedProxies(service.settings.trusted_proxies)

    @app.before_request
    def begin() -> None:
        request = request_ctx.request
        _current.set(Exchange(request, service, _queue_seconds(request.environ, proxies)))

    app.after_request(_end)


def new_id() -> str:
    """A request id of 32 hexadecimal digits."""
    return f"{getrandbits(128):032x}"


def current() -> Exchange:
    """The exchange of this request."""
    return _current.get()


def record_queue_wait(seconds: float) -> None:
    """A worker calls this before it handles a request that was ready for so many seconds."""
    _thread.queue_seconds = seconds


def read_body(max_bytes: int) -> bytes:
    """Read the body of this request.

    Raises:
        MediaTypeError: if the body is not declared as plain JSON.
        BodyTooLargeError: if it has more than `max_bytes` bytes.
        InvalidJSONError: if the client stopped before the end of the body.
    """
    request = current().request
    environ = request.environ
    if environ.get("CONTENT_TYPE") != native.MEDIA_TYPE and request.mimetype != native.MEDIA_TYPE:
        raise MediaTypeError
    if "HTTP_CONTENT_ENCODING" in environ:
        raise MediaTypeError("Send the body as it is, without a Content-Encoding.")
    length = _declared_length(environ)
    if length is not None and length <= max_bytes:
        return _read(environ["wsgi.input"], length)
    if length is None:
        # Werkzeug truncates a chunked body at its limit without an error: one more byte tells.
        request.max_content_length = max_bytes + 1
        body = request.get_data(cache=False)
        if len(body) <= max_bytes:
            return body
    raise BodyTooLargeError(max_bytes)


def _declared_length(environ: dict[str, Any]) -> int | None:
    """Content-Length in bytes; None if the body has none, or is chunked."""
    length = environ.get("CONTENT_LENGTH", "")
    is_plain = length.isdecimal() and "HTTP_TRANSFER_ENCODING" not in environ
    # Python refuses to read more than 4,300 digits, and a body of 20 digits is too large as well.
    return int(length[:MAX_LENGTH_DIGITS]) if is_plain else None


def _read(stream: IO[bytes], length: int) -> bytes:
    """Read a body of a declared length."""
    try:
        body = stream.read(length)
    except OSError as error:
        raise ClientDisconnected from error
    if len(body) < length:
        raise InvalidJSONError(f"The body ended after {len(body)} of {length} bytes.")
    return body


def _queue_seconds(environ: dict[str, Any], proxies: TrustedProxies) -> float:
    """Seconds since a trusted proxy's timestamp, or else in the worker's own queue."""
    start = environ.get("HTTP_X_REQUEST_START")
    match = REQUEST_START.fullmatch(start) if start is not None else None
    if match and proxies.is_sender(environ):
        return max(time() - float(match[1]), 0.0)
    seconds: float = getattr(_thread, "queue_seconds", 0.0)
    return seconds


def _end(response: Response) -> Response:
    exchange = current()
    response.headers.add(HEADER, exchange.id)
    exchange.outcome = None  # Frees the rows before this thread's next request.
    return response
