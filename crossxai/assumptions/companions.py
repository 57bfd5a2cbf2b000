"""Inputs beside a sample that are nothing new to a model: its own values in other places, and its own darkest values."""

from __future__ import annotations

import numpy as np

from crossxai.model import Array, Inputs


def two(inputs: Inputs, seed: int = 0) -> Inputs:
    """Two samples that show something: the images that vary most, the first row of a table and the one farthest from it.

    Where there is one sample only, it and a shuffled copy of it.
    """
    if len(inputs[0]) == 1:
        return tuple(np.concatenate([values, shuffled(values, seed)]) for values in inputs)
    images = [values for values in inputs if values.ndim > 2]
    if images:
        vivid = sum(v.reshape(len(v), -1).std(axis=1) / max(float(v.std()), 1e-12) for v in images)
        rows = np.sort(np.argsort(-np.round(vivid, 1), kind="stable")[:2])
    else:
        away = sum(np.abs(v - v[:1]).reshape(len(v), -1).sum(axis=1) for v in inputs)
        rows = np.array([0, max(1, int(np.argmax(away)))])
    return tuple(values[rows] for values in inputs)


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


def dimmed(values: Array) -> Array:
    """Samples half as strong: half-way to each feature's smallest value; tables as they are."""
    return values.copy() if values.ndim < 3 else ((values + flat(values)) / 2).astype(values.dtype)
