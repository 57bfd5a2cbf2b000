"""The last operation of a traced function in TensorFlow."""

from __future__ import annotations

from typing import Any

KEEPING = frozenset(
    {
        *("Identity", "Reshape", "Squeeze", "ExpandDims", "Transpose", "Cast", "StridedSlice", "EnsureShape", "Mean"),
        *("ResizeBilinear", "ResizeNearestNeighbor", "AvgPool", "MaxPool"),
    }
)
"""Operations that keep what lies in [0, 1] there."""

ENDINGS = {
    **{"Sigmoid": "sigmoid", "Softmax": "softmax", "LogSoftmax": "log-softmax"},
    **dict.fromkeys(("BiasAdd", "MatMul", "BatchMatMulV2", "Conv2D", "FusedBatchNormV3"), "linear"),
}
SUMS = ("Add", "AddV2", "Sub")


def ending(output: Any) -> str | None:
    """ "sigmoid", "softmax", "log-softmax" or "linear" (a layer without an activation); None for anything else."""
    step = output.op
    while step.type in KEEPING:
        step = step.inputs[0].op
    if step.type in SUMS:  # a bias, or a residual branch; but 0.5 + 0.5 * tanh(x) is a sigmoid
        return "linear" if any(ending(term) == "linear" for term in step.inputs) else None
    return ENDINGS.get(step.type)
