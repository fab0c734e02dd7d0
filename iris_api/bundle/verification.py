"""Verify a bundle in a separate process, which may crash or hang without harm to its caller."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from iris_api.errors import BundleError, IrisError

from .model import Model
from .store import Bundle

REFUSED = 65
"""Exit status of the process for a refused bundle: `EX_DATAERR` in sysexits.h."""
TIMEOUT = 120.0
"""Seconds that loading and predicting may take."""


def verify(directory: Path, manifest: Path | None = None) -> Bundle:
    """Load a bundle in a separate process and predict with it.

    The process checks digests, versions and contract, replays the golden rows, and predicts the
    row of the features' examples.

    Args:
        directory: The bundle's directory.
        manifest: Another manifest to read than the one that serves there.

    Raises:
        BundleError: with one sentence that says what is wrong.
    """
    bundle = Bundle.load(directory, manifest)
    paths = [str(path.absolute()) for path in (directory, manifest) if path]
    command = [sys.executable, "-m", __name__, *paths]
    home = Path(__file__).parent.parent.parent
    try:
        process = subprocess.run(  # noqa: S603  # The arguments are paths.
            command, cwd=home, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BundleError(f"{directory} took over {TIMEOUT:.0f} s to load") from error
    if process.returncode:
        raise BundleError(_why(directory, process))
    return bundle


def _why(directory: Path, process: subprocess.CompletedProcess[str]) -> str:
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        return f"{directory} can't be loaded: its process was ended by {name}"
    last = (process.stderr.strip().splitlines() or ["no message"])[-1]
    return last if process.returncode == REFUSED else f"{directory} can't be loaded: {last}"


def _try_out(directory: Path, manifest: Path | None = None) -> None:
    model = Model.of(Bundle.load(directory, manifest), max_rows=1)
    example = model.schema.single.validate_python(model.manifest.contract.example)
    _ = model.predict([example]).first


if __name__ == "__main__":
    try:
        _try_out(*map(Path, sys.argv[1:]))
    except IrisError as refusal:
        sys.stderr.write(f"{refusal}\n")
        sys.exit(REFUSED)
