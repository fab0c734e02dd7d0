"""The columns of a contract: name, type, unit and bounds."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from .base import FLOAT32_MAX, Name, StoredModel


class FeatureSpec(StoredModel):
    """One input of the model: its name, unit, type and inclusive bounds."""

    name: Name
    type: Literal["float", "int"] = "float"
    unit: str | None = None
    minimum: float = -FLOAT32_MAX
    maximum: float = FLOAT32_MAX
    description: str = ""
    example: float

    def json_value(self, value: float) -> float:
        """A value as the JSON number that a client sends: whole if the feature is."""
        return int(value) if self.type == "int" else value

    @model_validator(mode="after")
    def _bounds_hold_the_example(self) -> Self:
        if not -FLOAT32_MAX <= self.minimum <= self.example <= self.maximum <= FLOAT32_MAX:
            raise ValueError("minimum <= example <= maximum must hold, all within float32")
        if self.type == "int" and self.example != int(self.example):
            raise ValueError("the example of a whole feature must be whole")
        return self
