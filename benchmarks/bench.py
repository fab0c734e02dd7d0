"""`make bench`: the service against the floor, the tutorials and a strong rival, in one run.

Every figure comes from rounds in which all contenders take turns, so that a drift of the machine
meets all of them alike; what is reported is the median over the rounds, ratios first.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import numpy as np

from . import report
from .contenders import ROOT, WORKERS, Contender, behind_nginx, on_our_gunicorn, ours, rival
from .load import Sample, Scenario, run

SINGLE = [Scenario(1, connections, kept) for connections in (8, 64) for kept in (True, False)]
# Not more of large ones: on a slow machine 64 would wait for over a second, and some be refused.
BATCHES = [Scenario(100, 8), Scenario(100, 64), Scenario(1_000, 8), Scenario(10_000, 8)]
FEATURES = ("sepal_length", "sepal_width", "petal_length", "petal_width")
SECONDS = {1: 1, 100: 1, 1_000: 2, 10_000: 3}
LIBRARIES = ("flask", "gunicorn", "pydantic", "onnxruntime", "scikit-learn", "fastapi", "uvicorn")
PACED_SHARE = 0.7
PACED_CONNECTIONS = 64


def uvicorn(app: str) -> list[str]:
    """How the rivals on FastAPI are served: the fast loop and parser, no access log."""
    options = ["--workers", str(WORKERS), "--port", "{port}", "--no-access-log"]
    return [
        "uvicorn",
        f"benchmarks.rivals.{app}:app",
        *options,
        "--loop=uvloop",
        "--http=httptools",
    ]


def contenders(model: Path, work: Path) -> list[Contender]:
    """All that take turns, the service first."""
    served = ours(model)
    # A configuration that sets nothing, or Gunicorn would take ours.
    tutorial = [
        "gunicorn",
        "-c",
        "python:benchmarks.rivals",
        "-w",
        str(WORKERS),
        "-b",
        "127.0.0.1:{port}",
    ]
    return [
        served,
        on_our_gunicorn("bare WSGI floor", "benchmarks.rivals.floor:app"),
        on_our_gunicorn("empty Flask view", "benchmarks.rivals.empty_flask:app"),
        behind_nginx(ours(model), work),
        rival("strong FastAPI", uvicorn("strong_fastapi"), model, work),
        rival("tutorial FastAPI", uvicorn("tutorial_fastapi"), model, work),
        rival("tutorial Flask", [*tutorial, "benchmarks.rivals.tutorial_flask:app"], model, work),
    ]


def bodies(work: Path) -> dict[int, Path]:
    """A file with a JSON body for each number of rows: random flowers, one decimal."""
    rows = np.random.default_rng(0).uniform(0, 10, (max(SECONDS), 4)).round(1).tolist()
    flowers = [dict(zip(FEATURES, row, strict=True)) for row in rows]
    files = {}
    for count in SECONDS:
        files[count] = work / f"{count}.json"
        files[count].write_text(json.dumps(flowers[0] if count == 1 else flowers[:count]))
    return files


def check_answers(servers: list[Contender], body: Path) -> None:
    """All that predict must answer alike before they are timed."""
    expected = json.loads(servers[0].answers(body.read_bytes()))["predictions"]
    for server in servers[1:]:
        if server.name in {"bare WSGI floor", "empty Flask view"}:
            continue
        given = json.loads(server.answers(body.read_bytes()))["predictions"]
        if [row["prediction"] for row in given] != [row["prediction"] for row in expected]:
            raise click.ClickException(f"{server.name} answers otherwise: not timed")


BARE = """
import sys, time
from pathlib import Path
import numpy as np
from iris_api.bundle.store import Bundle
from iris_api.bundle.runtimes import load_runtime
runtime = load_runtime(Bundle.load(Path(sys.argv[1])))
rows = np.random.default_rng(0).uniform(0, 10, (int(sys.argv[2]), 4)).round(1).astype(np.float32)
runtime.probabilities(rows)
calls, began, until = 0, time.process_time(), time.perf_counter() + 1
while time.perf_counter() < until:
    runtime.probabilities(rows)
    calls += 1
print((time.process_time() - began) / calls * 1e6)
"""


def bare_onnx_us(model: Path, rows: int) -> float:
    """CPU of the bare ONNX Runtime call on a batch's array, by as many processes as workers."""
    command = [sys.executable, "-c", BARE, str(model), str(rows)]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    calls = [
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(WORKERS)
    ]
    return statistics.mean(float(call.communicate()[0]) for call in calls)


