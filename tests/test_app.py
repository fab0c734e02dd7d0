"""The package and its application factory."""

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


def test_reading_the_settings_imports_no_numeric_library() -> None:
    """Gunicorn sets their thread counts in the environment afterwards, before they load."""
    script = "import sys, iris_api.settings; print('numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "False"


def test_an_unknown_name_in_the_package_is_an_attribute_error() -> None:
    """So a misspelt import fails as usual."""
    with pytest.raises(AttributeError, match="has no attribute 'make_app'"):
        _ = iris_api.make_app


def test_the_package_names_no_feature_or_class_of_iris() -> None:
    """Features and classes come with the bundle."""
    for path in (ROOT / "iris_api").rglob("*.py"):
        text = path.read_text().lower()
        assert not [word for word in ("sepal", "petal", "setosa", "virginica") if word in text], (
            path
        )


def test_only_the_settings_read_the_environment() -> None:
    """One place shows everything that can be set."""
    readers = set()
    for path in (ROOT / "iris_api").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}:
                owner = node.value
                readers |= {path.name} if getattr(owner, "id", "") == "os" else set()
    # runtimes.py writes: ONNX Runtime takes some options from the environment alone.
    assert readers == {"settings.py", "runtimes.py"}


def test_an_app_without_a_bundle_is_an_error(tmp_path: Path) -> None:
    """It is not created."""
    with pytest.raises(BundleError):
        create_app(Settings(model_dir=tmp_path))


def test_an_app_without_its_key_file_is_an_error(trained: Path, tmp_path: Path) -> None:
    """It is not created."""
    with pytest.raises(KeyFileError):
        create_app(Settings(model_dir=trained, api_keys_file=tmp_path / "none"))


def test_each_call_creates_a_separate_app(trained: Path) -> None:
    """The factory keeps no state."""
    one, other = (create_app(Settings(model_dir=trained)) for _ in range(2))
    assert one.extensions["iris_api"].keys.own_key != other.extensions["iris_api"].keys.own_key
