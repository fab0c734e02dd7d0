from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from iris_api.bundle.manifest import Manifest
from iris_api.bundle.store import Bundle
from iris_api.contract.columns import FeatureSpec
from iris_api.contract.contract import Contract
from iris_api.contract.reference import Histogram
from tests.conftest import reseal

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def document(trained: Path) -> dict[str, Any]:
    """The trained bundle's manifest as plain JSON."""
    found: dict[str, Any] = json.loads((trained / "manifest.json").read_bytes())
    return found


def test_a_feature_without_bounds_is_bounded_by_float32() -> None:
    """A value that a float32 can't hold would reach the estimator as infinity."""
    feature = FeatureSpec(name="x", example=1)
    assert (feature.minimum, feature.maximum) == (-3.4028234663852886e38, 3.4028234663852886e38)


@pytest.mark.parametrize(
    "wrong",
    [
        {"minimum": 2, "example": 1},
        {"maximum": 0, "example": 1},
        {"maximum": 1e39, "example": 1},
        {"name": "", "example": 1},
        {"name": "line\nbreak", "example": 1},
        {"example": float("nan")},
        {"example": 1, "colour": "red"},
    ],
)
def test_a_feature_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    """Bounds must hold the example, names must be printable, and nothing unknown may stand."""
    with pytest.raises(ValidationError):
        FeatureSpec.model_validate({"name": "x"} | wrong)


def test_names_in_a_contract_are_unique() -> None:
    """Two features or classes of one name could not be told apart in JSON."""
    one = FeatureSpec(name="x", example=1)
    with pytest.raises(ValidationError, match="unique"):
        Contract(features=(one, one), classes=("a", "b"))
    with pytest.raises(ValidationError, match="unique"):
        Contract(features=(one,), classes=("a", "a"))


@pytest.mark.parametrize(
    ("edges", "counts"), [((1.0,), (1,)), ((2.0, 1.0), (1, 1, 1)), ((1.0, 1.0), (1, 1, 1))]
)
def test_a_histogram_has_rising_edges_between_its_counts(
    edges: tuple[float, ...], counts: tuple[int, ...]
) -> None:
    """One count more than edges, and no edge twice."""
    with pytest.raises(ValidationError):
        Histogram(edges=edges, counts=counts)


@pytest.mark.parametrize("path", ["/etc/passwd", "../outside", "a/../../b", "a\0b", ""])
def test_an_artefact_lies_inside_its_bundle(document: dict[str, Any], path: str) -> None:
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
    """Reference and golden rows have the contract's width."""
    with pytest.raises(ValidationError, match=where):
        Manifest.model_validate_json(json.dumps(document | part))


def test_the_version_is_the_digest_of_the_content(trained: Path) -> None:
    """It changes with any part of the content, and with nothing else."""
    manifest = Bundle.load(trained).manifest
    assert manifest.content_version() == manifest.version
    renamed = manifest.model_copy(update={"name": "roses"})
    assert renamed.content_version() != manifest.version
    relabelled = manifest.model_copy(update={"version": "anything"})
    assert relabelled.content_version() == manifest.version


def test_a_bundle_from_before_samples_keeps_its_version(model_dir: Path) -> None:
    """A manifest that does not know of them is read as it was, and so is its digest."""
    path = model_dir / "manifest.json"
    version = reseal(model_dir, sample=None).manifest.version
    document = json.loads(path.read_bytes())
    assert document.pop("sample") is None
    path.write_text(json.dumps(document))
    found = Bundle.load(model_dir).manifest
    assert (found.version, found.sample) == (version, None)
    without: dict[str, Any] = {"version": True, "sample": True, "artefacts": {"__all__": {"path"}}}
    digested = found.model_dump_json(exclude=without)
    assert hashlib.sha256(digested.encode()).hexdigest()[:12] == version


def test_the_card_hides_golden_rows_and_paths(trained: Path) -> None:
    """What a caller is shown says nothing of the server's files."""
    card = Bundle.load(trained).manifest.card()
    assert {"name", "version", "features", "classes", "evaluation", "reference"} <= card.keys()
    assert "golden" not in card
    assert ".onnx" not in json.dumps(card)
