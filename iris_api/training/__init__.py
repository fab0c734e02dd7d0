"""From a fitted estimator to the content of a bundle.

This room converts an estimator to ONNX, compares the conversion with the estimator, and makes the
golden rows, the drift reference and the sample. It alone imports scikit-learn and skl2onnx; no
process that serves imports it. It may import the rooms `contract` and `bundle`.

Begin with `export.export`.
"""
