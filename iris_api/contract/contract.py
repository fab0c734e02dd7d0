"""The contract of a model: its features in, its classes out."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from .base import Name, StoredModel
from .columns import FeatureSpec


class Contract(StoredModel):
    """Features in the estimator's order, and classes in the order of its `classes_`."""

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
        return {feature.name: feature.json_value(feature.example) for feature in self.features}
