"""The manifest: what a bundle says about itself. The model's contract is a part of it."""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self, cast

from pydantic import AfterValidator, Field, PositiveInt, StringConstraints, model_validator
from typing_extensions import TypedDict

from iris_api.contract.base import Count, Name, Probability, StoredModel
from iris_api.contract.columns import FeatureSpec  # noqa: TC001  # Pydantic evaluates it.
from iris_api.contract.contract import Contract
from iris_api.contract.reference import Reference, Sample

RuntimeName = Literal["onnxruntime", "scikit-learn"]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


def _inside_the_bundle(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or not path.isprintable():
        raise ValueError("must be a relative path inside the bundle")
    return path


class Artefact(StoredModel):
    """A file of the bundle: its path, size and digest, and the runtime that opens it."""

    path: Annotated[str, AfterValidator(_inside_the_bundle)]
    sha256: Sha256
    size: PositiveInt
    runtime: RuntimeName


class Evaluation(StoredModel):
    """How well the estimator predicts rows that it was not fitted on."""

    method: str
    rows: PositiveInt
    accuracy: Probability
    log_loss: Annotated[float, Field(ge=0)]
    confusion_matrix: tuple[tuple[Count, ...], ...]


class GoldenRows(StoredModel):
    """Rows, and the probabilities that the fitted estimator gave for them."""

    rows: Annotated[tuple[tuple[float, ...], ...], Field(min_length=1)]
    probabilities: tuple[tuple[Probability, ...], ...]


class Content(StoredModel):
    """A manifest without its files: what training knows about a model."""

    name: Name
    task: Literal["classification"] = "classification"
    contract: Contract
    versions: dict[str, str]
    evaluation: Evaluation
    reference: Reference
    golden: GoldenRows
    sample: Sample | None = None
    """Training rows that every caller with a key may see; the trainer decides."""

    @model_validator(mode="after")
    def _shapes_agree(self) -> Self:
        inputs, outputs = len(self.contract.features), len(self.contract.classes)
        widths = {
            "reference.features": (inputs, [len(self.reference.features)]),
            "reference.classes": (outputs, [len(self.reference.classes)]),
            "golden.rows": (inputs, [len(row) for row in self.golden.rows]),
            "golden.probabilities": (outputs, [len(row) for row in self.golden.probabilities]),
        }
        for where, (expected, actual) in widths.items():
            if set(actual) != {expected}:
                raise ValueError(f"{where} does not fit the contract")
        if len(self.golden.rows) != len(self.golden.probabilities):
            raise ValueError("golden.rows and golden.probabilities differ in length")
        return self

    @model_validator(mode="after")
    def _sample_fits(self) -> Self:
        if self.sample is None:
            return self
        if {len(row) for row in self.sample.rows} != {len(self.contract.features)}:
            raise ValueError("sample.rows does not fit the contract")
        if len(self.sample.rows) != len(self.sample.classes):
            raise ValueError("sample.rows and sample.classes differ in length")
        if max(self.sample.classes) >= len(self.contract.classes):
            raise ValueError("sample.classes has a class that the contract has not")
        return self


class Card(TypedDict):
    """The public part of a manifest."""

    name: Name
    task: Literal["classification"]
    versions: dict[str, str]
    evaluation: Evaluation
    reference: Reference
    sample: Sample | None
    version: str
    features: tuple[FeatureSpec, ...]
    classes: tuple[Name, ...]
    runtime: RuntimeName


class Manifest(Content):
    """The whole document. Its version is a digest of the rest: same training, same version."""

    format: Literal[1] = 1
    version: str = ""
    artefacts: Annotated[tuple[Artefact, ...], Field(min_length=1)]

    @property
    def served(self) -> Artefact:
        """The artefact that answers requests."""
        return self.artefacts[0]

    def card(self) -> Card:
        """The public part: everything but the golden rows and the paths of the files."""
        card = self.model_dump(mode="json", exclude={"format", "artefacts", "golden", "contract"})
        card |= self.contract.model_dump(mode="json") | {"runtime": self.served.runtime}
        return cast("Card", card)

    def content_version(self) -> str:
        """The version of this content: 12 hex digits of its SHA-256.

        The paths of artefacts are left out, because they contain the version. A missing sample is
        left out too: bundles that are older than samples keep their version.
        """
        excluded: dict[str, Any] = {"version": True, "artefacts": {"__all__": {"path"}}}
        if self.sample is None:
            excluded["sample"] = True
        content = self.model_dump_json(exclude=excluded)
        return hashlib.sha256(content.encode()).hexdigest()[:12]
