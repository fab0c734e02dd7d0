"""Wrong API keys: their timing reveals nothing, and floods of them slow nobody."""

from __future__ import annotations

import itertools
import json
import logging
import random
import string
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from iris_api import create_app
from iris_api.settings import Settings
from iris_api.web.keys import KeyRing, digest_of, new_key
from tests.constants import FULL_LOAD
from tests.system.conftest import peak_mebibytes

from .attacks import KEY, request
from .client import Neighbour, Route

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.system.conftest import Server

pytestmark = [pytest.mark.system, pytest.mark.load]

logger = logging.getLogger(__name__)

ALPHABET = string.ascii_letters + string.digits + "-_"


SHARED = 40
"""Length of the prefix that a near key shares with the valid key of 48 characters."""


ALARM = 5.0
"""Score of a leak, in standard deviations: chance reaches it in one run of 1.7 million."""


SURE = 0.99
"""Probability with which the test must find a leak of the limit."""


def wrong_key(shared: int) -> str:
    """A wrong key that shares a prefix of exactly this length with the valid key."""
    characters = random.choices(ALPHABET, k=len(KEY))
    other = random.choice(ALPHABET.replace(KEY[shared], ""))
    return KEY[:shared] + "".join([other, *characters[shared + 1 :]])


def differences(ask: Callable[[str], object], pairs: int, clock: Callable[[], int]) -> NDArray[Any]:
    """Nanoseconds by which a near key takes longer than a far key, for pairs of calls.

    The order within a pair is random: without a leak each sign is random too, however noisy the
    machine is.
    """
    sample = np.empty(pairs)
    for i in range(pairs):
        sign = random.choice((1, -1))
        first, second = (wrong_key(SHARED if sign * order > 0 else 0) for order in (1, -1))
        began = clock()
        ask(first)
        between = clock()
        ask(second)
        sample[i] = sign * (2 * between - began - clock())
    return sample


def score(sample: NDArray[Any], tolerated: float) -> float:
    """How far near keys differ from far keys, as Wilcoxon's signed-rank statistic.

    In standard deviations without a leak. `tolerated` is less than a usable leak: a few
    nanoseconds can also come from where the two strings lie in memory.
    """
    nearer = np.sign(np.median(sample)) * sample - tolerated
    ranks = np.argsort(np.argsort(np.abs(nearer))) + 1.0
    return float((np.sign(nearer) * ranks).sum() / np.sqrt((ranks**2).sum()))


def would_find(leak: float, sample: NDArray[Any], tolerated: float) -> bool:
    """Whether the test would find a leak, in ns, under the noise of this sample.

    Resamples the noise with random signs and adds the leak: 99 of 100 resamples must reach ALARM.
    """
    coins, noise, size = np.random.default_rng(1), sample - np.median(sample), len(sample)
    scores = [
        score(coins.choice(noise, size) * coins.choice([-1, 1], size) + leak, tolerated)
        for _ in range(100)
    ]
    return float(np.mean(np.array(scores) > ALARM)) >= SURE


