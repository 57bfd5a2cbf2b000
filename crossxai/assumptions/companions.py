"""Inputs beside a sample that are nothing new to a model: its own values in other places, and its own darkest values."""

from __future__ import annotations

import numpy as np

from crossxai.model import Array, Inputs


def two(inputs: Inputs, seed: int = 0) -> Inputs:
    """The first two samples; where there is one only, it and a shuffled copy of it."""
    if len(inputs[0]) > 1:
        return tuple(values[:2] for values in inputs)
    return tuple(np.concatenate([values, shuffled(values, seed)]) for values in inputs)


def shuffled(values: Array, seed: int = 0) -> Array:
    """Samples (n, *space, features) with the places of each in another order; tables as they are."""
    if values.ndim < 3:
        return values.copy()
    order = np.random.default_rng([seed, 7]).permutation(int(np.prod(values.shape[1:-1])))
    return np.ascontiguousarray(values.reshape(len(values), len(order), -1)[:, order].reshape(values.shape))


def flat(values: Array) -> Array:
    """Samples (n, *space, features) that show nothing: each feature's smallest value everywhere."""
    lowest = values.min(axis=tuple(range(values.ndim - 1)))
    return np.broadcast_to(lowest, values.shape).astype(values.dtype, copy=True)
