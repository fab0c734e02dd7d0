from __future__ import annotations

import ast
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import iris_api
from iris_api import create_app
from iris_api.errors import BundleError, KeyFileError
from iris_api.settings import Settings
from tests.constants import ROOT

if TYPE_CHECKING:
    from pathlib import Path

ROOMS_WITHOUT_A_WEB_SERVER = ("bundle", "contract", "monitoring", "scoring", "training")


@pytest.mark.parametrize("room", ROOMS_WITHOUT_A_WEB_SERVER)
def test_training_and_scoring_import_no_web_server(room: str) -> None:
    """Training, the command line and the benchmarks use these rooms without Flask."""
    modules = [f"iris_api.{room}.{path.stem}" for path in (ROOT / "iris_api" / room).glob("*.py")]
    script = (
        f"import sys, {', '.join(modules)}; "
        "print(*[m for m in ('flask', 'werkzeug', 'gunicorn') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == ""


def test_reading_the_settings_loads_no_numeric_library() -> None:
    """Gunicorn sets their threads in the environment after that, and before they load."""
    script = "import sys, iris_api.settings; print('numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "False"


def test_the_package_has_nothing_else_to_offer() -> None:
    """A misspelt import fails as it should."""
    with pytest.raises(AttributeError, match="has no attribute 'make_app'"):
        _ = iris_api.make_app


def test_the_package_knows_no_flower() -> None:
    """Features and classes come with the bundle: no module names one."""
    for path in (ROOT / "iris_api").rglob("*.py"):
        text = path.read_text().lower()
        assert not [word for word in ("sepal", "petal", "setosa", "virginica") if word in text], (
            path
        )


def test_only_the_settings_read_the_environment() -> None:
    """One place to look for what can be set."""
    readers = set()
    for path in (ROOT / "iris_api").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}:
                owner = node.value
                readers |= {path.name} if getattr(owner, "id", "") == "os" else set()
    # Written, not read: ONNX Runtime and prometheus_client can be told some things by it only.
    assert readers == {"settings.py", "runtimes.py"}


def test_an_app_on_a_broken_bundle_is_not_built(tmp_path: Path) -> None:
    """It does not start on it."""
    with pytest.raises(BundleError):
        create_app(Settings(model_dir=tmp_path))


def test_an_app_without_its_key_file_is_not_built(trained: Path, tmp_path: Path) -> None:
    """Nor on keys that can't be read."""
    with pytest.raises(KeyFileError):
        create_app(Settings(model_dir=trained, api_keys_file=tmp_path / "none"))


def test_building_twice_gives_two_apps(trained: Path) -> None:
    """The factory keeps no state."""
    one, other = (create_app(Settings(model_dir=trained)) for _ in range(2))
    assert one.extensions["iris_api"].keys.own_key != other.extensions["iris_api"].keys.own_key
