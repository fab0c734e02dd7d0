from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from iris_api import create_app
from iris_api.bundle.files import PartFile
from iris_api.scoring import resuming, table
from iris_api.scoring.resuming import Run
from iris_api.settings import Settings
from tests.conftest import FLOWER, ROOT, reseal

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result
    from flask import Flask

HEADER = ",".join(FLOWER)
GOOD, BAD = "6.7,3.0,5.2,2.3", "6.7,3.0,52,2.3"
FULL = Path("/dev/full")


@pytest.fixture
def score(model_dir: Path) -> Callable[..., Result]:
    """Runs `flask score ...` on a bundle."""
    runner = create_app(Settings(model_dir=model_dir)).test_cli_runner()
    return lambda *args, given=None: runner.invoke(args=["score", *map(str, args)], input=given)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file of three rows; one of them breaks the contract."""
    path = tmp_path / "in.csv"
    path.write_text(f"{HEADER}\n{GOOD}\n{BAD}\n{GOOD}\n")
    return path


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of a few rows, and a checkpoint after every second."""
    monkeypatch.setattr(table, "CHUNK_BYTES", 100)
    monkeypatch.setattr(resuming, "CHUNKS_BETWEEN", 2)


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} - {"model"}


def test_good_rows_and_rejects_go_to_a_file_each(
    score: Callable[..., Result], source: Path, tmp_path: Path
) -> None:
    """Status 3 says that there are rejects; where they are mended, status 0, and none are left."""
    out, rejects = tmp_path / "out.csv", tmp_path / "out.csv.rejects.csv"
    done = score(source, out)
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr == f"2 rows scored, 1 rejected (see {rejects})\n"
    assert out.read_text().splitlines()[1].startswith(f"{GOOD},virginica,1.0,")
    assert rejects.read_text() == (
        f"line,reasons,{HEADER}\n3,petal_length: Input should be less than or equal to 10,{BAD}\n"
    )
    source.write_text(f"{HEADER}\n{GOOD}\n")
    done = score(source, out)
    assert (done.exit_code, done.stderr) == (0, "1 row scored\n")
    assert rejects.read_text() == f"line,reasons,{HEADER}\n"


def test_without_rejects_no_file_is_made_for_them_and_none_is_removed(
    score: Callable[..., Result], source: Path, tmp_path: Path
) -> None:
    """One that was there is replaced by a header, as any that is written to; its mode is kept."""
    source.write_text(f"{HEADER}\n{GOOD}\n")
    assert score(source, tmp_path / "out.csv").exit_code == 0
    assert names(tmp_path) == {"in.csv", "out.csv"}
    notes = tmp_path / "notes.txt"
    notes.write_text("old")
    notes.chmod(0o600)
    assert score(source, tmp_path / "out.csv", "--rejects", notes).exit_code == 0
    assert notes.read_text() == f"line,reasons,{HEADER}\n"
    assert notes.stat().st_mode & 0o777 == 0o600
    assert names(tmp_path) == {"in.csv", "out.csv", "notes.txt"}


