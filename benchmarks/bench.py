"""`make bench`: the service against the floor, the tutorials and a strong rival, in one run.

In each round all servers take turns, so that a slower or faster machine affects all of them alike.
The report has the medians over the rounds, ratios first.
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
from .contenders import ROOT, WORKERS, Contender, behind_nginx, on_our_gunicorn, rival, service
from .load import Sample, Scenario, run

SINGLE = [Scenario(1, connections, kept) for connections in (8, 64) for kept in (True, False)]
# On a slow machine 64 connections with large batches would wait over a second, and be refused.
BATCHES = [Scenario(100, 8), Scenario(100, 64), Scenario(1_000, 8), Scenario(10_000, 8)]
FEATURES = ("sepal_length", "sepal_width", "petal_length", "petal_width")
SECONDS = {1: 1, 100: 1, 1_000: 2, 10_000: 3}
LIBRARIES = ("flask", "gunicorn", "pydantic", "onnxruntime", "scikit-learn", "fastapi", "uvicorn")
PACED_SHARE = 0.7
PACED_CONNECTIONS = 64


def uvicorn(app: str) -> list[str]:
    """The command for a FastAPI rival: the fast loop and parser, no access log."""
    options = ["--workers", str(WORKERS), "--port", "{port}", "--no-access-log"]
    fast = ["--loop=uvloop", "--http=httptools"]
    return ["uvicorn", f"benchmarks.rivals.{app}:app", *options, *fast]


def contenders(model: Path, work: Path) -> list[Contender]:
    """All servers under test, the service first."""
    # Without this empty configuration Gunicorn would read the one of the service.
    defaults = ["-c", "python:benchmarks.rivals"]
    tutorial = ["gunicorn", *defaults, "-w", str(WORKERS), "-b", "127.0.0.1:{port}"]
    return [
        service(model),
        on_our_gunicorn("bare WSGI floor", "benchmarks.rivals.floor:app"),
        on_our_gunicorn("empty Flask view", "benchmarks.rivals.empty_flask:app"),
        behind_nginx(service(model), work),
        rival("strong FastAPI", uvicorn("strong_fastapi"), model, work),
        rival("tutorial FastAPI", uvicorn("tutorial_fastapi"), model, work),
        rival("tutorial Flask", [*tutorial, "benchmarks.rivals.tutorial_flask:app"], model, work),
    ]


def bodies(work: Path) -> dict[int, Path]:
    """Write a file with a JSON body for each number of rows: random flowers with one decimal."""
    rows = np.random.default_rng(0).uniform(0, 10, (max(SECONDS), 4)).round(1).tolist()
    flowers = [dict(zip(FEATURES, row, strict=True)) for row in rows]
    files = {}
    for count in SECONDS:
        files[count] = work / f"{count}.json"
        files[count].write_text(json.dumps(flowers[0] if count == 1 else flowers[:count]))
    return files


def check_answers(servers: list[Contender], body: Path) -> None:
    """Check that all servers that predict give the same labels, before they are timed."""
    expected = json.loads(servers[0].answer(body.read_bytes()))["predictions"]
    for server in servers[1:]:
        if server.name in {"bare WSGI floor", "empty Flask view"}:
            continue
        answer = json.loads(server.answer(body.read_bytes()))["predictions"]
        if [row["prediction"] for row in answer] != [row["prediction"] for row in expected]:
            raise click.ClickException(f"{server.name} gives other labels: not timed")


BARE = """
import sys, time
from pathlib import Path
import numpy as np
from benchmarks.forest import unsorted
from iris_api.bundle.store import Bundle
bundle = Bundle.load(Path(sys.argv[1]))
predict = unsorted(bundle.read(bundle.manifest.served))
rows = np.random.default_rng(0).uniform(0, 10, (int(sys.argv[2]), 4)).round(1).astype(np.float32)
predict(rows)
calls, started, until = 0, time.process_time(), time.perf_counter() + 1
while time.perf_counter() < until:
    predict(rows)
    calls += 1
print((time.process_time() - started) / calls * 1e6)
"""


def bare_onnx_us(model: Path, rows: int) -> float:
    """CPU of a bare ONNX Runtime call on a batch, with as many processes as there are workers."""
    command = [sys.executable, "-c", BARE, str(model), str(rows)]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    calls = [
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(WORKERS)
    ]
    return statistics.mean(float(call.communicate()[0]) for call in calls)


def import_seconds() -> float:
    """Seconds that Python needs to import what any such service imports."""
    started = time.perf_counter()
    command = [sys.executable, "-c", "import flask, onnxruntime"]
    subprocess.run(command, check=True, env=os.environ | {"ORT_DISABLE_TELEMETRY": "1"})
    return time.perf_counter() - started


def pss_per_worker(model: Path) -> float:
    """MiB of PSS that each of two more workers adds, after all have predicted."""
    sizes = []
    for workers in (2, 4):
        server = service(model, workers=workers)
        server.start()
        time.sleep(1)
        for _ in range(400):
            server.answer()
        sizes.append(server.pss_mebibytes())
        server.stop()
    return (sizes[1] - sizes[0]) / 2


def measure(servers: list[Contender], model: Path, files: dict[int, Path], rounds: int) -> Any:
    """Run all rounds; returns samples by scenario and server, and the other figures by name."""
    samples: dict[str, dict[str, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    other: dict[str, list[float]] = defaultdict(list)
    turns = [(scenario, server) for scenario in SINGLE + BATCHES for server in servers]
    with click.progressbar(length=rounds * len(turns), label="Measuring") as progress:
        for _ in range(rounds):
            for scenario, server in turns:
                seconds = SECONDS[scenario.rows]
                sample = run(server, scenario, files[scenario.rows], seconds=seconds)
                samples[scenario.label][server.name].append(sample)
                progress.update(1)
            for rows in (1_000, 10_000):
                other[f"bare ONNX Runtime, {rows:,} rows, CPU us"].append(bare_onnx_us(model, rows))
            other["paced p99/p50"].append(paced(servers[0], samples, files[1]))
            other["import flask, onnxruntime, s"].append(import_seconds())
            other["start to first answer, s"].append(start_seconds(model))
            other["PSS per added worker, MiB"].append(pss_per_worker(model))
    return samples, other


def paced(server: Contender, samples: Any, body: Path) -> float:
    """p99 / p50 with 64 connections that together send 70 % of the server's capacity."""
    scenario = Scenario(1, PACED_CONNECTIONS)
    capacity = samples[scenario.label][server.name][-1].per_second
    pace = PACED_CONNECTIONS / (PACED_SHARE * capacity) * 1000
    sample = run(server, scenario, body, seconds=3, pace_ms=pace)
    return sample.p99 / sample.p50


def start_seconds(model: Path) -> float:
    """Seconds from the start of the process to its first correct answer."""
    server = service(model)
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
    """Write the medians as JSON, as a table and as a chart."""
    results: dict[str, Any] = {
        "command": f"make bench (rounds: {rounds})",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "versions": {library: metadata.version(library) for library in LIBRARIES},
        "load": {
            scenario: {name: medians(runs) for name, runs in by_name.items()}
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


def medians(runs: list[Sample]) -> dict[str, float]:
    """The median of each field."""
    rows = [asdict(sample) for sample in runs]
    return {name: round(statistics.median(row[name] for row in rows), 2) for name in rows[0]}


if __name__ == "__main__":
    bench()
