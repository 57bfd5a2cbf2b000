"""Gaussian noise that depends on a sample's name and a seed alone, the same for every library that is given it."""

from __future__ import annotations

from crossxai.model import Array
from crossxai.question import Question


def noise(question: Question, row: int, samples: int, seed: int) -> tuple[Array, ...]:
    """Standard normal draws for one sample, (samples, *axes) for each free modality, in its dtype."""
    rng = question.rng(row, seed)
    return tuple(rng.normal(size=(samples, *v.shape[1:])).astype(v.dtype) for v in question.values)