def import_seconds() -> float:
    """How long Python takes to import what any such service must."""
    began = time.perf_counter()
    command = [sys.executable, "-c", "import flask, onnxruntime"]
    subprocess.run(command, check=True, env=os.environ | {"ORT_DISABLE_TELEMETRY": "1"})
    return time.perf_counter() - began


def pss_per_worker(model: Path) -> float:
    """What two more workers add to the tree's PSS, each, after all have predicted."""
    sizes = []
    for workers in (2, 4):
        server = ours(model, workers=workers)
        server.start()
        time.sleep(1)
        for _ in range(400):
            server.answers()
        sizes.append(server.pss_mebibytes())
        server.stop()
    return (sizes[1] - sizes[0]) / 2


def measure(servers: list[Contender], model: Path, files: dict[int, Path], rounds: int) -> Any:
    """All rounds: samples by scenario and contender, and the other figures by name."""
    samples: dict[str, dict[str, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    other: dict[str, list[float]] = defaultdict(list)
    turns = [(scenario, server) for scenario in SINGLE + BATCHES for server in servers]
    with click.progressbar(length=rounds * len(turns), label="Measuring") as progress:
        for _ in range(rounds):
            for scenario, server in turns:
                seconds = SECONDS[scenario.rows]
                taken = run(server, scenario, files[scenario.rows], seconds=seconds)
                samples[scenario.label][server.name].append(taken)
                progress.update(1)
            for rows in (1_000, 10_000):
                other[f"bare ONNX Runtime, {rows:,} rows, CPU us"].append(bare_onnx_us(model, rows))
            other["paced p99/p50"].append(paced(servers[0], samples, files[1]))
            other["import flask, onnxruntime, s"].append(import_seconds())
            other["start to first answer, s"].append(start_seconds(model))
            other["PSS per added worker, MiB"].append(pss_per_worker(model))
    return samples, other


def paced(server: Contender, samples: Any, body: Path) -> float:
    """p99 over p50 with 64 connections that together ask for 70 % of what the server can do."""
    scenario = Scenario(1, PACED_CONNECTIONS)
    capacity = samples[scenario.label][server.name][-1].per_second
    pace = PACED_CONNECTIONS / (PACED_SHARE * capacity) * 1000
    taken = run(server, scenario, body, seconds=3, pace_ms=pace)
    return taken.p99 / taken.p50


def start_seconds(model: Path) -> float:
    """From the start of the process to its first correct answer."""
    server = ours(model)
    try:
        return server.start()
    finally:
        server.stop()


@click.command()
@click.option("--rounds", default=5, show_default=True, help="Rounds in which all take turns.")
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "benchmarks" / "results")
def bench(rounds: int, out: Path) -> None:
    """Measure, and write results.json, results.md and chart.svg."""
    for program in ("wrk", "nginx"):
        if not shutil.which(program):
            raise click.ClickException(f"{program} is needed: apt-get install {program}")
    model = ROOT / "model"
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        work = Path(name)
        work.chmod(0o755)
        files = bodies(work)
        servers = contenders(model, work)
        try:
            for server in servers:
                server.start()
            check_answers(servers, files[100])
            for server in servers:
                run(server, Scenario(1, 8), files[1], seconds=1)
            samples, other = measure(servers, model, files, rounds)
            memory = {server.name: server.pss_mebibytes() for server in servers}
        finally:
            for server in servers:
                server.stop()
    write(out, rounds, samples, other, memory)


def write(out: Path, rounds: int, samples: Any, other: Any, memory: dict[str, float]) -> None:
    """The median of everything, as JSON, as a table and as a chart."""
    results: dict[str, Any] = {
        "command": f"make bench (rounds: {rounds})",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "versions": {library: metadata.version(library) for library in LIBRARIES},
        "load": {
            scenario: {name: medians(taken) for name, taken in by_name.items()}
            for scenario, by_name in samples.items()
        },
        "other": {name: statistics.median(values) for name, values in other.items()},
        "pss_mib": memory,
    }
    out.mkdir(exist_ok=True)
    (out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    (out / "results.md").write_text(report.table(results))
    (out / "chart.svg").write_text(report.chart(results))
    click.echo(report.table(results))


def medians(taken: list[Sample]) -> dict[str, float]:
    """Field by field."""
    rows = [asdict(sample) for sample in taken]

    return {name: round(statistics.median(row[name] for row in rows), 2) for name in rows[0]}


if __name__ == "__main__":
    bench()
