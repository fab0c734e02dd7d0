"""`flask --app wsgi score IN.csv OUT.csv`: bulk scoring without a server."""

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
from flask import current_app
from flask.cli import with_appcontext

from iris_api.bundle.files import PART, PartFile
from iris_api.bundle.model import Model
from iris_api.cli.commands import OneLineErrors
from iris_api.errors import TableError
from iris_api.scoring.resuming import Job, Run, Stream
from iris_api.scoring.scorer import Scorer, score_all
from iris_api.scoring.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager

    from flask import Flask

    from iris_api.scoring.resuming import Reached
    from iris_api.scoring.scorer import Scored

STREAM = Path("-")
SOME_REJECTED, INTERRUPTED = 3, 130
FILE = click.Path(dir_okay=False, allow_dash=True, path_type=Path)


def init_app(app: Flask) -> None:
    """Add the command to `flask`."""
    app.cli.add_command(score)


@click.command("score", cls=OneLineErrors)
@click.argument("source", metavar="IN", type=FILE)
@click.argument("output", metavar="OUT", type=FILE)
@click.option(
    "--rejects",
    type=FILE,
    help="File for rows that break the contract, with line and reasons. "
    "Left out: OUT.rejects.csv, or standard error if OUT is -, where the summary begins with #.",
)
@with_appcontext
@click.pass_context
def score(ctx: click.Context, source: Path, output: Path, rejects: Path | None) -> None:
    """Predict the rows of IN, a CSV file with a header, and write them to OUT with the answers.

    Columns may come in any order, and others than the model's are carried through. A - is standard
    input or output. OUT appears when it is whole; the same command again goes on with a run that
    was stopped. Without rejects no file is made for them, and one that is there is left with its
    header alone.

    The exit status is 0 if all rows were scored, 3 if some were rejected, 1 if there is no OUT for
    another reason, 130 after Ctrl-C, SIGTERM or SIGHUP.
    """
    settings = current_app.extensions["iris_api"].settings
    if rejects is None:
        rejects = output if output == STREAM else output.with_name(f"{output.name}.rejects.csv")
    output, rejects = (path if path == STREAM else path.resolve() for path in (output, rejects))
    with _opened(source) as file:
        given = _regular(source, file)
        _refuse_overlap(given, output, rejects)
        table = Table(file, "standard input" if source == STREAM else str(source))
        model = Model.load(settings.model_dir, max_rows=1)
        scorer = Scorer(model, table)
        job = None
        if given and output != STREAM:
            job = Job.of(source, given, scorer.header, model.version, rejects)
        with _run(output, rejects, job) as run:
            _begin(run, scorer, table, rejects)
            # One more than processors: one of them waits for the interpreter.
            made = score_all(scorer, table.chunks(scorer.wanted), threads=settings.workers + 1)
            _add_all(run, made, given, hidden=rejects == STREAM)
            if given and _state(os.fstat(file.fileno())) != _state(given):
                raise TableError(f"{source} was changed while it was read: start again")
            run.finish()
    _tell(_summary(run.reached, rejects), rejects)
    ctx.exit(SOME_REJECTED if run.reached.rejected else 0)


def _begin(run: Run, scorer: Scorer, table: Table, rejects: Path) -> None:
    place = run.begin(scorer)
    if place:
        table.go_on(place)
        _tell(f"Going on after {_rows(run.reached.done)} of the run before.", rejects)
    elif run.outdated:
        _tell("Starting over: the run before had another input, model or option.", rejects)


def _add_all(
    run: Run, made: Iterable[Scored], given: os.stat_result | None, *, hidden: bool
) -> None:
    before, began = run.reached, time.monotonic()

    def shown(_: object) -> str:
        done = run.reached.done
        return f"{_rows(done)}, {(done - before.done) / (time.monotonic() - began):,.0f}/s"

    with click.progressbar(
        iter(()),
        length=given and given.st_size,
        label="Scoring",
        item_show_func=shown,
        file=sys.stderr,
        hidden=hidden or not sys.stderr.isatty(),
    ) as bar:
        bar.update(before.place.offset if before.place else 0)
        for scored in made:
            run.add(scored)
            bar.update(scored.end.offset - bar.pos)


