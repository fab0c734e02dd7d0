"""Load by wrk: what a client measured, and the CPU of the server meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .contenders import KEY, Contender

SCRIPT = Path(__file__).parent / "post.lua"
LONGEST = 20
"""Seconds within which a server must have answered a request."""
IDLE_CPU = 0.02
"""Most CPU seconds that an idle server uses in a fifth of a second."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of load."""

    rows: int
    connections: int
    keep_alive: bool = True

    @property
    def label(self) -> str:
        """Its name in reports."""
        kept = "keep-alive" if self.keep_alive else "close"
        return f"{self.rows:,} row{'s' * (self.rows > 1)}, {self.connections} connections, {kept}"


@dataclass(frozen=True, slots=True)
class Sample:
    """One run: CPU per request of the server's process tree, and latencies in microseconds."""

    cpu_us: float
    per_second: float
    p50: float
    p99: float
    p999: float


def run(
    contender: Contender, scenario: Scenario, body: Path, *, seconds: int, pace_ms: float = 0
) -> Sample:
    """Load a running server.

    Args:
        contender: The server.
        scenario: Connections and rows.
        body: File with the body of the requests.
        seconds: Duration; four times as long if no request was answered in that time.
        pace_ms: Mean of an exponential pause before each request of a connection.

    Raises:
        RuntimeError: if any request failed, as refusing requests must not look fast.
    """
    before = contender.cpu_seconds()
    result, output = _wrk(contender, scenario, body, seconds=seconds, pace_ms=pace_ms)
    cpu = contender.cpu_seconds() - before
    settle(contender)
    if not (result["requests"] or result["failed"]) and seconds < LONGEST:
        return run(contender, scenario, body, seconds=4 * seconds, pace_ms=pace_ms)
    if result["failed"] or not result["requests"]:
        raise RuntimeError(f"{contender.name}, {scenario.label}: {output}")
    return Sample(
        cpu / result["requests"] * 1e6,
        result["requests"] / result["seconds"],
        result["p50"],
        result["p99"],
        result["p999"],
    )


def settle(contender: Contender) -> None:
    """Wait until a server is idle: unfinished requests would slow down the next server's run.

    Raises:
        RuntimeError: if it is still busy after a minute.
    """
    until = time.monotonic() + 60
    cpu = contender.cpu_seconds()
    while time.monotonic() < until:
        time.sleep(0.2)
        before, cpu = cpu, contender.cpu_seconds()
        if cpu - before <= IDLE_CPU:
            return
    raise RuntimeError(f"{contender.name} does not become idle")


def _wrk(
    contender: Contender, scenario: Scenario, body: Path, *, seconds: int, pace_ms: float
) -> tuple[dict[str, Any], str]:
    """The line of JSON that the wrk script prints, and all output."""
    environment = {
        "BODY": str(body),
        "KEY": KEY,
        "CLOSE": "" if scenario.keep_alive else "1",
        "PACE": str(pace_ms),
    }
    command = ["wrk", "-t1", f"-c{scenario.connections}", f"-d{seconds}s", "--timeout=30s"]
    done = subprocess.run(
        [*command, "-s", str(SCRIPT), f"http://127.0.0.1:{contender.port}/v1/predict"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stderr.strip().splitlines()[-1])
    return result, done.stderr + done.stdout
