"""A bundle tried out in a process of its own, which can crash or hang instead of its caller."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import orjson

from iris_api.bundle.model import Model
from iris_api.bundle.store import Bundle
from iris_api.errors import BundleError, IrisError

REFUSED = 65
"""Exit status for a bundle that was refused; `EX_DATAERR` of sysexits.h."""
PATIENCE = 120.0
"""Seconds that it may take."""


def verify(directory: Path, manifest: Path | None = None) -> Bundle:
    """Load a bundle in a process of its own, and have it predict.

    Digests, versions and contract are checked, the golden rows replayed, and one row of the
    features' examples answered as a request would be.

    Args:
        directory: The bundle's directory.
        manifest: The manifest to go by, if it is not the one that serves there.

    Raises:
        BundleError: with one sentence that says what is wrong.
    """
    found = Bundle.load(directory, manifest)
    paths = [str(path.absolute()) for path in (directory, manifest) if path]
    command = [sys.executable, "-m", __name__, *paths]
    home = Path(__file__).parent.parent.parent
    try:
        ended = subprocess.run(  # noqa: S603  # this very program, on paths
            command, cwd=home, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BundleError(f"{directory} took over {PATIENCE:.0f} s to load") from error
    if ended.returncode:
        raise BundleError(_why(directory, ended))
    return found


def _why(directory: Path, ended: subprocess.CompletedProcess[str]) -> str:
    if ended.returncode < 0:
        killer = signal.Signals(-ended.returncode).name
        return f"{directory} can't be loaded: its process was ended by {killer}"
    last = (ended.stderr.strip().splitlines() or ["it said nothing"])[-1]
    return last if ended.returncode == REFUSED else f"{directory} can't be loaded: {last}"


def _try_out(directory: Path, manifest: Path | None = None) -> None:
    model = Model.of(Bundle.load(directory, manifest), max_rows=1)
    model.answer(orjson.dumps(model.manifest.contract.example))


if __name__ == "__main__":
    try:
        _try_out(*map(Path, sys.argv[1:]))
    except IrisError as refusal:
        sys.stderr.write(f"{refusal}\n")
        sys.exit(REFUSED)
