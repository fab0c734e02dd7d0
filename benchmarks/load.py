"""Load by wrk: what a client saw, and what the server's processes used meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .contenders import KEY, Contender

if TYPE_CHECKING:
    from collections.abc import Mapping

SCRIPT = Path(__file__).parent / "post.lua"


LONGEST = 20
"""Seconds after which a server should have answered something."""
REST = 0.02
"""Seconds of CPU in a fifth of a second, at most."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of load."""

    rows: int
    connections: int
    keep_alive: bool = True

    @property
    def label(self) -> str:
        """How reports name it."""
        kept = "keep-alive" if self.keep_alive else "close"
        return f"{self.rows:,} row{'s' * (self.rows > 1)}, {self.connections} connections, {kept}"


def settle(contender: Contender) -> None:
    """Wait until a server rests: what it has yet to answer, to nobody, would slow the next down."""
    until = time.monotonic() + 60
    spent = contender.cpu_seconds()
    while time.monotonic() < until:
        time.sleep(0.2)
        before, spent = spent, contender.cpu_seconds()
        if spent - before <= REST:
            return
    raise RuntimeError(f"{contender.name} does not come to rest")


@dataclass(frozen=True, slots=True)
class Sample:
    """One run. CPU is of the server's whole process tree; latencies are in microseconds."""

    cpu_us: float
    per_second: float
    p50: float
    p99: float
    p999: float


def run(
    contender: Contender, scenario: Scenario, body: Path, *, seconds: int, pace_ms: float = 0
) -> Sample:
    """Load a server for some seconds.

    Args:
        contender: The server, running.
        scenario: Connections and rows.
        body: File with the request's body.
        seconds: How long.
        pace_ms: Mean of an exponential pause before each request of a connection.

    Raises:
        RuntimeError: if any request failed: a server that sheds load is not faster.
    """
    environment: Mapping[str, str] = {
        "BODY": str(body),
        "KEY": KEY,
        "CLOSE": "" if scenario.keep_alive else "1",
        "PACE": str(pace_ms),
    }
    command = ["wrk", "-t1", f"-c{scenario.connections}", f"-d{seconds}s", "--timeout=30s"]
    url = f"http://127.0.0.1:{contender.port}/v1/predict"
    before = contender.cpu_seconds()
    done = subprocess.run(
        [*command, "-s", str(SCRIPT), url],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    cpu = contender.cpu_seconds() - before
    settle(contender)
    seen = json.loads(done.stderr.strip().splitlines()[-1])
    if not (seen["requests"] or seen["failed"]) and seconds < LONGEST:
        return run(contender, scenario, body, seconds=4 * seconds, pace_ms=pace_ms)
    if seen["failed"] or not seen["requests"]:
        raise RuntimeError(f"{contender.name}, {scenario.label}: {done.stderr}{done.stdout}")
    return Sample(
        cpu / seen["requests"] * 1e6,
        seen["requests"] / seen["seconds"],
        seen["p50"],
        seen["p99"],
        seen["p999"],
    )
