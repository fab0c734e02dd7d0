"""Closed-loop clients: each sends its next request as soon as it has an answer.

`python -m tests.system.closed_loop HOST PORT KEY CLIENTS PAUSE` runs until its stdin ends. Each
client keeps one connection and waits PAUSE seconds after a refusal. The clients share one event
loop in a process of their own: threads would wait for each other, and the test would measure that.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter

from tests.constants import FLOWER

BODY = json.dumps(FLOWER).encode()
PATIENCE = 20.0
"""Seconds until a missing response is an error."""


class ClosedLoop:
    """The clients and their results: seconds of each accepted and refused request, and errors."""

    def __init__(self, host: str, port: int, key: str, pause: float) -> None:
        self.accepted: list[float] = []
        self.refused: list[float] = []
        self.errors: Counter[str] = Counter()
        self._host, self._port, self._pause = host, port, pause
        self._request = (
            f"POST /v1/predict HTTP/1.1\r\nHost: {host}:{port}\r\nX-API-Key: {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
        ).encode() + BODY

    async def run(self, clients: int, end: asyncio.Event) -> None:
        """Send requests from this many clients until the end."""
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(self._client(end))

    async def _client(self, end: asyncio.Event) -> None:
        while not end.is_set():
            reader, writer = await asyncio.open_connection(self._host, self._port)
            try:
                while await self._exchange(reader, writer) and not end.is_set():
                    pass
            except (OSError, EOFError, TimeoutError, ValueError) as error:
                self.errors[repr(error)] += 1
            finally:
                writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Send one request; returns whether the connection stays open after its response."""
        began = time.monotonic()
        writer.write(self._request)
        async with asyncio.timeout(PATIENCE):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(head.partition("\r\ncontent-length: ")[2].partition("\r\n")[0])
            body = json.loads(await reader.readexactly(length))
        seconds = time.monotonic() - began
        status = head.split(" ", 2)[1]
        if status == "200" and body["prediction"] == "virginica":
            self.accepted.append(seconds)
        elif status == "503" and "\r\nretry-after: 1\r\n" in head and body["status"] == 503:
            self.refused.append(seconds)
            await asyncio.sleep(self._pause)
        else:
            self.errors[f"{head} {body}"] += 1
        return "\r\nconnection: close\r\n" not in head


async def main() -> None:
    host, port, key, clients, pause = sys.argv[1:]
    load, end = ClosedLoop(host, int(port), key, float(pause)), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), end.set)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await load.run(int(clients), end)
    json.dump([load.accepted, load.refused, load.errors], sys.stdout)


asyncio.run(main())
