"""The noise of SmoothGrad and its kin: one draw per sample, the same for every library that adds it to an input."""

from __future__ import annotations

from crossxai.model import Array
from crossxai.question import Question


def noise(question: Question, row: int, samples: int, seed: int) -> tuple[Array, ...]:
    """Standard normal numbers (samples, *shape) for one sample, one array per free modality, in their order."""
    rng = question.rng(row, seed)
    return tuple(rng.normal(size=(samples, *v.shape[1:])).astype(v.dtype) for v in question.values)
