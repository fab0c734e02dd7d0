from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from iris_api.bundle import verification
from iris_api.bundle.store import Bundle
from iris_api.errors import BundleError
from tests.conftest import reseal

if TYPE_CHECKING:
    from pathlib import Path


def test_a_whole_bundle_is_fit_to_serve(trained: Path) -> None:
    """And told what it is."""
    assert verification.verify(trained).manifest == Bundle.load(trained).manifest


def test_a_bundle_that_gives_other_answers_is_refused(model_dir: Path) -> None:
    """Its digests are right: it has to be tried."""
    golden = Bundle.load(model_dir).manifest.golden
    turned = [tuple(reversed(row)) for row in golden.probabilities]
    reseal(model_dir, golden=golden.model_copy(update={"probabilities": tuple(turned)}))
    with pytest.raises(BundleError, match="does not give the golden rows' probabilities"):
        verification.verify(model_dir)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "was ended by SIGSEGV"),
        ("raise MemoryError('no room')", "can't be loaded: MemoryError: no room"),
        ("raise SystemExit(7)", "can't be loaded: no message"),
        ("import time; time.sleep(60)", "took over 1 s to load"),
    ],
)
def test_a_load_that_ends_its_process_is_a_refusal(
    trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str, message: str
) -> None:
    """A crash, a hang and a failure no one thought of."""
    module = tmp_path / "crash.py"
    module.write_text(program)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(verification, "__name__", "crash")
    monkeypatch.setattr(verification, "TIMEOUT", 1.0)
    with pytest.raises(BundleError, match=message):
        verification.verify(trained)
