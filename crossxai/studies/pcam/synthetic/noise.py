"""Smooth random fields of a patch, cheap enough for hundreds of thousands of them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from crossxai.studies.pcam.reading import SIZE

Floats = npt.NDArray[np.float32]


@lru_cache(maxsize=16)
def _spline(scale: int) -> Floats:
    """(size, knots): the weight of every knot, `scale` pixels apart, at every pixel; cubic B-splines, rows of length 1."""
    knots = -(-SIZE // scale) + 3
    t = np.abs((np.arange(SIZE) + 0.5)[:, None] / scale + 1 - np.arange(knots)[None, :])
    weights = np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, np.where(t < 2, (2 - t) ** 3 / 6, 0.0))
    return np.asarray(weights / np.linalg.norm(weights, axis=1, keepdims=True), np.float32)


def smooth(rng: np.random.Generator, scale: int) -> Floats:
    """(size, size) noise with mean 0 and variance 1 at every pixel, that changes over `scale` pixels."""
    weights = _spline(scale)
    knots = rng.standard_normal((weights.shape[1],) * 2, np.float32)
    # Small enough a product (below 2^18 multiplications) that no BLAS starts threads for it.
    return np.asarray(weights @ knots @ weights.T)
