from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from iris_api.contract.columns import FeatureSpec
from iris_api.contract.contract import Contract

FEATURE = FeatureSpec(name="x", example=1)


def test_names_in_a_contract_are_unique() -> None:
    """Two features or two classes of the same name could not be told apart in JSON."""
    with pytest.raises(ValidationError, match="unique"):
        Contract(features=(FEATURE, FEATURE), classes=("a", "b"))
    with pytest.raises(ValidationError, match="unique"):
        Contract(features=(FEATURE,), classes=("a", "a"))


def test_a_contract_needs_a_feature_and_two_classes() -> None:
    """A model without inputs, or with one possible answer, predicts nothing."""
    with pytest.raises(ValidationError):
        Contract(features=(), classes=("a", "b"))
    with pytest.raises(ValidationError):
        Contract(features=(FEATURE,), classes=("a",))


def test_the_example_is_a_row_of_the_features_examples() -> None:
    """In the contract's order, and whole where a feature is."""
    whole = FeatureSpec(name="n", type="int", example=2)
    contract = Contract(features=(whole, FEATURE), classes=("a", "b"))
    assert contract.feature_names == ("n", "x")
    assert json.dumps(contract.example) == '{"n": 2, "x": 1.0}'
