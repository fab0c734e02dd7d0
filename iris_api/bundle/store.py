"""The bundle on disk: a directory with a manifest and the artefacts that it names.

Artefacts lie in a folder named after the version and never change there. Only the atomic
replacement of `manifest.json` changes what the bundle is, so an interrupted writer leaves the old
bundle whole, on any file system and in a mounted volume too. The replaced manifest stays beside it
as `previous.json`, and its artefacts stay as well.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Self

from pydantic import ValidationError

from iris_api.errors import BundleError

from .files import ASIDE, locked, replace
from .manifest import Artefact, Content, Manifest, RuntimeName

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MANIFEST = "manifest.json"
PREVIOUS = "previous.json"
VERSION = re.compile(r"[0-9a-f]{12}")
MEND = "train it (train.py --model-dir DIR), or point IRIS_MODEL_DIR at a whole bundle"


@dataclass(frozen=True, slots=True)
class ArtefactFile:
    """An artefact that is about to be written into a bundle."""

    name: str
    runtime: RuntimeName
    content: bytes


@dataclass(frozen=True, slots=True)
class Bundle:
    """A directory whose manifest and artefacts agree."""

    directory: Path
    manifest: Manifest

    @classmethod
    def load(cls, directory: Path, manifest: Path | None = None) -> Self:
        """Read the manifest and verify every artefact it names.

        Args:
            directory: The bundle's directory.
            manifest: Another manifest to read than the one that serves there.

        Raises:
            BundleError: with one sentence that says what is wrong and how to mend it.
        """
        bundle = cls(directory, read_manifest(manifest or directory / MANIFEST))
        for artefact in bundle.manifest.artefacts:
            bundle.read(artefact)
        return bundle

    @classmethod
    def save(cls, directory: Path, content: Content, artefacts: Sequence[ArtefactFile]) -> Self:
        """Write artefacts and manifest. A bundle that is replaced stays whole until the last step.

        Args:
            directory: The bundle's directory; made if it is missing.
            content: The manifest without its files.
            artefacts: The files, the one to serve first.
        """
        manifest = _seal(content, artefacts)
        _put(directory, manifest, [file.content for file in artefacts])
        return cls(directory, manifest)

    def activate(self, directory: Path) -> Self:
        """Copy this bundle into a serving directory: its artefacts, then its manifest.

        Raises:
            BundleError: if an artefact changed meanwhile, or the directory can't be written.
        """
        contents = [self.read(artefact) for artefact in self.manifest.artefacts]
        manifest = _placed(self.manifest)
        try:
            _put(directory, manifest, contents)
        except OSError as error:
            raise BundleError(f"{directory} can't be written ({error.strerror})") from error
        return type(self)(directory, manifest)

    def read(self, artefact: Artefact) -> bytes:
        """The bytes of an artefact, checked against the size and digest in the manifest.

        Raises:
            BundleError: if the file is missing or differs from the one that was written.
        """
        path = self.directory / artefact.path
        try:
            content = path.read_bytes()
        except OSError as error:
            raise BundleError(f"{path} can't be read ({error.strerror}): {MEND}") from error
        if len(content) != artefact.size:
            raise BundleError(
                f"{path} has {len(content)} bytes where the manifest says {artefact.size}: {MEND}"
            )
        if hashlib.sha256(content).hexdigest() != artefact.sha256:
            raise BundleError(f"{path} is not the file that was trained (SHA-256): {MEND}")
        return content


def read_manifest(path: Path) -> Manifest:
    """Read a manifest without looking at its artefacts.

    Raises:
        BundleError: if the file is no manifest, or was changed after training.
    """
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise BundleError(f"no bundle in {path.parent} ({path.name} is missing): {MEND}") from error
    except OSError as error:
        raise BundleError(f"{path} can't be read ({error.strerror}): {MEND}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "document"
        raise BundleError(f"{path} is not a manifest ({where}: {first['msg']}): {MEND}") from error
    if manifest.version != manifest.content_version():
        raise BundleError(f"{path} was changed after training (version mismatch): {MEND}")
    return manifest


def _seal(content: Content, artefacts: Sequence[ArtefactFile]) -> Manifest:
    """Make the manifest: compute its version, and place the artefacts in a folder of that name."""
    listed = tuple(
        Artefact(
            path=file.name,
            sha256=hashlib.sha256(file.content).hexdigest(),
            size=len(file.content),
            runtime=file.runtime,
        )
        for file in artefacts
    )
    # Through JSON and back, so that a reader digests the same content.
    manifest = Manifest(artefacts=listed, **dict(content))
    draft = Manifest.model_validate_json(manifest.model_dump_json())
    return _placed(draft.model_copy(update={"version": draft.content_version()}))


def _placed(manifest: Manifest) -> Manifest:
    """The manifest with its artefacts in the folder named after its version."""
    placed = tuple(
        artefact.model_copy(update={"path": f"{manifest.version}/{PurePath(artefact.path).name}"})
        for artefact in manifest.artefacts
    )
    return manifest.model_copy(update={"artefacts": placed})


def _put(directory: Path, manifest: Manifest, contents: Sequence[bytes]) -> None:
    """Write the artefacts, keep the old manifest as the previous one, and replace it."""
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory):
        (directory / manifest.version).mkdir(exist_ok=True)
        for artefact, content in zip(manifest.artefacts, contents, strict=True):
            replace(directory / artefact.path, content)
        serving = _version_in(directory / MANIFEST)
        if serving not in {None, manifest.version}:
            replace(directory / PREVIOUS, (directory / MANIFEST).read_bytes())
        replace(directory / MANIFEST, manifest.model_dump_json(indent=2).encode() + b"\n")
        _prune(directory, keep={manifest.version, _version_in(directory / PREVIOUS)})


def _version_in(manifest: Path) -> str | None:
    try:
        return read_manifest(manifest).version
    except BundleError:
        return None


def _prune(directory: Path, keep: set[str | None]) -> None:
    """Remove versions that no manifest names, and files that an interrupted writer left."""
    for entry in directory.iterdir():
        if VERSION.fullmatch(entry.name) and entry.name not in keep:
            shutil.rmtree(entry, ignore_errors=True)
        elif entry.name.startswith(ASIDE):
            entry.unlink(missing_ok=True)
