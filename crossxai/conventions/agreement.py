"""How far two maps agree: the measures, and the rung of the ladder that they stand on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy.stats import rankdata
from skimage.metrics import structural_similarity

from crossxai.errors import InvalidInput
from crossxai.model import Array

Rung = Literal["identical", "equal to rounding", "equal up to a scale", "same ranking", "same region", "different"]
RUNGS: tuple[Rung, ...] = get_args(Rung)
"""From the closest to the farthest."""
ROUNDING = 1e-4
"""Relative L2 at which maps in float32 count as equal."""
RANKING, REGION = 0.99, 0.5
"""Least Spearman correlation of "same ranking", least top-tenth overlap of "same region"."""
TOP = 0.1
"""The share of entries in the top region."""


@dataclass(frozen=True)
class Agreement:
    """Measures between two sets of maps, one number per sample, all arrays (n,).

    largest: largest |difference|. distance: relative L2, the norm of the difference over the larger of both norms. scaled: the
    same after the best factor. cosine; spearman; overlap: intersection over union of the largest tenth of entries; ssim:
    structural similarity of the maps put to [0, 1], NaN for tables.
    """

    largest: Array
    distance: Array
    scaled: Array
    cosine: Array
    spearman: Array
    overlap: Array
    ssim: Array

    def rung(self, tolerance: float = ROUNDING) -> Rung:
        """Where all samples stand together: the rung of the sample that is farthest apart."""
        if (self.largest == 0).all():
            return "identical"
        if (self.distance <= tolerance).all():
            return "equal to rounding"
        if (self.scaled <= tolerance).all():
            return "equal up to a scale"
        if (self.spearman >= RANKING).all():
            return "same ranking"
        return "same region" if (self.overlap >= REGION).all() else "different"


def agreement(one: Array, other: Array) -> Agreement:
    """The agreement of maps (n, …, channels); one value per pixel stands for all channels, a coarser grid for its pixels."""
    one, other = aligned(one, other)
    a, b = (v.reshape(len(v), -1).astype(np.float64) for v in (one, other))
    norms = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    larger = np.maximum(*norms)
    dot = (a * b).sum(axis=1)
    product = norms[0] * norms[1]
    cosine = np.where(product > 0, dot / np.where(product > 0, product, 1), (larger == 0).astype(float))
    sine = np.linalg.norm(  # of the unit vectors, which is exact where they are close
        a / np.where(norms[0] > 0, norms[0], 1)[:, None] * np.sign(np.where(dot == 0, 1, dot))[:, None]
        - b / np.where(norms[1] > 0, norms[1], 1)[:, None],
        axis=1,
    )
    return Agreement(
        np.abs(a - b).max(axis=1),
        distances(one, other),
        np.where(larger == 0, 0.0, np.where(dot > 0, sine, 1.0)),
        np.clip(cosine, -1, 1),
        np.array([_spearman(x, y) for x, y in zip(a, b, strict=True)]),
        np.array([_overlap(x, y) for x, y in zip(a, b, strict=True)]),
        np.array([_ssim(x, y) for x, y in zip(one, other, strict=True)]),
    )


def aligned(one: Array, other: Array) -> tuple[Array, Array]:
    """Both maps on the larger of both grids and with as many channels; raises `InvalidInput` if they cannot be laid together."""
    if one.ndim != other.ndim or len(one) != len(other):
        raise InvalidInput(
            f"maps of shapes {one.shape} and {other.shape} cannot be compared: write (n, y, x, channels) for both"
        )
    for axis in range(1, one.ndim):
        a, b = one.shape[axis], other.shape[axis]
        if a != b and axis == one.ndim - 1 and 1 not in (a, b):
            raise InvalidInput(f"maps of {a} and {b} channels cannot be compared")
        one, other = _stretched(one, axis, max(a, b)), _stretched(other, axis, max(a, b))
    return one, other


def _stretched(values: Array, axis: int, size: int) -> Array:
    old = values.shape[axis]
    return values if old == size else np.take(values, np.arange(size) * old // size, axis=axis)


def distance(one: Array, other: Array) -> float:
    """The largest relative L2 of any sample."""
    return float(distances(one, other).max())


def distances(one: Array, other: Array) -> Array:
    """The relative L2 of each sample (n,), the norm of the difference over the larger of both norms."""
    if one.shape != other.shape:
        one, other = aligned(one, other)
    a, b = one.reshape(len(one), -1).astype(np.float64), other.reshape(len(other), -1).astype(np.float64)
    larger = np.maximum(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))
    gap = np.linalg.norm(a - b, axis=1)
    return np.asarray(np.where(larger > 0, gap / np.where(larger > 0, larger, 1), 0.0))


def _spearman(a: Array, b: Array) -> float:
    ranks = [rankdata(v) for v in (a, b)]
    spread = [np.ptp(r) for r in ranks]
    if 0 in spread:
        return float(spread[0] == spread[1])
    return float(np.corrcoef(*ranks)[0, 1])


def _overlap(a: Array, b: Array) -> float:
    count = max(1, round(TOP * len(a)))
    tops = [set(np.argsort(-v, kind="stable")[:count].tolist()) for v in (a, b)]
    return len(tops[0] & tops[1]) / len(tops[0] | tops[1])


def _ssim(a: Array, b: Array) -> float:
    if a.ndim < 3 or min(a.shape[:-1]) < 7:
        return float("nan")
    units = [(v - v.min()) / np.ptp(v) if np.ptp(v) > 0 else np.zeros_like(v) for v in (a, b)]
    return float(structural_similarity(*units, channel_axis=-1, data_range=1.0))
