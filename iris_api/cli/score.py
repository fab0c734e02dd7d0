"""`flask --app wsgi score IN.csv OUT.csv`: predictions for a CSV file, without a server."""

from __future__ import annotations

import os
import signal
import stat
import sys
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TextIO

import click
from flask.cli import with_appcontext

from iris_api.bundle.files import PART, PartFile
from iris_api.bundle.model import Model
from iris_api.errors import TableError
from iris_api.scoring.resuming import Job, Run, Stream
from iris_api.scoring.scorer import Scorer, score_all
from iris_api.scoring.table import Table

from .groups import OperatorCommand, current_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager

    from iris_api.scoring.resuming import Progress
    from iris_api.scoring.scorer import Scored

STREAM = Path("-")
SOME_REJECTED, INTERRUPTED = 3, 130
FILE = click.Path(dir_okay=False, allow_dash=True, path_type=Path)


@click.command("score", cls=OperatorCommand)
@click.argument("source", metavar="IN", type=FILE)
@click.argument("output", metavar="OUT", type=FILE)
@click.option(
    "--rejects",
    type=FILE,
    help="File for rows that break the contract, with line and reasons. "
    "Default: OUT.rejects.csv, or standard error if OUT is -, where the summary begins with #.",
)
@with_appcontext
@click.pass_context
def score(ctx: click.Context, source: Path, output: Path, rejects: Path | None) -> None:
    """Predict the rows of IN, a CSV file with a header, and write them to OUT with the answers.

    Columns may come in any order, and columns that the model does not use are copied. A - is
    standard input or output. OUT appears when it is complete; the same command again goes on with a
    run that was stopped. Without rejected rows no file is made for them, and an existing one is
    left with its header alone.

    The exit status is 0 if all rows were scored, 3 if some were rejected, 1 if there is no OUT for
    another reason, 130 after Ctrl-C, SIGTERM or SIGHUP.
    """
    if rejects is None:
        rejects = output if output == STREAM else output.with_name(f"{output.name}.rejects.csv")
    output, rejects = (path if path == STREAM else path.resolve() for path in (output, rejects))
    progress = _score(source, output, rejects)
    where = "above" if rejects == STREAM else f"see {rejects}"
    rejected = f", {progress.rejected:,} rejected ({where})" if progress.rejected else ""
    _print(f"{_rows(progress.rows)} scored{rejected}", rejects)
    ctx.exit(SOME_REJECTED if progress.rejected else 0)


def _score(source: Path, output: Path, rejects: Path) -> Progress:
    settings = current_settings()
    with _open_input(source) as file:
        state = _regular_file(source, file)
        _refuse_overlap(state, output, rejects)
        table = Table(file, "standard input" if source == STREAM else str(source))
        model = Model.load(settings.model_dir, max_rows=1)
        scorer = Scorer(model, table)
        job = None
        if state and output != STREAM:
            job = Job.of(source, state, scorer.header, model.version, rejects)
        with _running(output, rejects, job) as run:
            _begin(run, scorer, table, rejects)
            chunks = table.chunks(scorer.feature_columns)
            # One thread more than processors, as one of them always waits for the interpreter.
            results = score_all(scorer, chunks, threads=settings.workers + 1)
            _add_all(run, results, state, hidden=rejects == STREAM)
            if state and _version(os.fstat(file.fileno())) != _version(state):
                raise TableError(f"{source} was changed while it was read: start again")
            run.finish()
    return run.progress


def _begin(run: Run, scorer: Scorer, table: Table, rejects: Path) -> None:
    place = run.begin(scorer)
    if place:
        table.resume(place)
        _print(f"Going on after {_rows(run.progress.done)} of the run before.", rejects)
    elif run.outdated:
        _print("Starting over: the run before had another input, model or option.", rejects)