def test_rejects_can_be_named_and_streams_be_used(
    score: Callable[..., Result], source: Path, tmp_path: Path
) -> None:
    """From standard input to standard output; without a file, rejects go to standard error."""
    out, rejects = tmp_path / "out.csv", tmp_path / "bad.csv"
    assert score(source, out, "--rejects", rejects).exit_code == 3
    piped = score("-", "-", given=source.read_bytes())
    assert piped.exit_code == 3
    assert piped.stdout == out.read_text()
    assert piped.stderr == f"{rejects.read_text()}# 2 rows scored, 1 rejected (above)\n"
    assert score("-", "-", "--rejects", tmp_path / "r", given=source.read_bytes()).exit_code == 3
    assert (tmp_path / "r").read_text() == rejects.read_text()
    assert score("-", tmp_path / "o", "--rejects", "-", given=source.read_bytes()).exit_code == 3
    assert (tmp_path / "o").read_text() == out.read_text()


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (None, ["in.csv", "out.csv"], "in.csv can't be read (No such file or directory)"),
        ("", ["in.csv", "out.csv"], "in.csv: it is empty"),
        ("a,b\n", ["in.csv", "out.csv"], "in.csv: the header has no column sepal_length"),
        (HEADER, ["in.csv", "none/out.csv"], "out.csv can't be written (No such file"),
        (HEADER, ["in.csv", "out.csv", "--rejects", "none/r.csv"], "r.csv can't be written"),
        (HEADER, ["in.csv", "in.csv"], "which is to be written"),
        (HEADER, ["in.csv", "link.csv"], "which is to be written"),
        (HEADER, ["in.csv", "out.csv", "--rejects", "in.csv"], "which is to be written"),
        (HEADER, ["in.csv", "out.csv", "--rejects", "out.csv"], "are the same file"),
        (HEADER, ["in.csv", "/dev/null"], "/dev/null is no regular file"),
    ],
)
def test_what_can_not_be_done_is_one_line_and_leaves_nothing(
    score: Callable[..., Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: str | None,
    arguments: list[str],
    message: str,
) -> None:
    """Status 1; the input is as it was."""
    monkeypatch.chdir(tmp_path)
    Path("link.csv").symlink_to("in.csv")
    if content is not None:
        Path("in.csv").write_text(content)
    before = names(tmp_path)
    done = score(*arguments)
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert names(tmp_path) == before
    assert content is None or Path("in.csv").read_text() == content


def test_a_file_that_is_there_is_replaced_at_the_end(
    score: Callable[..., Result], source: Path, tmp_path: Path
) -> None:
    """With its mode, and through a link; after a failure the old one stands."""
    out = tmp_path / "out.csv"
    out.write_text("old")
    out.chmod(0o600)
    (tmp_path / "link").symlink_to(out)
    content = source.read_bytes()
    source.write_bytes(content + b"x" * 2_000_000)
    assert "is this a CSV file?" in score(source, tmp_path / "link").stderr
    assert out.read_text() == "old"
    source.write_bytes(content)
    assert score(source, tmp_path / "link").exit_code == 3
    assert (tmp_path / "link").is_symlink()
    assert (out.read_text().count("\n"), out.stat().st_mode & 0o777) == (3, 0o600)


def test_a_file_that_another_run_writes_is_refused(
    score: Callable[..., Result], source: Path, tmp_path: Path
) -> None:
    """The other one goes on undisturbed."""
    other = PartFile(tmp_path / "out.csv")
    other.write(b"its lines")
    done = score(source, tmp_path / "out.csv")
    assert (done.exit_code, "another run is writing" in done.stderr) == (1, True)
    other.publish()
    other.close()
    assert (tmp_path / "out.csv").read_bytes() == b"its lines"
    assert score(source, tmp_path / "out.csv").exit_code == 3


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("writes", [2, 3, 11, 30])
@pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
def test_a_run_that_was_stopped_is_gone_on_with(
    score: Callable[..., Result],
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop: BaseException,
    writes: int,
) -> None:
    """By the same command, from the last whole chunk of rows and rejects, to the same bytes."""
    source.write_text(f"{HEADER}\n" + f"{GOOD}\n{BAD}\n" * 100)
    assert score(source, tmp_path / "whole.csv").exit_code == 3
    out = tmp_path / "out.csv"
    with monkeypatch.context() as patch:
        stop_in_write(patch, 3 + writes, stop)
        done = score(source, out)
    assert done.exit_code == (130 if isinstance(stop, KeyboardInterrupt) else 1)
    assert done.stderr.count("\n") == 1
    assert "the same command goes on with it" in done.stderr
    assert not out.exists()
    done = score(source, out)
    assert done.stderr.startswith("Going on after ")
    for suffix in ("", ".rejects.csv"):
        made, whole = (tmp_path / f"{name}.csv{suffix}" for name in ("out", "whole"))
        assert made.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob("*.part*"))


