"""Fixtures: a trained bundle, the forest behind it, an app with one key, and its client."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier

import train
from iris_api import create_app
from iris_api.bundle.manifest import Content, Evaluation
from iris_api.bundle.store import ArtefactFile, Bundle
from iris_api.contract.columns import FeatureSpec
from iris_api.contract.contract import Contract
from iris_api.settings import Settings
from iris_api.training.export import export, tool_versions
from iris_api.training.reference import reference
from iris_api.web.flask_app import StatelessFlask
from iris_api.web.keys import digest_of, new_key

from .described import CheckedClient, Described

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flask import Flask
    from flask.testing import FlaskClient
    from numpy.typing import NDArray

    from iris_api.bundle.manifest import Artefact, Manifest

StatelessFlask.test_client_class = CheckedClient

ROOT = Path(__file__).parent.parent
"""The checkout."""
FLOWER = {"sepal_length": 6.7, "sepal_width": 3.0, "petal_length": 5.2, "petal_width": 2.3}


@dataclass(frozen=True)
class Key:
    """An API key and its entry for IRIS_API_KEYS."""

    secret: str
    entry: str

    @property
    def headers(self) -> dict[str, str]:
        return {"X-API-Key": self.secret}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine reaches a test."""
    for name in os.environ:
        if name.startswith("IRIS_") or name in {"PORT", "WEB_CONCURRENCY", "FLASK_RUN_FROM_CLI"}:
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle that `python train.py` writes. Read only: copy it to change it."""
    directory: Path = tmp_path_factory.mktemp("trained") / "model"
    result = CliRunner().invoke(train.train, ["--model-dir", str(directory)])
    assert result.exit_code == 0, result.output
    return directory


@pytest.fixture
def model_dir(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained bundle that a test may break."""
    return shutil.copytree(trained, tmp_path / "model")


@pytest.fixture(scope="session")
def forest() -> RandomForestClassifier:
    """The classic recipe, fitted here and now by scikit-learn itself."""
    rows, labels = load_iris(return_X_y=True)
    return RandomForestClassifier(n_estimators=100, random_state=42).fit(rows, labels)


@pytest.fixture(scope="session")
def key() -> Key:
    """An API key of a caller named `shop`."""
    secret = new_key()
    return Key(secret, f"shop:{digest_of(secret)}")


@pytest.fixture(scope="session")
def app(trained: Path, key: Key) -> Flask:
    """The application on the trained bundle, opened by one key."""
    return create_app(Settings(model_dir=trained, api_keys=key.entry))


@pytest.fixture(scope="session")
def described(app: Flask) -> Described:
    """The OpenAPI document of the trained bundle, to hold answers against."""
    return Described(json.loads(app.extensions["iris_documents"].current().body))


@pytest.fixture
def client(app: Flask, key: Key) -> FlaskClient:
    """A client that sends the key with each request."""
    client = app.test_client()
    client.environ_base["HTTP_X_API_KEY"] = key.secret
    return client


@pytest.fixture
def stranger(app: Flask) -> FlaskClient:
    """A client without a key."""
    return app.test_client()


def content_of(manifest: Manifest, **changed: Any) -> Content:
    """All of a manifest but its files, with some of it changed."""
    return Content(**{name: getattr(manifest, name) for name in Content.model_fields} | changed)


def reseal(directory: Path, files: Sequence[ArtefactFile] | None = None, **changed: Any) -> Bundle:
    """Save a bundle over itself with other artefacts or content, consistent with itself."""
    whole = Bundle.load(directory)
    if files is None:
        files = [artefact_file(whole, artefact) for artefact in whole.manifest.artefacts]
    return Bundle.save(directory, content_of(whole.manifest, **changed), files)


def artefact_file(bundle: Bundle, artefact: Artefact) -> ArtefactFile:
    """An artefact of a bundle, to be saved again."""
    name = artefact.path.rpartition("/")[2]
    return ArtefactFile(name, artefact.runtime, bundle.read(artefact))


def pickle_only(directory: Path, **changed: Any) -> Bundle:
    """Make it a bundle that scikit-learn serves."""
    bundle = Bundle.load(directory)
    return reseal(directory, [artefact_file(bundle, bundle.manifest.artefacts[1])], **changed)


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Bundle]:
    """Save a bundle of any estimator, with features named a, b, c and so on."""

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
