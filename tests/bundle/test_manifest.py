from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from iris_api.bundle.manifest import Manifest
from iris_api.bundle.store import Bundle
from tests.conftest import reseal

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def document(trained: Path) -> dict[str, Any]:
    """The trained bundle's manifest as plain JSON."""
    content: dict[str, Any] = json.loads((trained / "manifest.json").read_bytes())
    return content


@pytest.mark.parametrize("path", ["/etc/passwd", "../outside", "a/../../b", "a\0b", ""])
def test_the_path_of_an_artefact_is_inside_its_bundle(document: dict[str, Any], path: str) -> None:
    """A manifest can't point the server at another file of the machine."""
    document["artefacts"][0]["path"] = path
    with pytest.raises(ValidationError, match="inside the bundle"):
        Manifest.model_validate_json(json.dumps(document))


@pytest.mark.parametrize(
    ("part", "where"),
    [
        ({"reference": {"features": [], "classes": [1, 2, 3]}}, "reference.features"),
        ({"golden": {"rows": [[1]], "probabilities": [[1, 0, 0]]}}, "golden.rows"),
        ({"golden": {"rows": [[1, 1, 1, 1]] * 2, "probabilities": [[1, 0, 0]]}}, "length"),
        ({"sample": {"rows": [[1]], "classes": [0]}}, "sample.rows"),
        ({"sample": {"rows": [[1, 1, 1, 1]], "classes": [0, 0]}}, "length"),
        ({"sample": {"rows": [[1, 1, 1, 1]], "classes": [3]}}, "sample.classes"),
    ],
)
def test_the_parts_of_a_manifest_fit_its_contract(
    document: dict[str, Any], part: dict[str, Any], where: str
) -> None:
    """Reference, golden rows and sample have the contract's width, and equal lengths."""
    with pytest.raises(ValidationError, match=where):
        Manifest.model_validate_json(json.dumps(document | part))


def test_the_version_is_the_digest_of_the_content(trained: Path) -> None:
    """It changes with any part of the content, and it does not depend on itself."""
    manifest = Bundle.load(trained).manifest
    assert manifest.content_version() == manifest.version
    renamed = manifest.model_copy(update={"name": "roses"})
    assert renamed.content_version() != manifest.version
    relabelled = manifest.model_copy(update={"version": "anything"})
    assert relabelled.content_version() == manifest.version


def test_a_bundle_that_is_older_than_samples_keeps_its_version(model_dir: Path) -> None:
    """A manifest without the key `sample` is valid, and its digest is computed without it."""
    path = model_dir / "manifest.json"
    version = reseal(model_dir, sample=None).manifest.version
    document = json.loads(path.read_bytes())
    assert document.pop("sample") is None
    path.write_text(json.dumps(document))
    manifest = Bundle.load(model_dir).manifest
    assert (manifest.version, manifest.sample) == (version, None)
    excluded: dict[str, Any] = {"version": True, "sample": True, "artefacts": {"__all__": {"path"}}}
    digested = manifest.model_dump_json(exclude=excluded)
    assert hashlib.sha256(digested.encode()).hexdigest()[:12] == version


def test_the_card_has_no_golden_rows_and_no_paths(trained: Path) -> None:
    """The public part of a manifest reveals nothing about the server's files."""
    card = Bundle.load(trained).manifest.card()
    assert {"name", "version", "features", "classes", "evaluation", "reference"} <= card.keys()
    assert "golden" not in card
    assert ".onnx" not in json.dumps(card)
