from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import requests

from tests.conftest import FLOWER, Key

from .conftest import READY, environment, free_port, gunicorn_command, wait_for

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.system

REQUESTS = 600


def test_each_request_is_one_json_line_on_stdout(trained: Path, key: Key, tmp_path: Path) -> None:
    """Through a real pipe from several workers, while some clients send garbage."""
    port = free_port()
    settings = {"IRIS_MODEL_DIR": str(trained), "IRIS_API_KEYS": key.entry, "PORT": str(port)}
    error = tmp_path / "stderr"
    with (
        error.open("wb") as stderr,
        subprocess.Popen(
            gunicorn_command("wsgi:app"),
            env=environment(**settings),
            stdout=subprocess.PIPE,
            stderr=stderr,
        ) as server,
    ):
        stdout = server.stdout
        assert stdout
        lines: list[bytes] = []
        reader = threading.Thread(target=lambda: lines.extend(stdout))
        reader.start()
        wait_for(lambda: READY in error.read_text(), "the server")

        def send(number: int) -> str:
            if number % 10 == 0:
                with socket.create_connection(("127.0.0.1", port)) as connection:
                    connection.sendall(b"X-API-Key " + key.secret.encode() + b"\r\n\r\n")
                    assert connection.recv(100).startswith(b"HTTP/1.1 400")
            body = [FLOWER | {"\u202e\n" * 900: 1}] if number % 3 else [FLOWER]
            answer = requests.post(
                f"http://127.0.0.1:{port}/v1/predict",
                json=body,
                headers={"X-API-Key": key.secret, "X-Request-ID": f"r{number}"},
                timeout=20,
            )
            return answer.headers["X-Request-ID"]

        with ThreadPoolExecutor(8) as pool:
            answered = Counter(pool.map(send, range(REQUESTS)))
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
        reader.join()
    records = [json.loads(line) for line in lines]
    assert all({"time", "level", "event", "process"} <= line.keys() for line in records)
    assert Counter(line["request_id"] for line in records if line["event"] == "request") == answered
    assert sum(line["event"] == "unreadable_request" for line in records) == REQUESTS // 10
    assert max(map(len, lines)) <= 4096
    assert key.secret.encode() not in b"".join(lines)
    assert [line.partition(" ")[0] for line in error.read_text().splitlines()] == ["KEY", "curl"]
