"""The manifest: what a bundle says of itself. The input contract travels in it, with the model."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    StringConstraints,
    model_validator,
)
from typing_extensions import TypedDict

FLOAT32_MAX = 3.4028234663852886e38
"""Largest value a float32 holds: beyond it an estimator would see infinity."""

Runtime = Literal["onnxruntime", "scikit-learn"]
Name = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f]+$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]


def _inside_the_bundle(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or not path.isprintable():
        raise ValueError("must be a relative path inside the bundle")
    return path


class Document(BaseModel):
    """Base of all that is written in a manifest: frozen, and nothing unknown in it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FeatureSpec(Document):
    """One input of the model: its name, unit, type and inclusive bounds."""

    name: Name
    type: Literal["float", "int"] = "float"
    unit: str | None = None
    minimum: float = -FLOAT32_MAX
    maximum: float = FLOAT32_MAX
    description: str = ""
    example: float

    def sent(self, value: float) -> float:
        """A value as JSON has to have it: whole, where the feature is."""
        return int(value) if self.type == "int" else value

    @model_validator(mode="after")
    def _bounds_hold_the_example(self) -> Self:
        if not -FLOAT32_MAX <= self.minimum <= self.example <= self.maximum <= FLOAT32_MAX:
            raise ValueError("minimum <= example <= maximum must hold, all within float32")
        if self.type == "int" and self.example != int(self.example):
            raise ValueError("the example of a whole feature must be whole")
        return self


class Contract(Document):
    """What goes in, in the estimator's order, and what comes out, in the order of `classes_`."""

    features: Annotated[tuple[FeatureSpec, ...], Field(min_length=1)]
    classes: Annotated[tuple[Name, ...], Field(min_length=2)]

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        for names in (self.feature_names, self.classes):
            if len(set(names)) != len(names):
                raise ValueError("names of features and of classes must be unique")
        return self

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features in the estimator's order."""
        return tuple(feature.name for feature in self.features)

    @property
    def example(self) -> dict[str, float]:
        """A row that keeps the contract."""
        return {feature.name: feature.sent(feature.example) for feature in self.features}


class Artefact(Document):
    """A file of the bundle: where it is, what it must contain, what runs it."""

    path: Annotated[str, AfterValidator(_inside_the_bundle)]
    sha256: Sha256
    size: PositiveInt
    runtime: Runtime


class Evaluation(Document):
    """How well the recipe did on rows it had not seen."""

    method: str
    rows: PositiveInt
    accuracy: Probability
    log_loss: Annotated[float, Field(ge=0)]
    confusion_matrix: tuple[tuple[Count, ...], ...]


class Histogram(Document):
    """Rows per bin. Bin i holds edges[i-1] <= x < edges[i]; the outer two are open-ended."""

    edges: tuple[float, ...]
    counts: tuple[Count, ...]

    @model_validator(mode="after")
    def _edges_part_the_bins(self) -> Self:
        if len(self.counts) != len(self.edges) + 1:
            raise ValueError("a histogram has one count more than it has edges")
        if any(low >= high for low, high in pairwise(self.edges)):
            raise ValueError("edges must increase")
        return self


class Reference(Document):
    """The training rows as live inputs are compared with them."""

    features: tuple[Histogram, ...]
    classes: tuple[Count, ...]


class Sample(Document):
    """Some of the training rows and the index of each one's class, for pictures of them."""

    rows: Annotated[tuple[tuple[float, ...], ...], Field(min_length=1)]
    classes: tuple[Count, ...]


class GoldenRows(Document):
    """Inputs, and the probabilities the fitted estimator gave for them."""

    rows: Annotated[tuple[tuple[float, ...], ...], Field(min_length=1)]
    probabilities: tuple[tuple[Probability, ...], ...]


class Content(Document):
    """What training knows of a model: all of a manifest but the files."""

    name: Name
    task: Literal["classification"] = "classification"
    contract: Contract
    versions: dict[str, str]
    evaluation: Evaluation
    reference: Reference
    golden: GoldenRows
    sample: Sample | None = None
    """Whoever has a key sees it: the trainer's choice."""

    @model_validator(mode="after")
    def _shapes_agree(self) -> Self:
        inputs, outputs = len(self.contract.features), len(self.contract.classes)
        widths = {
            "reference.features": (inputs, [len(self.reference.features)]),
            "reference.classes": (outputs, [len(self.reference.classes)]),
            "golden.rows": (inputs, [len(row) for row in self.golden.rows]),
            "golden.probabilities": (outputs, [len(row) for row in self.golden.probabilities]),
        }
        for where, (expected, found) in widths.items():
            if set(found) != {expected}:
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
    """The part of a manifest that a caller may see."""

    name: Name
    task: Literal["classification"]
    versions: dict[str, str]
    evaluation: Evaluation
    reference: Reference
    sample: Sample | None
    version: str
    features: tuple[FeatureSpec, ...]
    classes: tuple[Name, ...]
    runtime: Runtime


class Manifest(Content):
    """The whole document. Its version is the digest of the rest: same training, same version."""

    format: Literal[1] = 1
    version: str = ""
    artefacts: Annotated[tuple[Artefact, ...], Field(min_length=1)]

    @property
    def served(self) -> Artefact:
        """The artefact that answers requests."""
        return self.artefacts[0]

    def card(self) -> Card:
        """The part a caller may see: all but the golden rows and where the files lie."""
        shown = self.model_dump(mode="json", exclude={"format", "artefacts", "golden", "contract"})
        shown |= self.contract.model_dump(mode="json") | {"runtime": self.served.runtime}
        return cast("Card", shown)

    def content_version(self) -> str:
        """The version this content must bear: 12 hex digits of the SHA-256 of all but it.

        Artefacts count by digest, not by path, for their path holds the version. A sample that is
        not there does not count: bundles from before there were samples keep their version.
        """
        left_out: dict[str, Any] = {"version": True, "artefacts": {"__all__": {"path"}}}
        if self.sample is None:
            left_out["sample"] = True
        content = self.model_dump_json(exclude=left_out)
        return hashlib.sha256(content.encode()).hexdigest()[:12]
