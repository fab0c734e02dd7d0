from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from iris_api import create_app
from iris_api.bundle.store import Bundle
from iris_api.settings import Settings
from tests.conftest import reseal

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def model(model_dir: Path) -> Any:
    """Runs `flask model ...` on a bundle."""
    runner = create_app(Settings(model_dir=model_dir)).test_cli_runner()
    return lambda *arguments: runner.invoke(args=["model", *map(str, arguments)])


@pytest.fixture
def other(model_dir: Path, tmp_path: Path) -> Bundle:
    """Another version, elsewhere."""
    return reseal(shutil.copytree(model_dir, tmp_path / "other"), name="other")


def test_a_bundle_is_verified_activated_shown_and_taken_back(
    model: Any, model_dir: Path, other: Bundle
) -> None:
    """Each command says which version it is about."""
    old, new = Bundle.load(model_dir).manifest.version, other.manifest.version
    assert model("verify", other.directory).output.startswith(f"Fit to serve: other {new}")
    assert model("activate", other.directory).output == (
        f"Activated other {new} (onnxruntime, 4 features, 3 classes, accuracy 0.953)\n"
    )
    assert Bundle.load(model_dir).manifest == other.manifest.model_copy()
    shown = model("show").output.splitlines()
    assert [line.split()[2] for line in shown] == [new, old]
    assert model("rollback").output.startswith(f"Activated iris {old}")
    assert model("rollback").output.startswith(f"Activated other {new}")


def test_a_bundle_that_fails_is_not_activated(model: Any, model_dir: Path, other: Bundle) -> None:
    """One line, a status, and the old one serves."""
    old = Bundle.load(model_dir).manifest
    (other.directory / other.manifest.served.path).write_bytes(b"x")
    for command in ("verify", "activate"):
        told = model(command, other.directory)
        assert told.exit_code == 1
        assert told.output.startswith("Error: ")
        assert told.output.count("\n") == 1
    assert Bundle.load(model_dir).manifest == old


def test_what_makes_no_sense_is_refused(model: Any, model_dir: Path, tmp_path: Path) -> None:
    """The directory that serves, one that is not there, and a rollback to nothing."""
    for arguments, message in (
        (("activate", model_dir), "is the directory that serves"),
        (("activate", tmp_path / "none"), "does not exist"),
        (("activate", tmp_path), "no bundle in"),
        (("rollback",), "nothing to go back to"),
    ):
        told = model(*arguments)
        assert told.exit_code != 0
        assert message in told.output.replace("\n", " ")


def test_another_contract_is_told(model: Any, other: Bundle) -> None:
    """Callers have to send other things from now on."""
    contract = other.manifest.contract
    wider = contract.features[0].model_copy(update={"maximum": 99.0})
    changed = contract.model_copy(update={"features": (wider, *contract.features[1:])})
    reseal(other.directory, contract=changed)
    assert "Its contract is another" in model("activate", other.directory).output


@pytest.mark.parametrize("harm", ["manifest.json", "artefacts", "all"])
def test_a_broken_bundle_is_mended_by_activating_a_whole_one(
    model: Any, model_dir: Path, other: Bundle, harm: str
) -> None:
    """Whatever is wrong with what serves; also where nothing has served yet."""
    if harm == "manifest.json":
        (model_dir / harm).write_text("{")
    elif harm == "artefacts":
        next(model_dir.glob("*/*.onnx")).unlink()
    else:
        shutil.rmtree(model_dir)
    assert model("activate", other.directory).exit_code == 0
    assert Bundle.load(model_dir).manifest == other.manifest
