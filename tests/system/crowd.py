"""Clients that ask again as soon as they are answered, in a process of their own.

python -m tests.system.crowd HOST PORT KEY CLIENTS PAUSE: until its input ends. Each client keeps
one connection; after a refusal it waits PAUSE seconds. One event loop for all of them: threads
would wait for one another, and that wait would be measured as the server's.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter

from tests.conftest import FLOWER

BODY = json.dumps(FLOWER).encode()
PATIENCE = 20.0


class Crowd:
    """What became of the requests: seconds of those taken and refused, and all that was wrong."""

    def __init__(self, host: str, port: int, key: str, pause: float) -> None:
        self.taken: list[float] = []
        self.refused: list[float] = []
        self.other: Counter[str] = Counter()
        self._host, self._port, self._pause = host, port, pause
        self._request = (
            f"POST /v1/predict HTTP/1.1\r\nHost: {host}:{port}\r\nX-API-Key: {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
        ).encode() + BODY

    async def gather(self, clients: int, end: asyncio.Event) -> None:
        """Ask with so many clients until the end."""
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(self._ask(end))

    async def _ask(self, end: asyncio.Event) -> None:
        while not end.is_set():
            reader, writer = await asyncio.open_connection(self._host, self._port)
            try:
                while await self._exchange(reader, writer) and not end.is_set():
                    pass
            except (OSError, EOFError, TimeoutError, ValueError) as error:
                self.other[repr(error)] += 1
            finally:
                writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request, and whether the connection stays open after it."""
        began = time.monotonic()
        writer.write(self._request)
        async with asyncio.timeout(PATIENCE):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(head.partition("\r\ncontent-length: ")[2].partition("\r\n")[0])
            answer = json.loads(await reader.readexactly(length))
        took = time.monotonic() - began
        status = head.split(" ", 2)[1]
        if status == "200" and answer["prediction"] == "virginica":
            self.taken.append(took)
        elif status == "503" and "\r\nretry-after: 1\r\n" in head and answer["status"] == 503:
            self.refused.append(took)
            await asyncio.sleep(self._pause)
        else:
            self.other[f"{head} {answer}"] += 1
        return "\r\nconnection: close\r\n" not in head


async def main() -> None:
    host, port, key, clients, pause = sys.argv[1:]
    crowd, end = Crowd(host, int(port), key, float(pause)), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), end.set)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await crowd.gather(int(clients), end)
    json.dump([crowd.taken, crowd.refused, crowd.other], sys.stdout)


asyncio.run(main())