def _add_all(
    run: Run, results: Iterable[Scored], state: os.stat_result | None, *, hidden: bool
) -> None:
    """Write all results, with a progress bar on a terminal."""
    before, started = run.progress, time.monotonic()

    def rate(_: object) -> str:
        done = run.progress.done
        return f"{_rows(done)}, {(done - before.done) / (time.monotonic() - started):,.0f}/s"

    with click.progressbar(
        iter(()),
        length=state and state.st_size,
        label="Scoring",
        item_show_func=rate,
        file=sys.stderr,
        hidden=hidden or not sys.stderr.isatty(),
    ) as bar:
        bar.update(before.place.offset if before.place else 0)
        for scored in results:
            run.add(scored)
            bar.update(scored.end.offset - bar.pos)


@contextmanager
def _open_input(source: Path) -> Iterator[BinaryIO]:
    try:
        opened: AbstractContextManager[BinaryIO] = (
            nullcontext(sys.stdin.buffer) if source == STREAM else source.open("rb")
        )
    except OSError as error:
        raise TableError(f"{source} can't be read ({error.strerror})") from error
    with opened as file:
        yield file


def _regular_file(source: Path, file: BinaryIO) -> os.stat_result | None:
    """The state of a regular file, which another run can read again; None for anything else."""
    state = None if source == STREAM else os.fstat(file.fileno())
    return state if state and stat.S_ISREG(state.st_mode) else None


def _version(state: os.stat_result) -> tuple[int, int]:
    """What changes when the content changes."""
    return state.st_size, state.st_mtime_ns


@contextmanager
def _running(output: Path, rejects: Path, job: Job | None) -> Iterator[Run]:
    """A run that keeps what can be resumed when it is interrupted."""
    with (
        _open_output(output, sys.stdout) as scored,
        _open_output(rejects, sys.stderr) as rejected,
        _as_interrupts(signal.SIGTERM, signal.SIGHUP),
    ):
        run = Run(scored, rejected, _checkpoint(output), job)
        try:
            yield run
        except TableError:
            run.discard()
            raise
        except BaseException as error:
            hint = ": the same command goes on with it" if run.interrupt() else ""
            if isinstance(error, KeyboardInterrupt):
                _print(f"Stopped after {_rows(run.progress.done)}{hint}", rejects)
                raise click.exceptions.Exit(INTERRUPTED) from error
            if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
                raise TableError(f"stopped ({error.strerror}){hint}") from error
            raise


@contextmanager
def _as_interrupts(*signals: signal.Signals) -> Iterator[None]:
    """Treat these signals as Ctrl-C, unless the process ignores them, as it does under `nohup`."""
    changed = [number for number in signals if signal.getsignal(number) == signal.SIG_DFL]
    for number in changed:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _print(message: str, rejects: Path) -> None:
    """Print to stderr, as a comment if the rejects, which are CSV, go there too."""
    click.echo(f"# {message}" if rejects == STREAM else message, err=True)


def _checkpoint(output: Path) -> Path:
    return output.with_name(f"{output.name}{PART}.json")


@contextmanager
def _open_output(path: Path, stream: TextIO) -> Iterator[PartFile | Stream]:
    if path == STREAM:
        yield Stream(stream.buffer)
        return
    try:
        file = PartFile(path)
    except BlockingIOError as error:
        raise TableError(f"another run is writing {path}") from error
    except OSError as error:
        raise TableError(f"{path} can't be written ({error.strerror})") from error
    try:
        yield file
    finally:
        file.close()


def _refuse_overlap(state: os.stat_result | None, output: Path, rejects: Path) -> None:
    """Input, output, rejects and their temporary files must be different files."""
    written = [path for path in (output, rejects) if path != STREAM]
    for path in written:
        if path.exists() and not path.is_file():
            raise TableError(f"{path} is not a regular file: write to - instead")
    if output == rejects != STREAM:
        raise TableError("OUT and the rejects are the same file")
    paths = [one for path in written for one in (path, path.with_name(f"{path.name}{PART}"))]
    if output != STREAM:
        paths.append(_checkpoint(output))
    if len(set(paths)) < len(paths):
        raise TableError("OUT, the rejects and their temporary files share a name: rename one")
    for path in paths:
        if state and path.exists() and os.path.samestat(path.stat(), state):
            raise TableError(f"the input is {path}, which this run would overwrite")
