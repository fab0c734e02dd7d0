from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import joblib
import pytest

from iris_api.bundle import verification
from iris_api.bundle.store import ArtefactFile, Bundle
from iris_api.errors import BundleError
from tests.conftest import reseal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_verifying_a_whole_bundle_returns_it(trained: Path) -> None:
    """The caller gets the manifest that was verified."""
    assert verification.verify(trained).manifest == Bundle.load(trained).manifest


def test_a_bundle_with_other_probabilities_is_refused(model_dir: Path) -> None:
    """Its digests are right, so only a prediction shows the difference."""
    golden = Bundle.load(model_dir).manifest.golden
    reversed_ = [tuple(reversed(row)) for row in golden.probabilities]
    reseal(model_dir, golden=golden.model_copy(update={"probabilities": tuple(reversed_)}))
    with pytest.raises(BundleError, match="does not give the golden rows' probabilities"):
        verification.verify(model_dir)


class CallsWhenUnpickled:
    """An object that calls a function when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ((os.abort,), "was ended by SIGABRT"),
        ((exec, "raise GeneratorExit('unforeseen')"), "can't be loaded: GeneratorExit: unforeseen"),
        ((exec, "raise SystemExit(7)"), "can't be loaded: no message"),
        ((time.sleep, 60), "took over 1 s to load"),
    ],
    ids=["crash", "unforeseen error", "exit", "hang"],
)
def test_a_bundle_that_ends_or_blocks_its_process_is_refused(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch, call: tuple[Any, ...], message: str
) -> None:
    """The process that asked goes on."""
    if "1 s" in message:
        monkeypatch.setattr(verification, "TIMEOUT", 1.0)
    joblib.dump(CallsWhenUnpickled(*call), model_dir / "pickle")
    pickle = ArtefactFile("x.joblib", "scikit-learn", (model_dir / "pickle").read_bytes())
    reseal(model_dir, [pickle])
    with pytest.raises(BundleError, match=message):
        verification.verify(model_dir)
