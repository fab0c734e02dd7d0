from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from itertools import count
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
    """Run `flask score ...` on a bundle."""
    runner = create_app(Settings(model_dir=model_dir)).test_cli_runner()
    return lambda *args, stdin=None: runner.invoke(args=["score", *map(str, args)], input=stdin)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file of three rows; one of them breaks the contract."""
    path = tmp_path / "in.csv"
    path.write_text(f"{HEADER}\n{GOOD}\n{BAD}\n{GOOD}\n")
    return path


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read chunks of a few rows, and write a checkpoint after every second one."""
    monkeypatch.setattr(table, "CHUNK_BYTES", 100)
    monkeypatch.setattr(resuming, "CHECKPOINT_CHUNKS", 2)


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} - {"model"}


def test_good_rows_and_rejects_go_to_a_file_each(
    score: Callable[..., Result], source: Path, tmp_path: Path
) -> None:
    """The status is 3 while there are rejects; once the input is corrected it is 0, with none."""
    out, rejects = tmp_path / "out.csv", tmp_path / "out.csv.rejects.csv"
    result = score(source, out)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == f"2 rows scored, 1 rejected (see {rejects})\n"
    assert out.read_text().splitlines()[1].startswith(f"{GOOD},virginica,1.0,")
    assert rejects.read_text() == (
        f"line,reasons,{HEADER}\n3,petal_length: Input should be less than or equal to 10,{BAD}\n"
    )
    source.write_text(f"{HEADER}\n{GOOD}\n")
    result = score(source, out)
    assert (result.exit_code, result.stderr) == (0, "1 row scored\n")
    assert rejects.read_text() == f"line,reasons,{HEADER}\n"


def test_without_rejects_no_file_is_made_for_them_and_none_is_removed(
    score: Callable[..., Result], source: Path, tmp_path: Path
) -> None:
    """An existing file is replaced by a header alone, and keeps its mode."""
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


