"""What a gradient is measured with: the model's copy in float64 where there is one that computes the same, else the model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crossxai.assumptions.precision import rounding
from crossxai.errors import CrossXAIError
from crossxai.model import Array, Differentiable, Inputs

OUTPUTS, GRADIENTS = 1e-3, 0.25
"""A copy whose outputs, or gradients, are further from the model's than this share of them is another network. Where values are
tied, as in a flat sky before a max-pool, rounding picks another: gradients of torchvision's networks then differ by 2 to 10 %,
else by a millionth."""


@dataclass(frozen=True)
class Measured:
    """The model to measure with, inputs in its precision, and its relative rounding."""

    model: Differentiable
    inputs: Inputs
    unit: float


def copied(model: Differentiable, inputs: Inputs, unit: float) -> Measured | None:
    """The model in float64; None where it computes in float64 itself, or has no such copy."""
    twin = model.exact() if unit > 1e-12 and hasattr(model, "exact") else None
    if twin is None:
        return None
    wide = tuple(v.astype(np.float64) for v in inputs)
    return Measured(twin, wide, float(np.finfo(np.float64).eps))


def same(own: Array, exact: Array, tolerance: float) -> bool:
    """Whether an array of the model is that of its copy, up to a share of its size."""
    if own.shape != exact.shape or not (np.isfinite(own).all() and np.isfinite(exact).all()):
        return False
    apart = float(np.linalg.norm(own.astype(np.float64) - exact))
    return bool(apart <= tolerance * float(np.linalg.norm(exact)))


def agrees(model: Differentiable, outputs: Array, others: Array, gradients: Inputs, theirs: Inputs) -> bool:
    """Whether a copy's outputs and gradients are the model's."""
    loose = max(1.0, rounding(model, outputs) / 1e-5)
    return same(outputs, others, min(OUTPUTS * loose, 0.05)) and all(
        same(own, other, GRADIENTS) for own, other in zip(gradients, theirs, strict=True)
    )


FAILURES = (CrossXAIError, MemoryError)
"""What asking a copy may raise where its code knows float32 alone."""
