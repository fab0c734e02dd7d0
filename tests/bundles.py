"""Changes to saved bundles. Imports no training library, so that processes can start quickly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from iris_api.bundle.manifest import Content
from iris_api.bundle.store import ArtefactFile, Bundle

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from iris_api.bundle.manifest import Artefact, Manifest


def content_of(manifest: Manifest, **changed: Any) -> Content:
    """A manifest without its list of files, with some fields changed."""
    return Content(**{name: getattr(manifest, name) for name in Content.model_fields} | changed)


def reseal(directory: Path, files: Sequence[ArtefactFile] | None = None, **changed: Any) -> Bundle:
    """Save a bundle over itself with other artefacts or fields, so that it verifies again."""
    bundle = Bundle.load(directory)
    if files is None:
        files = [artefact_file(bundle, artefact) for artefact in bundle.manifest.artefacts]
    return Bundle.save(directory, content_of(bundle.manifest, **changed), files)


def artefact_file(bundle: Bundle, artefact: Artefact) -> ArtefactFile:
    """The file of an artefact, to save it again."""
    name = artefact.path.rpartition("/")[2]
    return ArtefactFile(name, artefact.runtime, bundle.read(artefact))


def pickle_only(directory: Path, **changed: Any) -> Bundle:
    """Drop the ONNX artefact, so that scikit-learn serves the bundle."""
    bundle = Bundle.load(directory)
    return reseal(directory, [artefact_file(bundle, bundle.manifest.artefacts[1])], **changed)
