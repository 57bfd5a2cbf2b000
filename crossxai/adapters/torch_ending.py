"""The last operation of a forward pass in torch, by what autograd recorded of the output."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor

KEEPING = frozenset(
    {
        *("View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "T", "Transpose", "Permute", "Clone", "Alias"),
        *("Slice", "Select", "Expand", "ToCopy", "UpsampleBilinear2D", "UpsampleNearest2D", "Mean", "AvgPool2D"),
        *("AdaptiveAvgPool2D", "MaxPool2DWithIndices"),
    }
)
"""Operations that keep what lies in [0, 1] there."""

ENDINGS = {
    **{"Sigmoid": "sigmoid", "Softmax": "softmax", "LogSoftmax": "log-softmax", "LogSigmoid": "log-sigmoid"},
    **dict.fromkeys(("Addmm", "Mm", "Bmm", "Convolution", "NativeBatchNorm", "CudnnBatchNorm"), "linear"),
}
SUMS = ("Add", "Sub")


def ending(outputs: Tensor) -> str | None:
    """ "sigmoid", "softmax", "log-softmax", "log-sigmoid" or "linear" (a layer without an activation); None for anything else."""
    return _ending(outputs.grad_fn)


def _ending(step: Any) -> str | None:
    while step is not None:
        name = re.sub(r"Backward\d*$", "", step.name())
        if name in SUMS:  # a bias, or a residual branch; but 0.5 + 0.5 * tanh(x) is a sigmoid
            return "linear" if any(_ending(term) == "linear" for term, _ in step.next_functions) else None
        if name not in KEEPING:
            return ENDINGS.get(name)
        step = step.next_functions[0][0]
    return None
