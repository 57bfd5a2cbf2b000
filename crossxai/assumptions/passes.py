"""Passes through a model that is being measured: a few copies at once, by halves where memory runs out."""

from __future__ import annotations

import numpy as np

from crossxai.batching import batched
from crossxai.model import Array, Cotangent, Differentiable, Inputs, Model

AT_ONCE = 8


def outputs(model: Model, inputs: Inputs) -> Array:
    """The model's outputs (n, *out)."""
    parts = batched(len(inputs[0]), AT_ONCE, lambda part: np.array(model.predict(tuple(v[part] for v in inputs))))
    return np.concatenate(parts)


def gradients(model: Differentiable, inputs: Inputs, cotangent: Cotangent) -> tuple[Array, Inputs]:
    """Outputs (n, *out) and the gradient at each input."""
    parts = batched(len(inputs[0]), AT_ONCE, lambda part: model.vjp(tuple(v[part] for v in inputs), cotangent))
    every, slopes = zip(*parts, strict=True)
    return np.concatenate(every), tuple(np.concatenate(column) for column in zip(*slopes, strict=True))
