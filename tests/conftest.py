"""Fixtures for all tests: a trained bundle, its estimator, an app with one API key, its client."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier

import train
from iris_api import create_app
from iris_api.bundle.files import locked
from iris_api.bundle.manifest import Content, Evaluation
from iris_api.bundle.store import Bundle
from iris_api.contract.columns import FeatureSpec
from iris_api.contract.contract import Contract
from iris_api.settings import Settings
from iris_api.training.export import export, tool_versions
from iris_api.training.reference import reference
from iris_api.web.flask_app import StatelessFlask
from iris_api.web.keys import digest_of, new_key

from .api_document import ApiDocument, CheckedClient
from .bundles import artefact_file, content_of, pickle_only, reseal
from .constants import FLOWER, ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from flask import Flask
    from flask.testing import FlaskClient
    from numpy.typing import NDArray


StatelessFlask.test_client_class = CheckedClient

__all__ = ["FLOWER", "ROOT", "artefact_file", "content_of", "pickle_only", "reseal"]


@dataclass(frozen=True)
class Key:
    """An API key and its entry in IRIS_API_KEYS."""

    secret: str
    entry: str

    @property
    def headers(self) -> dict[str, str]:
        return {"X-API-Key": self.secret}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the system tests, which take longest: short tests fill the gaps at the end.

    Those in `tests/system` run without coverage, which would slow them down: what they test runs
    in other processes.
    """
    items.sort(key=lambda item: item.get_closest_marker("system") is None)
    for item in items:
        if item.path.is_relative_to(ROOT / "tests" / "system"):
            item.add_marker("no_cover")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove this machine's settings from the environment of every test."""
    for name in os.environ:
        if name.startswith("IRIS_") or name in {"PORT", "WEB_CONCURRENCY", "FLASK_RUN_FROM_CLI"}:
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def run_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that all pytest-xdist workers of this run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def trained(run_directory: Path) -> Path:
    """The bundle that `python train.py` writes. Read only: copy it to change it."""
    directory = run_directory / "trained" / "model"
    directory.parent.mkdir(exist_ok=True)
    with locked(directory.parent):
        if not directory.exists():
            result = CliRunner().invoke(train.train, ["--model-dir", str(directory)])
            assert result.exit_code == 0, result.output
    return directory


@pytest.fixture
def model_dir(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained bundle that a test may break."""
    return shutil.copytree(trained, tmp_path / "model")


@pytest.fixture(scope="session")
def forest() -> RandomForestClassifier:
    """The estimator of `train.py`, fitted by scikit-learn in this process."""
    rows, labels = load_iris(return_X_y=True)
    return RandomForestClassifier(n_estimators=100, random_state=42).fit(rows, labels)


@pytest.fixture(scope="session")
def key() -> Key:
    """The API key of a caller named `shop`."""
    secret = new_key()
    return Key(secret, f"shop:{digest_of(secret)}")


@pytest.fixture(scope="session")
def app(trained: Path, key: Key) -> Flask:
    """The application on the trained bundle; it accepts `key`."""
    return create_app(Settings(model_dir=trained, api_keys=key.entry))


@pytest.fixture(scope="session")
def api_document(app: Flask) -> ApiDocument:
    """The OpenAPI document of the trained bundle, to check responses against."""
    return ApiDocument(json.loads(app.extensions["iris_documents"].current().body))


@pytest.fixture
def client(app: Flask, key: Key) -> FlaskClient:
    """A client that sends `key` with every request."""
    client = app.test_client()
    client.environ_base["HTTP_X_API_KEY"] = key.secret
    return client


@pytest.fixture
def stranger(app: Flask) -> FlaskClient:
    """A client without a key."""
    return app.test_client()


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Bundle]:
    """Save a bundle of any estimator, with features named a, b, c..."""

    def save(estimator: Any, rows: NDArray[Any], labels: NDArray[Any], **feature: Any) -> Bundle:
        count = len(estimator.classes_)
        contract = Contract(
            features=tuple(
                FeatureSpec(name=chr(ord("a") + i), example=float(rows[0][i]), **feature)
                for i in range(rows.shape[1])
            ),
            classes=tuple(f"class {i}" for i in range(count)),
        )
        exported = export(estimator, contract, rows=rows, name="other")
        content = Content(
            name="other",
            contract=contract,
            versions=tool_versions(),
            evaluation=Evaluation(
                method="none", rows=len(rows), accuracy=0, log_loss=0, confusion_matrix=()
            ),
            reference=reference(rows, labels, count),
            golden=exported.golden,
        )
        return Bundle.save(tmp_path / "saved", content, exported.artefacts)

    return save
