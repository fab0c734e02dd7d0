"""Slow clients in a process of their own: `python -m tests.system.slow_clients PORT CLIENTS KEY`.

A third send one byte a second, a third stall in their bodies, a third have shut down one direction.
"""

from __future__ import annotations

import socket
import sys
import time
from contextlib import suppress


def run(port: int, clients: int, key: str) -> None:
    """Print `ready` once all clients are connected, and run until the process is killed."""
    request = (
        f"POST /v1/predict HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n"
        "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    ).encode()
    connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(clients)]
    for number, connection in enumerate(connections):
        if number % 3:
            connection.sendall(request)
        if number % 3 == 2:
            connection.shutdown(socket.SHUT_WR)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for position in range(len(request)):
        for connection in connections[::3]:
            with suppress(OSError):  # The server has closed it.
                connection.send(request[position : position + 1])
        time.sleep(1)


if __name__ == "__main__":
    run(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
