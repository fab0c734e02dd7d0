from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from iris_api.contract.columns import FeatureSpec


def test_a_feature_without_bounds_is_bounded_by_float32() -> None:
    """A value that a float32 can't hold would reach the estimator as infinity."""
    feature = FeatureSpec(name="x", example=1)
    assert (feature.minimum, feature.maximum) == (-3.4028234663852886e38, 3.4028234663852886e38)


@pytest.mark.parametrize(
    "fields",
    [
        {"minimum": 2, "example": 1},
        {"maximum": 0, "example": 1},
        {"maximum": 1e39, "example": 1},
        {"name": "", "example": 1},
        {"name": "line\nbreak", "example": 1},
        {"example": float("nan")},
        {"example": 1, "colour": "red"},
        {"type": "int", "example": 1.5},
    ],
)
def test_an_inconsistent_feature_is_refused(fields: dict[str, Any]) -> None:
    """Bounds must hold the example, names must be printable, and unknown keys are errors."""
    with pytest.raises(ValidationError):
        FeatureSpec.model_validate({"name": "x"} | fields)


@pytest.mark.parametrize(("kind", "value"), [("int", 5), ("float", 5.0)])
def test_a_value_is_written_as_the_json_number_of_its_type(kind: Any, value: float) -> None:
    """A whole feature is written without a decimal point."""
    written = FeatureSpec(name="x", type=kind, example=1).json_value(5.0)
    assert (written, type(written)) == (value, type(value))
