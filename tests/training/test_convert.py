from __future__ import annotations

import onnx

from iris_api.training.convert import drop_zero_weights


def test_a_leaf_without_another_weight_keeps_its_zero() -> None:
    """ONNX Runtime needs a weight in each leaf."""
    ensemble = onnx.helper.make_node(
        "TreeEnsembleClassifier",
        ["rows"],
        ["labels", "probabilities"],
        class_treeids=[0, 0, 0, 1],
        class_nodeids=[1, 1, 2, 0],
        class_ids=[0, 1, 0, 0],
        class_weights=[0.0, 0.5, 0.25, 0.0],
    )
    drop_zero_weights(ensemble)
    values = {each.name: onnx.helper.get_attribute_value(each) for each in ensemble.attribute}
    assert values == {
        "class_treeids": [0, 0, 1],
        "class_nodeids": [1, 2, 0],
        "class_ids": [1, 0, 0],
        "class_weights": [0.5, 0.25, 0.0],
    }
