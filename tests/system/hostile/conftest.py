"""Fixtures: the attacked server, directly and behind nginx."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from iris_api.web.keys import digest_of
from tests.system.conftest import wait_for

from .attacks import KEY
from .client import Route

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.system.conftest import Server


@pytest.fixture(scope="session")
def target(start: Callable[..., Server]) -> Iterator[Server]:
    """The server that is attacked. At the end no request and no connection is left in it."""
    server = replace(start(IRIS_API_KEYS=f"hostile:{digest_of(KEY)}"), key=KEY)
    yield server
    check_nothing_is_left(server)


def check_nothing_is_left(server: Server) -> None:
    """No request is in flight, no connection is open, and the server still predicts."""
    wait_for(lambda: server.metrics()["iris_requests_in_flight"] == 1, "end of the last request")
    wait_for(
        lambda: all(count_sockets(pid) <= 4 for pid in server.workers()),
        "end of the last connection",
    )
    assert server.predicts()


def count_sockets(pid: int) -> int:
    """Open sockets of a process."""
    count = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            count += descriptor.readlink().name.startswith("socket:")
    return count


@pytest.fixture(scope="session", params=["direct", "nginx"])
def route(request: pytest.FixtureRequest, target: Server) -> Route:
    """Each way to it."""
    if request.param == "direct":
        return Route(target, target.port)
    url: str = request.getfixturevalue("nginx")(target.port)
    return Route(target, int(url.rpartition(":")[2]))


@pytest.fixture(autouse=True)
def _nothing_broke(target: Server) -> Iterator[None]:
    """No attack causes an error of the service or costs a worker."""
    workers, log_size = target.workers(), target.log_size
    yield
    log_text = target.log_since(log_size)
    assert not re.search(r'Traceback|"level":"error"|"status":500|Error handling', log_text), (
        log_text
    )
    assert target.workers() == workers
