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
    """Run `flask model ...` on a bundle."""
    runner = create_app(Settings(model_dir=model_dir)).test_cli_runner()
    return lambda *arguments: runner.invoke(args=["model", *map(str, arguments)])


@pytest.fixture
def other(model_dir: Path, tmp_path: Path) -> Bundle:
    """Another version, in another directory."""
    return reseal(shutil.copytree(model_dir, tmp_path / "other"), name="other")


def test_a_bundle_is_verified_activated_shown_and_rolled_back(
    model: Any, model_dir: Path, other: Bundle
) -> None:
    """Each command prints the version that it verified or that serves now."""
    old, new = Bundle.load(model_dir).manifest.version, other.manifest.version
    assert model("verify", other.directory).output.startswith(f"Fit to serve: other {new}")
    assert model("activate", other.directory).output == (
        f"Activated other {new} (onnxruntime, 4 features, 3 classes, accuracy 0.953)\n"
    )
    assert Bundle.load(model_dir).manifest == other.manifest.model_copy()
    lines = model("show").output.splitlines()
    assert [line.split()[2] for line in lines] == [new, old]
    assert model("rollback").output.startswith(f"Activated iris {old}")
    assert model("rollback").output.startswith(f"Activated other {new}")


def test_a_bundle_that_fails_is_not_activated(model: Any, model_dir: Path, other: Bundle) -> None:
    """A broken artefact is one line and status 1, and the old bundle stays."""
    old = Bundle.load(model_dir).manifest
    (other.directory / other.manifest.served.path).write_bytes(b"x")
    for command in ("verify", "activate"):
        result = model(command, other.directory)
        assert result.exit_code == 1
        assert result.output.startswith("Error: ")
        assert result.output.count("\n") == 1
    assert Bundle.load(model_dir).manifest == old


def test_a_directory_that_can_not_be_activated_is_refused(
    model: Any, model_dir: Path, tmp_path: Path
) -> None:
    """The served directory, a missing or empty one, and a rollback without a previous bundle."""
    for arguments, message in (
        (("activate", model_dir), "is the directory that serves"),
        (("activate", tmp_path / "none"), "does not exist"),
        (("activate", tmp_path), "no bundle in"),
        (("rollback",), "nothing to go back to"),
    ):
        result = model(*arguments)
        assert result.exit_code != 0
        assert message in result.output.replace("\n", " ")


def test_a_change_of_the_contract_is_announced(model: Any, other: Bundle) -> None:
    """`activate` says so, as callers may have to send other input from now on."""
    contract = other.manifest.contract
    wider = contract.features[0].model_copy(update={"maximum": 99.0})
    changed = contract.model_copy(update={"features": (wider, *contract.features[1:])})
    reseal(other.directory, contract=changed)
    assert "Its contract is another" in model("activate", other.directory).output


@pytest.mark.parametrize("damage", ["manifest.json", "artefacts", "all"])
def test_activating_a_good_bundle_repairs_a_broken_one(
    model: Any, model_dir: Path, other: Bundle, damage: str
) -> None:
    """Whatever is broken in the served directory, and also if the directory is missing."""
    if damage == "manifest.json":
        (model_dir / damage).write_text("{")
    elif damage == "artefacts":
        next(model_dir.glob("*/*.onnx")).unlink()
    else:
        shutil.rmtree(model_dir)
    assert model("activate", other.directory).exit_code == 0
    assert Bundle.load(model_dir).manifest == other.manifest
