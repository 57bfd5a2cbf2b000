"""What a gradient is measured with: the model's copy in float64 where there is one that computes the same, else the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from crossxai.assumptions.precision import rounding
from crossxai.errors import CrossXAIError
from crossxai.model import Array, Differentiable, Inputs

OUTPUTS, GRADIENTS = 1e-3, 0.25
"""A copy whose outputs, or gradients, are further from the model's than this share of them is another network. Where values are
tied, as in a flat sky before a max-pool, rounding picks another: gradients of torchvision's networks then differ by 2 to 10 %,
else by a millionth."""


Answer = tuple[Array, Inputs]
"""A model's outputs, and the arrays that were asked for beside them: gradients, a layer's activation."""


@dataclass(frozen=True)
class AtPrecision:
    """A model to measure with, inputs in its precision, and its relative rounding."""

    model: Differentiable
    inputs: Inputs
    unit: float


def finest(own: AtPrecision, answer: Answer, ask: Callable[[AtPrecision], Answer]) -> tuple[AtPrecision, Answer]:
    """A model's copy in float64 and its answer, where there is one that computes the same; else the model and its own answer."""
    twin = _copy(own)
    if twin is None:
        return own, answer
    try:
        theirs = ask(twin)
    except (CrossXAIError, MemoryError):  # its code may know float32 alone
        return own, answer
    return (twin, theirs) if _agree(own.model, answer, theirs) else (own, answer)


def _copy(own: AtPrecision) -> AtPrecision | None:
    """The model in float64; None where it computes in float64 itself, or has no such copy."""
    twin = own.model.exact() if own.unit > 1e-12 and hasattr(own.model, "exact") else None
    if twin is None:
        return None
    return AtPrecision(twin, tuple(v.astype(np.float64) for v in own.inputs), float(np.finfo(np.float64).eps))


def _agree(model: Differentiable, own: Answer, theirs: Answer) -> bool:
    """Whether a copy's answer is the model's."""
    loose = max(1.0, rounding(model, own[0]) / 1e-5)
    return _same(own[0], theirs[0], min(OUTPUTS * loose, 0.05)) and all(
        _same(one, other, GRADIENTS) for one, other in zip(own[1], theirs[1], strict=True)
    )


def _same(own: Array, exact: Array, tolerance: float) -> bool:
    """Whether an array of the model is that of its copy, up to a share of its size."""
    if own.shape != exact.shape or not (np.isfinite(own).all() and np.isfinite(exact).all()):
        return False
    apart = float(np.linalg.norm(own.astype(np.float64) - exact))
    return bool(apart <= tolerance * float(np.linalg.norm(exact)))
