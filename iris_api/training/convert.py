"""The conversion of an estimator to ONNX by skl2onnx."""

from __future__ import annotations

from typing import Any

WEIGHTS = ("class_treeids", "class_nodeids", "class_ids", "class_weights")
"""Attributes of an ONNX tree ensemble that have one entry for each weight of a leaf."""


def to_onnx(estimator: Any, features: int, name: str) -> Any:
    """Convert an estimator with skl2onnx: float32 rows in, a probability matrix out."""
    import skl2onnx
    from skl2onnx.common.data_types import FloatTensorType

    return skl2onnx.to_onnx(
        estimator,
        initial_types=[("rows", FloatTensorType([None, features]))],
        options={id(estimator): {"zipmap": False}},
        name=name,
    )


def to_onnx_bytes(estimator: Any, features: int, name: str) -> bytes:
    """The converted estimator as it is served: serialized, without the zero weights of leaves."""
    model = to_onnx(estimator, features, name)
    for node in model.graph.node:
        if node.op_type == "TreeEnsembleClassifier":
            drop_zero_weights(node)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def drop_zero_weights(ensemble: Any) -> None:
    """Remove weights of zero from the leaves of a tree ensemble that have another weight.

    skl2onnx writes a weight for each of more than two classes, and ONNX Runtime adds all of them
    up. Without the zeros the sums are the same and take less time (`benchmarks/README.md`).
    """
    from onnx import helper

    attributes = {attribute.name: attribute for attribute in ensemble.attribute}
    if not attributes.keys() >= set(WEIGHTS):
        return
    columns = (helper.get_attribute_value(attributes[name]) for name in WEIGHTS)
    entries = list(zip(*columns, strict=True))
    weighted = {(tree, leaf) for tree, leaf, _, weight in entries if weight}
    kept = [entry for entry in entries if entry[-1] or entry[:2] not in weighted]
    for name, column in zip(WEIGHTS, zip(*kept, strict=True), strict=True):
        ensemble.attribute.remove(attributes[name])
        ensemble.attribute.append(helper.make_attribute(name, column))
