"""What every sample is drawn with: its random streams; and grids, smooth noise and outlines, in the units of a 224-pixel image
whatever the size, so that anatomy scales."""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter
from scipy.sparse import csr_array

UNIT = 224
"""Every length in this package is in pixels of an image of this size."""

Array = npt.NDArray[Any]
Field = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

TASKS = ("classification", "regression", "segmentation")


def stream(seed: int, task: str, number: int, part: str) -> np.random.Generator:
    """The random numbers of one part of one sample: they depend on nothing else, so neither n nor workers matter."""
    return np.random.default_rng([seed, TASKS.index(task), number, zlib.crc32(part.encode())])


def grid(size: int) -> tuple[Field, Field]:
    """(y, x) of the pixels' centres, in units: (size, 1) and (1, size)."""
    line = (np.arange(size) + 0.5) * UNIT / size
    return line[:, None], line[None, :]


@lru_cache(maxsize=64)
def _spline(size: int, scale: float) -> Any:
    """(size, knots): the weight of every knot of cubic B-splines, `scale` units apart, at every pixel; rows of length 1."""
    knots = int(np.ceil(UNIT / scale)) + 4
    place = (np.arange(size) + 0.5) * UNIT / size / scale + 1
    t = np.abs(place[:, None] - np.arange(knots)[None, :])
    weights = np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, np.where(t < 2, (2 - t) ** 3 / 6, 0.0))
    # Sparse, as four knots reach a pixel, and as the threads of a BLAS fight over such small products.
    return csr_array(weights / np.linalg.norm(weights, axis=1, keepdims=True))


def smooth(rng: np.random.Generator, size: int, scale: float) -> Field:
    """Noise with mean 0 and variance 1 at every pixel, that changes over `scale` units; the same field at every size."""
    weights = _spline(size, scale)
    knots = rng.standard_normal((weights.shape[1],) * 2)
    return np.asarray((weights @ (weights @ knots).T).T)


def band(rng: np.random.Generator, size: int, scale: float) -> Field:
    """Band-pass noise with variance 1: fine structure of about `scale` units without its own slow changes."""
    field = smooth(rng, size, scale)
    field = field - gaussian_filter(field, scale * size / UNIT)
    return np.asarray(field / field.std())


def blur(field: Field, sigma: float) -> Field:
    """Gaussian blur by `sigma` units."""
    return np.asarray(gaussian_filter(field, sigma * field.shape[0] / UNIT))


def polar(size: int, y: float, x: float) -> tuple[Field, Field]:
    """(distance, angle) of every pixel from a centre."""
    rows, columns = grid(size)
    return np.hypot(rows - y, columns - x), np.arctan2(rows - y, columns - x)


def ellipse(size: int, y: float, x: float, height: float, width: float, tilt: float = 0.0) -> Field:
    """The distance from the centre as a share of the ellipse's radius: below 1 inside. height, width: half axes."""
    rows, columns = grid(size)
    dy, dx = rows - y, columns - x
    c, s = np.cos(tilt), np.sin(tilt)
    return np.asarray(np.hypot((c * dy - s * dx) / height, (s * dy + c * dx) / width))


def wobble(rng: np.random.Generator, angle: Field, amplitude: float, harmonics: range) -> Field:
    """1 + a smooth periodic function of the angle, standard deviation `amplitude`: what makes an outline irregular."""
    weights = np.array([1 / h for h in harmonics])
    weights *= amplitude / np.sqrt((weights**2).sum() / 2)
    phases = rng.uniform(0, 2 * np.pi, len(weights))
    terms: Any = sum(w * np.cos(h * angle + p) for w, h, p in zip(weights, harmonics, phases, strict=True))
    return np.asarray(1 + terms)


def bounded(rng: np.random.Generator, mean: float, sd: float, low: float, high: float) -> float:
    """A draw from the beta distribution stretched over the bounds that has this mean and standard deviation."""
    centre, variance = (mean - low) / (high - low), (sd / (high - low)) ** 2
    total = centre * (1 - centre) / variance - 1
    return float(low + (high - low) * rng.beta(centre * total, (1 - centre) * total))


def smallest(field: Field, allowed: Mask, area: float) -> Mask:
    """The pixels of `allowed` with the smallest values, as many as `area` square units hold: at least 4."""
    size = field.shape[0]
    count = max(4, round(area * (size / UNIT) ** 2))
    order = np.argsort(np.where(allowed, field, np.inf), axis=None, kind="stable")[: min(count, int(allowed.sum()))]
    mask = np.zeros(field.size, dtype=bool)
    mask[order] = True
    return mask.reshape(field.shape)
