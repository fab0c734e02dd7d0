"""What a server checks before it listens, and prints once it does."""

from __future__ import annotations

import gc
import json
import shlex
import socket
import sys
from typing import TYPE_CHECKING, Any

from iris_api.settings import listener_is_inherited

if TYPE_CHECKING:
    from iris_api.settings import Settings
    from iris_api.web.service import Service


def check_options(cfg: Any) -> None:
    """Exit with one sentence if Gunicorn is told to speak anything but plain HTTP/1.1."""
    if cfg.is_ssl:
        sys.exit("iris-api: TLS is nginx's: see deploy/nginx-tls.conf")
    if cfg.protocol != "http" or cfg.http2_cleartext != "off":
        sys.exit("iris-api: only HTTP/1.1 is spoken here: leave --protocol and --http2-cleartext")


def check_addresses(addresses: list[Any], settings: Settings) -> None:
    """Exit with one sentence if an address can't be listened on.

    Gunicorn would try a taken port for five seconds.
    """
    if listener_is_inherited():
        return
    for address in addresses:
        if address != (settings.host, settings.port):
            # The directory of counters is named after the address in the settings.
            sys.exit("iris-api: set IRIS_HOST and PORT instead of --bind")
        _check_free(address)


def freeze_garbage() -> None:
    """Exclude existing objects from collection, which would copy memory that workers share."""
    gc.collect()
    gc.freeze()
    # A batch of 1,000 rows makes 3,000 dictionaries at once: the default of 700 scans them thrice.
    gc.set_threshold(20_000, 10, 10)


def local_address(listener: object) -> str:
    """URL of a listener, for a client on this machine."""
    return str(listener).replace("//0.0.0.0", "//127.0.0.1").replace("[::]", "[::1]")


def print_example(service: Service, address: str) -> None:
    """Print a curl command to standard error. The log on standard output never holds a key."""
    key = service.keys.own_key
    if not service.keys.names:
        _print("No API key is stored yet: `flask --app wsgi keys add NAME` makes one.")
    if key:
        _print("No API key is configured: this one is good for this run only.")
    if service.keys.names and not key:
        _print("KEY is one that `flask --app wsgi keys add NAME` has printed:")
    header = f"'X-API-Key: {key}'" if key else '"X-API-Key: $KEY"'
    example = json.dumps(service.model.manifest.contract.example)
    _print(
        f"curl {address}/v1/predict -H {header} "
        f"-H 'Content-Type: application/json' -d {shlex.quote(example)}"
    )


def _print(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _check_free(address: tuple[str, int]) -> None:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            where = f"{address[0]}:{address[1]}"
            remedy = "free it, or set PORT and IRIS_HOST"
            sys.exit(f"iris-api: can't listen on {where} ({error.strerror}): {remedy}")
