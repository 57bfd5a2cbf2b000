"""Passes through a model that is being measured: a few copies at once, by halves where memory runs out."""

from __future__ import annotations

import numpy as np

from crossxai.batching import batched
from crossxai.model import Array, Cotangent, Differentiable, Inputs, Model

AT_ONCE = 8
SMALL = 3 * 64 * 64
"""Samples of at most so many numbers go through a model all at once."""


def small(inputs: Inputs) -> bool:
    """Whether samples are so small that many copies cost little."""
    return bool(sum(v[0].size for v in inputs) <= SMALL)


def outputs(model: Model, inputs: Inputs) -> Array:
    """The model's outputs (n, *out)."""
    parts = batched(len(inputs[0]), _size(inputs), lambda part: np.array(model.predict(tuple(v[part] for v in inputs))))
    return np.concatenate(parts)


def gradients(model: Differentiable, inputs: Inputs, cotangent: Cotangent) -> tuple[Array, Inputs]:
    """Outputs (n, *out) and the gradient at each input."""
    parts = batched(len(inputs[0]), _size(inputs), lambda part: model.vjp(tuple(v[part] for v in inputs), cotangent))
    every, slopes = zip(*parts, strict=True)
    return np.concatenate(every), tuple(np.concatenate(column) for column in zip(*slopes, strict=True))


def _size(inputs: Inputs) -> int:
    return 8 * AT_ONCE if small(inputs) else AT_ONCE