def leak_score(
    ask: Callable[[str], object],
    pairs: int,
    limit: float,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> float:
    """The score of a sample large enough to find a leak of `limit` ns; a fifth is tolerated.

    The size depends on how much the differences spread, not on where they lie, so it makes no
    false alarm more likely.
    """
    sample = differences(ask, pairs, clock)
    while not (enough := would_find(limit, sample, limit / 5)) and len(sample) < 32 * pairs:
        sample = np.append(sample, differences(ask, len(sample), clock))
    assert enough, "this machine is too noisy to tell"
    steps = limit * np.arange(0.25, 1.01, 0.05)
    least = next(leak for leak in steps if would_find(leak, sample, limit / 5))
    median, result = float(np.median(sample)), score(sample, limit / 5)
    figures = (len(sample), median, result, least)
    logger.info("%d pairs, median %.0f ns, score %.1f, would find %.0f ns", *figures)
    return result


class Leaky(KeyRing):
    """Compares a key with the valid one character by character, up to the first difference."""

    rounds = 1
    """Number of comparisons: more make the leak larger."""

    def name_of(self, key: str) -> str | None:
        """The name of a key."""
        for _ in range(self.rounds):
            for expected, actual in zip(KEY, key, strict=False):
                if expected != actual:
                    break
            else:
                return "hostile"
        return None


@pytest.mark.parametrize("kind", [KeyRing, Leaky])
def test_key_lookup_time_does_not_depend_on_a_shared_prefix(kind: type[KeyRing]) -> None:
    """Finds a leak of 100 ns in 99 of 100 runs, and does find that of a naive loop.

    The leak of `==` on two strings is about 10 ns and would go unnoticed. The digest rules it
    out: a key with a shared prefix has an unrelated digest.
    """
    ring = kind(f"hostile:{digest_of(KEY)}", None)
    assert (ring.name_of(KEY), ring.name_of(wrong_key(SHARED))) == ("hostile", None)
    assert (leak_score(ring.name_of, 4000, limit=100) > ALARM) == (kind is Leaky)


@pytest.mark.parametrize("kind", [KeyRing, Leaky])
def test_request_time_does_not_depend_on_a_shared_prefix(
    trained: Path, kind: type[KeyRing]
) -> None:
    """Finds a leak of 20 us of CPU in the whole request, and does find that of a naive loop."""
    app = create_app(Settings(model_dir=trained, api_keys=f"hostile:{digest_of(KEY)}"))
    ring = app.extensions["iris_api"].keys = kind(f"hostile:{digest_of(KEY)}", None)
    if isinstance(ring, Leaky):
        ring.rounds = 40
    client = app.test_client()

    def ask(key: str) -> None:
        assert client.get("/v1/model", headers={"X-API-Key": key}).status_code == 401

    assert (leak_score(ask, 800, limit=20_000, clock=time.thread_time_ns) > ALARM) == (
        kind is Leaky
    )


FLOOD = 10_000 if FULL_LOAD else 3_000
"""Wrong keys in all."""


ROUNDS = 5


PIPELINED = 25


def flood(route: Route, batches: list[bytes], status: int) -> None:
    """Send batches on one connection; every response must have this status."""
    with route.connect() as connection:
        for sent in batches:
            connection.sendall(sent)
            received = b""
            while received.count(b"HTTP/1.1 ") < PIPELINED or received[-2:] != b"}\n":
                received += connection.recv(65536)
            assert received.count(b"HTTP/1.1 %d " % status) == PIPELINED


def times_during_flood(route: Route, requests: int, status: int) -> list[float]:
    """Seconds that a good client waits for each answer while four connections are flooded.

    Each request that should get a 401 has a new wrong key.
    """
    one = request(b"", request_line="GET /v1/model HTTP/1.1", framed=False)
    keys = (KEY if status == 200 else new_key() for _ in itertools.count())
    keyed = (one.replace(KEY.encode(), key.encode()) for key in keys)
    batches = [b"".join(itertools.islice(keyed, PIPELINED)) for _ in range(requests // PIPELINED)]
    seconds = []
    with Neighbour(route.port) as good, ThreadPoolExecutor(4) as pool:
        flooding = [pool.submit(flood, route, batches[i::4], status) for i in range(4)]
        while not all(done.done() for done in flooding):
            seconds.append(good.predict())
        for done in flooding:
            done.result()
    return seconds


def test_a_flood_of_wrong_keys_slows_nobody(target: Server) -> None:
    """Wrong keys delay others no more than good keys do; all are refused, none is stored."""
    route = Route(target, target.port)
    with Neighbour(route.port) as good:
        alone = [good.predict() for _ in range(300)]
    usual = times_during_flood(route, FLOOD // ROUNDS, 200)
    before, resident, log_size = target.metrics(), peak_mebibytes(target), target.log_size
    flooded: list[float] = []
    for _ in range(ROUNDS):  # On new connections, so that no worker gets them all by chance.
        flooded += times_during_flood(route, FLOOD // ROUNDS, 401)
        usual += times_during_flood(route, FLOOD // ROUNDS, 200)
    now = target.metrics()
    with Neighbour(route.port) as good:
        after = [good.predict() for _ in range(300)]
    lines = target.log_since(log_size).splitlines()
    medians = [float(np.median(part)) for part in (alone, usual, flooded, after)]
    logger.info("median ms %s, %d answers", [round(m * 1000, 2) for m in medians], len(flooded))
    assert medians[2] < 3 * medians[1] + 0.002
    assert medians[2] < 20 * medians[0] + 0.02
    assert medians[3] < 5 * medians[0] + 0.002
    failures = 'iris_authentication_failures_total{reason="wrong"}'
    assert now[failures] - before[failures] == FLOOD
    assert len(now) - len(before) < 40  # At most the series of one route and status.
    assert peak_mebibytes(target) - resident < 10
    refused = [line for line in map(json.loads, lines) if line.get("refused") == "wrong-key"]
    assert [line["key"] for line in refused] == [None] * FLOOD
    assert "iris_" not in target.log_text.replace("iris_api", "")