def stop_in_write(patch: pytest.MonkeyPatch, writes: int, error: BaseException) -> None:
    """Let a run meet an error where it has written half of some lines."""
    write, left = PartFile.write, iter(range(writes - 1))

    def stopping(file: PartFile, content: bytes) -> None:
        if next(left, None) is None:
            write(file, content[: len(content) // 2])
            raise error
        write(file, content)

    patch.setattr(PartFile, "write", stopping)


def stop_after(patch: pytest.MonkeyPatch, chunks: int, error: BaseException) -> None:
    """Let a run meet an error between two chunks."""
    add = Run.add

    def stopping(run: Run, scored: Any) -> None:
        add(run, scored)
        if run._chunks == chunks:
            raise error

    patch.setattr(Run, "add", stopping)


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("change", ["input", "model", "rejects", "part", "checkpoint"])
def test_a_run_of_another_job_starts_over(
    score: Callable[..., Result],
    source: Path,
    tmp_path: Path,
    model_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
) -> None:
    """Nothing of the run before is in its output."""
    source.write_text(f"{HEADER}\n" + f"{GOOD}\n" * 100)
    out = tmp_path / "out.csv"
    with monkeypatch.context() as patch:
        stop_after(patch, 9, KeyboardInterrupt())
        assert score(source, out).exit_code == 130
    if change == "input":
        source.write_text(f"{HEADER}\n" + "5.0,3.0,1.0,0.2\n" * 100)
    elif change == "model":
        reseal(model_dir, name="other")
    elif change == "part":
        (tmp_path / "out.csv.part").write_text("")
    elif change == "checkpoint":
        (tmp_path / "out.csv.part.json").write_text("{")
    arguments = ["--rejects", tmp_path / "others.csv"] if change == "rejects" else []
    done = score(source, out, *arguments)
    assert done.exit_code == 0
    assert done.stderr.startswith("Starting over: ")
    assert score(source, tmp_path / "whole.csv").exit_code == 0
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("use", ["", "other run", "input"])
def test_going_on_with_other_rejects_leaves_none_of_the_run_before(
    score: Callable[..., Result],
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    use: str,
) -> None:
    """What was written aside for them is removed, unless somebody writes or reads it."""
    source.write_text(f"{HEADER}\n" + f"{GOOD}\n{BAD}\n" * 100)
    left = tmp_path / "out.csv.rejects.csv.part"
    with monkeypatch.context() as patch:
        stop_after(patch, 9, KeyboardInterrupt())
        assert score(source, tmp_path / "out.csv").exit_code == 130
    assert left.stat().st_size
    if use == "input":
        left.write_text(f"{HEADER}\n{GOOD}\n")
        source = left
    other = PartFile(tmp_path / "out.csv.rejects.csv") if use == "other run" else None
    done = score(source, tmp_path / "out.csv", "--rejects", tmp_path / "others.csv")
    assert done.stderr.startswith("Starting over: ")
    assert left.exists() is bool(use)
    if other:
        other.close()


def test_a_short_run_that_was_stopped_is_gone_on_with(
    score: Callable[..., Result], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of standard input nothing is left, as it can't be read again."""
    for given, path in ((source.read_bytes(), Path("-")), (None, source)):
        with monkeypatch.context() as patch:
            stop_after(patch, 1, KeyboardInterrupt())
            done = score(path, tmp_path / "out.csv", given=given)
        assert done.exit_code == 130
        assert done.stderr.startswith("Stopped after 3 rows")
        assert ("goes on" in done.stderr) is (path == source)
        assert (names(tmp_path) == {"in.csv"}) is (path != source)
    done = score(source, tmp_path / "out.csv")
    assert done.stderr.startswith("Going on after 3 rows")
    assert names(tmp_path) == {"in.csv", "out.csv", "out.csv.rejects.csv"}


@pytest.mark.usefixtures("small_steps")
def test_a_run_that_can_not_be_gone_on_with_leaves_nothing(
    score: Callable[..., Result], source: Path, tmp_path: Path
) -> None:
    """What is wrong with the input would meet the next run, too."""
    source.write_text(f"{HEADER}\n" + f"{GOOD}\n" * 100 + "x" * 2_000_000)
    done = score(source, tmp_path / "out.csv")
    assert (done.exit_code, "is this a CSV file?" in done.stderr) == (1, True)
    assert names(tmp_path) == {"in.csv"}


def test_a_file_that_changes_while_it_is_read_is_told(
    score: Callable[..., Result], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows may be of two states, and OUT is not written."""

    def add(run: Run, scored: Any, really: Callable[..., None] = Run.add) -> None:
        really(run, scored)
        with source.open("a") as file:
            file.write(f"{GOOD}\n")

    with monkeypatch.context() as patch:
        patch.setattr(Run, "add", add)
        done = score(source, tmp_path / "out.csv")
    assert done.exit_code == 1
    assert "in.csv was changed while it was read" in done.stderr
    assert names(tmp_path) == {"in.csv"}


def command(trained: Path, *arguments: str | Path) -> tuple[list[str], dict[str, str]]:
    """`flask --app wsgi score ...` for a process of its own, and its environment."""
    environment = os.environ | {"IRIS_MODEL_DIR": str(trained)}
    flask = [sys.executable, "-m", "flask", "--app", "wsgi", "score"]
    return [*flask, *map(str, arguments)], environment


def write_rows(path: Path, thousands: int) -> None:
    """So many rows with another column, every seventieth breaking the contract."""
    rows = [f"{random.uniform(4, 10.01):.2f},3.1,{i % 70 / 10},0.2,{i}" for i in range(100_000)]
    path.write_text("\n".join([f"{HEADER},id", *(rows * (thousands // 100)), ""]))


def started(words: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(words, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.system
def test_a_killed_run_is_gone_on_with_to_the_same_bytes(trained: Path, tmp_path: Path) -> None:
    """SIGKILL after a run's own checkpoint, twice; never half a file at OUT."""
    source, out, whole = (tmp_path / f"{name}.csv" for name in ("in", "out", "whole"))
    checkpoint = tmp_path / "out.csv.part.json"
    write_rows(source, 2_000)
    words, environment = command(trained, source, whole)
    reference = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, check=False)
    assert reference.returncode == 3, reference.stderr
    words, environment = command(trained, source, out)
    for kill in (True, True, False):
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else None
        process = started(words, environment)
        while kill and (not checkpoint.exists() or checkpoint.stat().st_mtime_ns == before):
            assert process.poll() is None
            time.sleep(0.01)
        if kill:
            time.sleep(random.uniform(0, 0.1))
            process.send_signal(signal.SIGKILL)
        _, told = process.communicate()
        assert kill is not out.exists()
        assert ("Going on after " in told) is (before is not None)
    assert process.returncode == 3
    assert out.read_bytes() == whole.read_bytes()
    rejects = [path.with_name(f"{path.name}.rejects.csv").read_bytes() for path in (out, whole)]
    assert rejects[0] == rejects[1]


@pytest.mark.system
def test_a_signal_leaves_a_run_that_can_be_gone_on_with(trained: Path, tmp_path: Path) -> None:
    """SIGTERM as Ctrl-C, also before the first checkpoint would be made."""
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    part = tmp_path / "out.csv.part"
    write_rows(source, 600)
    words, environment = command(trained, source, out)
    process = started(words, environment)
    while not part.exists() or part.stat().st_size < 1_000:  # More than the header.
        assert process.poll() is None
        time.sleep(0.01)
    assert not (tmp_path / "out.csv.part.json").exists()
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate()
    assert process.returncode == 130, told
    assert "the same command goes on with it" in told
    _, told = started(words, environment).communicate()
    assert told.startswith("Going on after ")
    assert out.read_bytes().count(b"\n") > 500_000


@pytest.mark.system
def test_a_closed_pipe_ends_it_quietly(trained: Path, source: Path) -> None:
    """As `| head` does; a full disk is one line."""
    source.write_text(f"{HEADER}\n" + f"{GOOD}\n" * 20_000)
    words, environment = command(trained, source, "-")
    with subprocess.Popen(
        words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline().startswith(b"sepal_length,")
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1
    with FULL.open("wb") as full:
        done = subprocess.run(
            words, cwd=ROOT, env=environment, stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 1
    assert done.stderr == b"Error: stopped (No space left on device)\n"


@pytest.mark.parametrize("names", [("o", "o.part"), ("r.part", "r"), ("o", "o.part.json")])
def test_what_is_written_aside_is_nothing_else(
    app: Flask, tmp_path: Path, names: tuple[str, str]
) -> None:
    """The rejects would be renamed over the output."""
    source = tmp_path / "in.csv"
    source.write_text(",".join(FLOWER) + "\n")
    output, rejects = (str(tmp_path / name) for name in names)
    done = app.test_cli_runner().invoke(args=["score", str(source), output, "--rejects", rejects])
    assert done.exit_code == 1
    assert "rename one" in done.output
    assert list(tmp_path.iterdir()) == [source]


def test_what_is_written_aside_is_as_private_as_what_it_replaces(tmp_path: Path) -> None:
    """From its first byte."""
    path = tmp_path / "out.csv"
    path.touch(0o600)
    file = PartFile(path)
    assert file.aside.stat().st_mode & 0o777 == 0o600
    file.close()
