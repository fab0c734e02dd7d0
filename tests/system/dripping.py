"""Slow clients, in a process of their own: `python -m tests.system.dripping PORT CLIENTS KEY`.

A third send a byte a second, a third stall in their bodies, a third have closed one half.
"""

from __future__ import annotations

import socket
import sys
import time
from contextlib import suppress


def drip(port: int, clients: int, key: str) -> None:
    """Say `ready` once all are connected, and go on until the process is ended."""
    whole = (
        f"POST /v1/predict HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n"
        "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    ).encode()
    slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(clients)]
    for number, client in enumerate(slow):
        if number % 3:
            client.sendall(whole)
        if number % 3 == 2:
            client.shutdown(socket.SHUT_WR)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for sent in range(len(whole)):
        for client in slow[::3]:
            with suppress(OSError):  # The server had enough of it.
                client.send(whole[sent : sent + 1])
        time.sleep(1)


if __name__ == "__main__":
    drip(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
