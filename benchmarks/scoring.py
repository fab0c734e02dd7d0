"""What bulk scoring saves over HTTP: `python -m benchmarks.scoring`.

In turns a file is scored by `flask --app wsgi score`, its start included, whole and its first rows
alone, and by a client that reads it, posts batches of its first rows, one after the other, to the
service as it ships, and writes the answers beside them. Before, files of three sizes are scored for
the memory it takes.
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
from .contenders import KEY, ROOT, WORKERS, Contender, ours

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BATCHES = (100, 1_000, 10_000)
SIZES = (100_000, 1_000_000, 10_000_000)


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one row, in microseconds: as the clock says, and CPU of all that took part."""

    wall: float
    cpu: float


@click.command()
@click.option("--rows", default=10_000_000, show_default=True, help="Rows of the whole file.")
@click.option("--posted", default=1_000_000, show_default=True, help="Rows that go over HTTP.")
@click.option("--rounds", default=3, show_default=True)
def scoring(rows: int, posted: int, rounds: int) -> None:
    """Print how much memory `score` takes, what a row costs each way, and the ratios."""
    posted = min(rows, posted)
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        work = Path(directory)
        source, first, out, scored, answers = (
            work / f"{name}.csv" for name in ("in", "first", "out", "scored", "answers")
        )
        # First, as a process that is started is said to have held what its parent holds.
        show_memory(source, out)
        write_rows(source, rows)
        write_rows(first, posted)
        server = ours(ROOT / "model")
        ways = [
            Way(f"score, {rows:,} rows", rows, partial(score, source, out)),
            Way(f"score, {posted:,} rows", posted, partial(score, first, scored)),
        ]
        for size in BATCHES:
            name = f"HTTP, {size:,} rows a batch"
            ways.append(Way(name, posted, partial(post, server, first, answers, size)))
        server.start()
        try:
            costs = in_turns(ways, server, rounds)
        finally:
            server.stop()
        with out.open("rb") as whole:
            same = whole.read(answers.stat().st_size) == answers.read_bytes()
        if not same or scored.read_bytes() != answers.read_bytes():
            raise click.ClickException("the answers differ")
    show(costs)


@dataclass(frozen=True, slots=True)
class Way:
    """One way to score so many rows."""

    name: str
    rows: int
    go: Callable[[], object]


def in_turns(ways: list[Way], server: Contender, rounds: int) -> dict[str, list[Cost]]:
    """What each way cost in each round."""
    costs: dict[str, list[Cost]] = {way.name: [] for way in ways}
    for turn in range(rounds):
        for way in ways:
            made = cost(way, server)
            costs[way.name].append(made)
            told = f"{made.wall:.2f} µs a row by the clock, {made.cpu:.2f} of CPU"
            click.echo(f"round {turn + 1} of {rounds}, {way.name}: {told}", err=True)
    return costs


def write_rows(path: Path, rows: int) -> None:
    """Flowers of two decimals, few of them alike, between a number and a note."""
    random = np.random.default_rng(1)
    with path.open("w") as file:
        file.write(f"id,{','.join(FEATURES)},note\n")
        for first in range(0, rows, 100_000):
            count = min(100_000, rows - first)
            flowers = random.uniform((4, 2, 1, 0.1), (8, 4.5, 7, 2.5), (count, 4)).round(2)
            lines = enumerate(flowers.tolist(), first)
            file.writelines(f"{n},{a},{b},{c},{d},plot {n % 9}\n" for n, (a, b, c, d) in lines)


def score(source: Path, out: Path) -> float:
    """By the command, its start and the loading of the model included; its peak of MiB."""
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "score", str(source), str(out)]
    model, workers = str(ROOT / "model"), str(WORKERS)
    environment = os.environ | {"IRIS_MODEL_DIR": model, "WEB_CONCURRENCY": workers}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise click.ClickException(f"score ended with {process.returncode}")
    return used.ru_maxrss / 1024


def post(server: Contender, source: Path, out: Path, size: int) -> None:
    """By a client on one connection that is kept alive."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    headers = {"X-API-Key": KEY, "Content-Type": "application/json"}
    with source.open(newline="") as rows, out.open("w", newline="") as answers:
        reader, writer = csv.DictReader(rows), csv.writer(answers, lineterminator="\n")
        named = False
        for batch in batches(reader, size):
            body = [{name: float(row[name]) for name in FEATURES} for row in batch]
            connection.request("POST", "/v1/predict", json.dumps(body).encode(), headers)
            made = json.loads(connection.getresponse().read())["predictions"]
            if not named:
                classes = [f"probability_{name}" for name in made[0]["probabilities"]]
                writer.writerow([*batch[0], "prediction", "confidence", *classes])
                named = True
            writer.writerows(
                [
                    *row.values(),
                    one["prediction"],
                    one["confidence"],
                    *one["probabilities"].values(),
                ]
                for row, one in zip(batch, made, strict=True)
            )
    connection.close()


def batches(rows: csv.DictReader[str], size: int) -> Iterator[list[dict[str, str]]]:
    """So many rows at a time."""
    while batch := list(islice(rows, size)):
        yield batch


def cost(way: Way, server: Contender) -> Cost:
    """Of a row, by the clock and by the CPU of this process, its children and the server."""
    # What others wrote before would have to reach the disk before what `score` flushes.
    os.sync()
    cpu_before = _cpu_seconds(server)
    began = time.perf_counter()
    way.go()
    wall, cpu = time.perf_counter() - began, _cpu_seconds(server) - cpu_before
    return Cost(wall / way.rows * 1e6, cpu / way.rows * 1e6)


def _cpu_seconds(server: Contender) -> float:
    used = os.times()
    return (
        used.user + used.system + used.children_user + used.children_system + server.cpu_seconds()
    )


def show(costs: dict[str, list[Cost]]) -> None:
    """The medians, and those of the ratios to the first way round by round."""
    first = next(iter(costs.values()))
    click.echo("| way | wall, µs a row | CPU, µs a row | wall, ratio | CPU, ratio |")
    click.echo("|---|---:|---:|---:|---:|")
    for way, taken in costs.items():
        wall, cpu = (statistics.median(getattr(one, of) for one in taken) for of in ("wall", "cpu"))
        pairs = list(zip(taken, first, strict=True))
        walls = statistics.median(one.wall / ours.wall for one, ours in pairs)
        cpus = statistics.median(one.cpu / ours.cpu for one, ours in pairs)
        click.echo(f"| {way} | {wall:.2f} | {cpu:.2f} | {walls:.1f} | {cpus:.1f} |")


def show_memory(source: Path, out: Path) -> None:
    """The most that `score` held, for files of several sizes."""
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