def _summary(reached: Reached, rejects: Path) -> str:
    seen = "above" if rejects == STREAM else f"see {rejects}"
    rejected = f", {reached.rejected:,} rejected ({seen})" if reached.rejected else ""
    return f"{_rows(reached.rows)} scored{rejected}"


@contextmanager
def _opened(source: Path) -> Iterator[BinaryIO]:
    try:
        opened: AbstractContextManager[BinaryIO] = (
            nullcontext(sys.stdin.buffer) if source == STREAM else source.open("rb")
        )
    except OSError as error:
        raise TableError(f"{source} can't be read ({error.strerror})") from error
    with opened as file:
        yield file


def _regular(source: Path, file: BinaryIO) -> os.stat_result | None:
    """What is known of a file that another run can read again."""
    given = None if source == STREAM else os.fstat(file.fileno())
    return given if given and stat.S_ISREG(given.st_mode) else None


def _state(known: os.stat_result) -> tuple[int, int]:
    """What would be another if the content were."""
    return known.st_size, known.st_mtime_ns


@contextmanager
def _run(output: Path, rejects: Path, job: Job | None) -> Iterator[Run]:
    """A run on the files, which are left as they can be gone on with if it is stopped."""
    with (
        _writing(output, sys.stdout) as out,
        _writing(rejects, sys.stderr) as others,
        _as_interrupts(signal.SIGTERM, signal.SIGHUP),
    ):
        run = Run(out, others, _checkpoint(output), job)
        try:
            yield run
        except TableError:
            run.discard()
            raise
        except BaseException as error:
            hint = ": the same command goes on with it" if run.stop() else ""
            if isinstance(error, KeyboardInterrupt):
                _tell(f"Stopped after {_rows(run.reached.done)}{hint}", rejects)
                raise click.exceptions.Exit(INTERRUPTED) from error
            if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
                raise TableError(f"stopped ({error.strerror}){hint}") from error
            raise


@contextmanager
def _as_interrupts(*signals: signal.Signals) -> Iterator[None]:
    """Let signals that would end the process at once end it as Ctrl-C does; `nohup` has its way."""
    taken = [one for one in signals if signal.getsignal(one) == signal.SIG_DFL]
    for one in taken:
        signal.signal(one, signal.default_int_handler)
    try:
        yield
    finally:
        for one in taken:
            signal.signal(one, signal.SIG_DFL)


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _tell(told: str, rejects: Path) -> None:
    """A line on standard error, marked where it stands beside rejects, which are CSV."""
    click.echo(f"# {told}" if rejects == STREAM else told, err=True)


def _checkpoint(output: Path) -> Path:
    return output.with_name(f"{output.name}{PART}.json")


@contextmanager
def _writing(path: Path, stream: TextIO) -> Iterator[PartFile | Stream]:
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


def _refuse_overlap(given: os.stat_result | None, output: Path, rejects: Path) -> None:
    """No file may be two of input, output and rejects, nor one that is written aside."""
    written = [path for path in (output, rejects) if path != STREAM]
    for path in written:
        if path.exists() and not path.is_file():
            raise TableError(f"{path} is no regular file: write to - instead")
    if output == rejects != STREAM:
        raise TableError("OUT and the rejects are the same file")
    taken = [one for path in written for one in (path, path.with_name(f"{path.name}{PART}"))]
    if output != STREAM:
        taken.append(_checkpoint(output))
    if len(set(taken)) < len(taken):
        raise TableError("OUT, the rejects and what is written aside are not apart: rename one")
    for one in taken:
        if given and one.exists() and os.path.samestat(one.stat(), given):
            raise TableError(f"the input is {one}, which is to be written")