def test_rejects_can_have_a_name_and_files_can_be_streams(
    score: Callable[..., Result], source: Path, tmp_path: Path
) -> None:
    """The command reads stdin and writes stdout; without a file, rejects go to stderr."""
    out, rejects = tmp_path / "out.csv", tmp_path / "bad.csv"
    assert score(source, out, "--rejects", rejects).exit_code == 3
    piped = score("-", "-", stdin=source.read_bytes())
    assert piped.exit_code == 3
    assert piped.stdout == out.read_text()
    assert piped.stderr == f"{rejects.read_text()}# 2 rows scored, 1 rejected (above)\n"
    assert score("-", "-", "--rejects", tmp_path / "r", stdin=source.read_bytes()).exit_code == 3
    assert (tmp_path / "r").read_text() == rejects.read_text()
    assert score("-", tmp_path / "o", "--rejects", "-", stdin=source.read_bytes()).exit_code == 3
    assert (tmp_path / "o").read_text() == out.read_text()


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (None, ["in.csv", "out.csv"], "in.csv can't be read (No such file or directory)"),
        ("", ["in.csv", "out.csv"], "in.csv: the file is empty"),
        ("a,b\n", ["in.csv", "out.csv"], "in.csv: the header has no column sepal_length"),
        (HEADER, ["in.csv", "none/out.csv"], "out.csv can't be written (No such file"),
        (HEADER, ["in.csv", "out.csv", "--rejects", "none/r.csv"], "r.csv can't be written"),
        (HEADER, ["in.csv", "in.csv"], "which this run would overwrite"),
        (HEADER, ["in.csv", "link.csv"], "which this run would overwrite"),
        (HEADER, ["in.csv", "out.csv", "--rejects", "in.csv"], "which this run would overwrite"),
        (HEADER, ["in.csv", "out.csv", "--rejects", "out.csv"], "are the same file"),
        (HEADER, ["in.csv", "/dev/null"], "/dev/null is not a regular file"),
    ],
)
def test_an_impossible_run_is_one_line_and_leaves_no_file(
    score: Callable[..., Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: str | None,
    arguments: list[str],
    message: str,
) -> None:
    """The status is 1, and the input is unchanged."""
    monkeypatch.chdir(tmp_path)
    Path("link.csv").symlink_to("in.csv")
    if content is not None:
        Path("in.csv").write_text(content)
    before = names(tmp_path)
    result = score(*arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert names(tmp_path) == before
    assert content is None or Path("in.csv").read_text() == content


def test_an_existing_output_is_replaced_when_the_run_is_complete(
    score: Callable[..., Result], source: Path, tmp_path: Path
) -> None:
    """It keeps its mode, a link to it is followed, and a failed run leaves it unchanged."""
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
    """The other run is not disturbed."""
    other = PartFile(tmp_path / "out.csv")
    other.write(b"its lines")
    result = score(source, tmp_path / "out.csv")
    assert (result.exit_code, "another run is writing" in result.stderr) == (1, True)
    other.publish()
    other.close()
    assert (tmp_path / "out.csv").read_bytes() == b"its lines"
    assert score(source, tmp_path / "out.csv").exit_code == 3


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("writes", [2, 3, 11, 30])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
def test_an_interrupted_run_is_resumed(
    score: Callable[..., Result],
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    writes: int,
) -> None:
    """The same command resumes it, and output and rejects are those of an undisturbed run."""
    source.write_text(f"{HEADER}\n" + f"{GOOD}\n{BAD}\n" * 100)
    assert score(source, tmp_path / "whole.csv").exit_code == 3
    out = tmp_path / "out.csv"
    with monkeypatch.context() as patch:
        fail_in_write(patch, 3 + writes, error)
        result = score(source, out)
    assert result.exit_code == (130 if isinstance(error, KeyboardInterrupt) else 1)
    assert result.stderr.count("\n") == 1
    assert "the same command goes on with it" in result.stderr
    assert not out.exists()
    result = score(source, out)
    assert result.stderr.startswith("Going on after ")
    for suffix in ("", ".rejects.csv"):
        resumed, whole = (tmp_path / f"{name}.csv{suffix}" for name in ("out", "whole"))
        assert resumed.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob("*.part*"))


def fail_in_write(patch: pytest.MonkeyPatch, writes: int, error: BaseException) -> None:
    """Raise an error in the given call of `write`, when half of its lines are written."""
    write, calls = PartFile.write, count(1)

    def failing(file: PartFile, content: bytes) -> None:
        if next(calls) >= writes:
            write(file, content[: len(content) // 2])
            raise error
        write(file, content)

    patch.setattr(PartFile, "write", failing)


def fail_after(patch: pytest.MonkeyPatch, chunks: int, error: BaseException) -> None:
    """Raise an error between two chunks."""
    add, calls = Run.add, count(1)

    def failing(run: Run, scored: Any) -> None:
        add(run, scored)
        if next(calls) == chunks:
            raise error

    patch.setattr(Run, "add", failing)


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
    """Its output has nothing of the interrupted run."""
    source.write_text(f"{HEADER}\n" + f"{GOOD}\n" * 100)
    out = tmp_path / "out.csv"
    with monkeypatch.context() as patch:
        fail_after(patch, 9, KeyboardInterrupt())
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
    result = score(source, out, *arguments)
    assert result.exit_code == 0
    assert result.stderr.startswith("Starting over: ")
    assert score(source, tmp_path / "whole.csv").exit_code == 0
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("use", ["", "other run", "input"])
def test_another_file_for_rejects_removes_the_unfinished_one(
    score: Callable[..., Result],
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    use: str,
) -> None:
    """The old `.part` file is removed, unless another run writes it or this one reads it."""
    source.write_text(f"{HEADER}\n" + f"{GOOD}\n{BAD}\n" * 100)
    left = tmp_path / "out.csv.rejects.csv.part"
    with monkeypatch.context() as patch:
        fail_after(patch, 9, KeyboardInterrupt())
        assert score(source, tmp_path / "out.csv").exit_code == 130
    assert left.stat().st_size
    if use == "input":
        left.write_text(f"{HEADER}\n{GOOD}\n")
        source = left
    other = PartFile(tmp_path / "out.csv.rejects.csv") if use == "other run" else None
    result = score(source, tmp_path / "out.csv", "--rejects", tmp_path / "others.csv")
    assert result.stderr.startswith("Starting over: ")
    assert left.exists() is bool(use)
    if other:
        other.close()


def test_a_run_interrupted_before_its_first_checkpoint_is_resumed(
    score: Callable[..., Result], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run from stdin leaves no file, as its input can't be read again."""
    for stdin, path in ((source.read_bytes(), Path("-")), (None, source)):
        with monkeypatch.context() as patch:
            fail_after(patch, 1, KeyboardInterrupt())
            result = score(path, tmp_path / "out.csv", stdin=stdin)
        assert result.exit_code == 130
        assert result.stderr.startswith("Stopped after 3 rows")
        assert ("goes on" in result.stderr) is (path == source)
        assert (names(tmp_path) == {"in.csv"}) is (path != source)
    result = score(source, tmp_path / "out.csv")
    assert result.stderr.startswith("Going on after 3 rows")
    assert names(tmp_path) == {"in.csv", "out.csv", "out.csv.rejects.csv"}


@pytest.mark.usefixtures("small_steps")
def test_a_broken_input_leaves_no_file(
    score: Callable[..., Result], source: Path, tmp_path: Path
) -> None:
    """The next run would fail as well, so there is nothing to resume."""
    source.write_text(f"{HEADER}\n" + f"{GOOD}\n" * 100 + "x" * 2_000_000)
    result = score(source, tmp_path / "out.csv")
    assert (result.exit_code, "is this a CSV file?" in result.stderr) == (1, True)
    assert names(tmp_path) == {"in.csv"}


def test_an_input_that_changes_while_it_is_read_is_refused(
    score: Callable[..., Result], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OUT is not written, as its rows would be of two versions of the input."""
    original = Run.add

    def add(run: Run, scored: Any) -> None:
        original(run, scored)
        with source.open("a") as file:
            file.write(f"{GOOD}\n")

    with monkeypatch.context() as patch:
        patch.setattr(Run, "add", add)
        result = score(source, tmp_path / "out.csv")
    assert result.exit_code == 1
    assert "in.csv was changed while it was read" in result.stderr
    assert names(tmp_path) == {"in.csv"}


def command(trained: Path, *arguments: str | Path) -> tuple[list[str], dict[str, str]]:
    """The words of `flask --app wsgi score ...` in a process of its own, and its environment."""
    environment = os.environ | {"IRIS_MODEL_DIR": str(trained)}
    flask = [sys.executable, "-m", "flask", "--app", "wsgi", "score"]
    return [*flask, *map(str, arguments)], environment


SMALL_CHECKPOINTS = """
from iris_api.scoring import resuming, table
table.CHUNK_BYTES, resuming.CHECKPOINT_CHUNKS = 64 * 1024, 8
from flask.cli import main
main()
"""


def write_rows(path: Path, count: int) -> None:
    """Random rows with another column; about one in seventy breaks the contract."""
    rows = [f"{random.uniform(4, 10.01):.2f},3.1,{i % 70 / 10},0.2,{i}" for i in range(100_000)]
    path.write_text("\n".join([f"{HEADER},id", *(rows * (count // 100_000)), ""]))


def start(words: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(words, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.system
def test_a_killed_run_is_resumed_to_the_same_bytes(
    score: Callable[..., Result], trained: Path, tmp_path: Path
) -> None:
    """After SIGKILL behind a checkpoint, twice; OUT never exists as half a file."""
    source, out, whole = (tmp_path / f"{name}.csv" for name in ("in", "out", "whole"))
    checkpoint = tmp_path / "out.csv.part.json"
    write_rows(source, 500_000)
    assert score(source, whole).exit_code == 3
    words, environment = command(trained, source, out)
    words[1:3] = ["-c", SMALL_CHECKPOINTS]
    for kill in (True, True, False):
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else None
        process = start(words, environment)
        while kill and (not checkpoint.exists() or checkpoint.stat().st_mtime_ns == before):
            assert process.poll() is None
            time.sleep(0.01)
        if kill:
            time.sleep(random.uniform(0, 0.1))
            process.send_signal(signal.SIGKILL)
        _, messages = process.communicate()
        assert kill is not out.exists()
        assert ("Going on after " in messages) is (before is not None)
    assert process.returncode == 3
    assert out.read_bytes() == whole.read_bytes()
    rejects = [path.with_name(f"{path.name}.rejects.csv").read_bytes() for path in (out, whole)]
    assert rejects[0] == rejects[1]


@pytest.mark.system
def test_a_run_ended_by_sigterm_is_resumed(trained: Path, tmp_path: Path) -> None:
    """SIGTERM works as Ctrl-C does, also before the first regular checkpoint."""
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    part = tmp_path / "out.csv.part"
    write_rows(source, 300_000)
    words, environment = command(trained, source, out)
    process = start(words, environment)
    while not part.exists() or part.stat().st_size < 1_000:  # More than the header.
        assert process.poll() is None
        time.sleep(0.01)
    assert not (tmp_path / "out.csv.part.json").exists()
    process.send_signal(signal.SIGTERM)
    _, messages = process.communicate()
    assert process.returncode == 130, messages
    assert "the same command goes on with it" in messages
    _, messages = start(words, environment).communicate()
    assert messages.startswith("Going on after ")
    assert out.read_bytes().count(b"\n") > 250_000


@pytest.mark.system
def test_a_closed_pipe_ends_the_command_quietly(trained: Path, source: Path) -> None:
    """`| head` closes the pipe, without a message; a full disk is one line."""
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
        result = subprocess.run(
            words, cwd=ROOT, env=environment, stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert result.returncode == 1
    assert result.stderr == b"Error: stopped (No space left on device)\n"


@pytest.mark.parametrize("names", [("o", "o.part"), ("r.part", "r"), ("o", "o.part.json")])
def test_a_temporary_file_may_not_be_one_of_the_others(
    app: Flask, tmp_path: Path, names: tuple[str, str]
) -> None:
    """Otherwise the rejects would be renamed over the output."""
    source = tmp_path / "in.csv"
    source.write_text(",".join(FLOWER) + "\n")
    output, rejects = (str(tmp_path / name) for name in names)
    result = app.test_cli_runner().invoke(args=["score", str(source), output, "--rejects", rejects])
    assert result.exit_code == 1
    assert "rename one" in result.output
    assert list(tmp_path.iterdir()) == [source]


def test_a_temporary_file_has_the_mode_of_the_file_it_replaces(tmp_path: Path) -> None:
    """It has it from its first byte."""
    path = tmp_path / "out.csv"
    path.touch(0o600)
    file = PartFile(path)
    assert file.aside.stat().st_mode & 0o777 == 0o600
    file.close()
