"""What bulk scoring saves over HTTP: `python -m benchmarks.scoring`.

Two ways take turns. `flask --app wsgi score` scores a whole file and its first rows, start
included. An HTTP client reads the same first rows, posts them in batches one after the other to the
service, and writes the answers beside the rows. Before that, files of three sizes are scored to
measure the memory.
"""

from __future__ import annotations

import csv
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from .bench import FEATURES
from .contenders import KEY, ROOT, WORKERS, Contender, service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BATCHES = (100, 1_000, 10_000)
SIZES = (100_000, 1_000_000, 10_000_000)


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds per row: elapsed time, and CPU of all processes that took part."""

    wall: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Way:
    """One way to score a number of rows."""

    name: str
    rows: int
    run: Callable[[], object]


@click.command()
@click.option("--rows", default=10_000_000, show_default=True, help="Rows of the whole file.")
@click.option("--posted", default=1_000_000, show_default=True, help="Rows that go over HTTP.")
@click.option("--rounds", default=3, show_default=True)
def scoring(rows: int, posted: int, rounds: int) -> None:
    """Print the memory of `score`, the cost of a row each way, and the ratios."""
    posted = min(rows, posted)
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        work = Path(directory)
        whole, first, scored, first_scored, answers = (
            work / f"{name}.csv" for name in ("whole", "first", "scored", "first-scored", "answers")
        )
        # This comes first: the peak of a new process includes the memory of its parent.
        show_memory(whole, scored)
        write_rows(whole, rows)
        write_rows(first, posted)
        server = service(ROOT / "model")
        ways = [
            Way(f"score, {rows:,} rows", rows, partial(score, whole, scored)),
            Way(f"score, {posted:,} rows", posted, partial(score, first, first_scored)),
        ]
        for size in BATCHES:
            name = f"HTTP, {size:,} rows a batch"
            ways.append(Way(name, posted, partial(post, server, first, answers, size)))
        server.start()
        try:
            costs = measure(ways, server, rounds)
        finally:
            server.stop()
        check_equal(scored, first_scored, answers)
    show(costs)


def check_equal(scored: Path, first_scored: Path, answers: Path) -> None:
    """Check that all ways wrote the same bytes."""
    with scored.open("rb") as file:
        equal = file.read(answers.stat().st_size) == answers.read_bytes()
    if not equal or first_scored.read_bytes() != answers.read_bytes():
        raise click.ClickException("the answers differ")


def measure(ways: list[Way], server: Contender, rounds: int) -> dict[str, list[Cost]]:
    """The cost of each way in each round."""
    costs: dict[str, list[Cost]] = {way.name: [] for way in ways}
    for number in range(1, rounds + 1):
        for way in ways:
            cost = cost_of(way, server)
            costs[way.name].append(cost)
            figures = f"{cost.wall:.2f} µs a row elapsed, {cost.cpu:.2f} of CPU"
            click.echo(f"round {number} of {rounds}, {way.name}: {figures}", err=True)
    return costs


def write_rows(path: Path, rows: int) -> None:
    """Write flowers of two decimals, few of them alike, between a number and a note."""
    random = np.random.default_rng(1)
    with path.open("w") as file:
        file.write(f"id,{','.join(FEATURES)},note\n")
        for first in range(0, rows, 100_000):
            count = min(100_000, rows - first)
            flowers = random.uniform((4, 2, 1, 0.1), (8, 4.5, 7, 2.5), (count, 4)).round(2)
            lines = enumerate(flowers.tolist(), first)
            file.writelines(f"{n},{a},{b},{c},{d},plot {n % 9}\n" for n, (a, b, c, d) in lines)


def score(source: Path, out: Path) -> float:
    """Score a file by the command; returns its peak memory in MiB."""
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "score", str(source), str(out)]
    model, workers = str(ROOT / "model"), str(WORKERS)
    environment = os.environ | {"IRIS_MODEL_DIR": model, "WEB_CONCURRENCY": workers}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise click.ClickException(f"score ended with {process.returncode}")
    return usage.ru_maxrss / 1024


def post(server: Contender, source: Path, out: Path, size: int) -> None:
    """Score a file over HTTP, on one connection that is kept alive."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    headers = {"X-API-Key": KEY, "Content-Type": "application/json"}
    with source.open(newline="") as rows, out.open("w", newline="") as answers:
        reader, writer = csv.DictReader(rows), csv.writer(answers, lineterminator="\n")
        has_header = False
        for batch in batches(reader, size):
            body = [{name: float(row[name]) for name in FEATURES} for row in batch]
            connection.request("POST", "/v1/predict", json.dumps(body).encode(), headers)
            predictions = json.loads(connection.getresponse().read())["predictions"]
            if not has_header:
                classes = [f"probability_{name}" for name in predictions[0]["probabilities"]]
                writer.writerow([*batch[0], "prediction", "confidence", *classes])
                has_header = True
            for row, answer in zip(batch, predictions, strict=True):
                added = answer["prediction"], answer["confidence"]
                writer.writerow([*row.values(), *added, *answer["probabilities"].values()])
    connection.close()


def batches(rows: csv.DictReader[str], size: int) -> Iterator[list[dict[str, str]]]:
    """The rows in lists of a size; the last one may be shorter."""
    while batch := list(islice(rows, size)):
        yield batch


def cost_of(way: Way, server: Contender) -> Cost:
    """The cost of a row: elapsed time, and CPU of this process, its children and the server."""
    # Otherwise `score`, which flushes its files, would wait for what others wrote before.
    os.sync()
    cpu_before = _cpu_seconds(server)
    started = time.perf_counter()
    way.run()
    wall, cpu = time.perf_counter() - started, _cpu_seconds(server) - cpu_before
    return Cost(wall / way.rows * 1e6, cpu / way.rows * 1e6)


def _cpu_seconds(server: Contender) -> float:
    times = os.times()
    children = times.children_user + times.children_system
    return times.user + times.system + children + server.cpu_seconds()


def show(costs: dict[str, list[Cost]]) -> None:
    """Print the medians, and the medians of the ratios to the first way in the same round."""
    first = next(iter(costs.values()))
    click.echo("| way | wall, µs a row | CPU, µs a row | wall, ratio | CPU, ratio |")
    click.echo("|---|---:|---:|---:|---:|")
    for way, rounds in costs.items():
        wall = statistics.median(cost.wall for cost in rounds)
        cpu = statistics.median(cost.cpu for cost in rounds)
        pairs = list(zip(rounds, first, strict=True))
        walls = statistics.median(cost.wall / base.wall for cost, base in pairs)
        cpus = statistics.median(cost.cpu / base.cpu for cost, base in pairs)
        click.echo(f"| {way} | {wall:.2f} | {cpu:.2f} | {walls:.1f} | {cpus:.1f} |")


def show_memory(source: Path, out: Path) -> None:
    """Print the peak memory of `score` for files of several sizes."""
    click.echo("| rows | file, MB | memory of score, MiB |")
    click.echo("|---:|---:|---:|")
    for rows in SIZES:
        click.echo(f"writing and scoring {rows:,} rows", err=True)
        write_rows(source, rows)
        peak = score(source, out)
        click.echo(f"| {rows:,} | {source.stat().st_size / 1e6:,.0f} | {peak:.0f} |")
    click.echo()


if __name__ == "__main__":
    scoring()
