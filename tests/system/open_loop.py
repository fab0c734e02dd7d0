"""Open-loop load: checked requests at a fixed rate, however long the answers take."""

from __future__ import annotations

import http.client
import itertools
import json
import random
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from tests.constants import FLOWER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

KEEPING, ONE_SHOT = 6, 6
"""Clients that keep their connection, and clients that open one for each request."""
PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Result:
    """When a request was sent, how long it took, and what was wrong with its answer."""

    sent: float
    seconds: float
    version: str
    fault: str


@dataclass
class Load:
    """Clients that send requests at a rate and check every answer.

    Each request has its own row. Its answer must repeat the row and name the class that the model
    predicted before the load began.
    """

    url: str
    headers: Mapping[str, str]
    rate: float
    stops: Callable[[], bool] = lambda: False
    """Whether clients stop sending, as a load balancer would have them do."""
    results: list[Result] = field(default_factory=list)

    def __enter__(self) -> Self:
        address = urlsplit(self.url)
        self._host, self._port = address.hostname or "", address.port or 80
        self._expected = [self._predict(row) for row in ROWS]
        self._end = threading.Event()
        self._threads = [
            threading.Thread(target=self._client, args=(number,))
            for number in range(KEEPING + ONE_SHOT)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    @property
    def faults(self) -> list[str]:
        """What was wrong, with how long after the first request it was sent."""
        first = min((result.sent for result in self.results), default=0.0)
        return [f"{r.sent - first:.2f} s: {r.fault}" for r in self.results if r.fault]

    def _predict(self, row: Mapping[str, float]) -> str:
        with closing(self._connect()) as connection:
            status, body, _ = self._exchange(connection, row)
        assert status == 200
        return str(body["prediction"])

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._host, self._port, timeout=PATIENCE)

    def _exchange(
        self, connection: http.client.HTTPConnection, row: Mapping[str, float]
    ) -> tuple[int, dict[str, Any], bool]:
        connection.request("POST", "/v1/predict", json.dumps(row), dict(self.headers))
        response = connection.getresponse()
        body = json.loads(response.read())
        return response.status, body, response.will_close

    def _client(self, number: int) -> None:
        keeps = number < KEEPING
        connection = self._connect()
        pause = (KEEPING + ONE_SHOT) / self.rate
        due = time.monotonic() + random.uniform(0, pause)
        for count in itertools.count(number):
            if self._end.wait(max(due - time.monotonic(), 0)) or self.stops():
                break
            due += pause * random.uniform(0.5, 1.5)
            sent = time.monotonic()
            row, expected = ROWS[count % len(ROWS)], self._expected[count % len(ROWS)]
            fault, version, closes = "", "", True
            try:
                status, body, closes = self._exchange(connection, row)
                version = body.get("model_version", "")
                if status != 200:
                    fault = f"{status} {body}"
                elif (body["input"], body["prediction"]) != (row, expected):
                    fault = f"a wrong answer: {body} to {row}"
            except (OSError, http.client.HTTPException, ValueError) as error:
                fault = f"{'kept' if keeps else 'new'} connection: {error!r}"
            self.results.append(Result(sent, time.monotonic() - sent, version, fault))
            if not keeps or closes or fault:
                connection.close()
                connection = self._connect()
        connection.close()


def capacity(url: str, headers: Mapping[str, str], seconds: float = 2.0) -> float:
    """Requests a second that these clients get answered when they send without a pause."""
    with Load(url, headers, rate=1e6) as load:
        time.sleep(seconds)
    assert not load.faults, load.faults[:3]
    return len(load.results) / seconds


def _random_rows() -> list[dict[str, float]]:
    generator = random.Random(7)
    return [{name: round(generator.uniform(0.1, 8), 2) for name in FLOWER} for _ in range(60)]


ROWS = _random_rows()
