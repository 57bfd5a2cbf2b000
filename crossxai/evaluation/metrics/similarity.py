"""How alike two explainers' maps of the same samples are: rank, linear, directional, structural, and of top units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from crossxai.errors import InvalidInput, Unsupported
from crossxai.evaluation.curves import ranks
from crossxai.model import Array, Modality

Numbers = npt.NDArray[np.float64]

MEASURES = ("spearman", "pearson", "cosine", "top_k")


def spearman(a: Array, b: Array) -> Numbers:
    """Pearson correlation of average ranks, per sample (n,), for maps (n, *space); NaN where a map is constant."""
    return per_sample([a, b])["spearman"][:, 0, 1]


def pearson(a: Array, b: Array) -> Numbers:
    """Linear correlation per sample (n,), for maps (n, *space); NaN where a map is constant."""
    return per_sample([a, b])["pearson"][:, 0, 1]


def per_sample(maps: Sequence[Array], share: float = 0.1) -> dict[str, Numbers]:
    """Every measure between every two of E maps (n, *space): name → (n, E, E), NaN where one is constant or not finite.

    top_k: units tied at the k-th value share the places left, and two such sets overlap by sum(min) / k: a map fully with itself.
    """
    flat = _checked(maps, share)
    n, size = flat[0].shape if flat else (0, 0)
    result = {name: np.full((n, len(flat), len(flat)), np.nan) for name in MEASURES}
    k = math.ceil(share * size)
    for i in range(n):
        rows = np.stack([m[i] for m in flat]).astype(np.float64)
        finite = np.isfinite(rows).all(axis=1)
        good = np.flatnonzero(finite & (rows != rows[:, :1]).any(axis=1))
        if not good.size:
            continue
        rows = rows[good] / np.abs(rows[good]).max(axis=1, keepdims=True)  # so that squares cannot under- or overflow
        cell = np.ix_(good, good)
        result["spearman"][i][cell] = _cosines(_centred(rankdata(rows, axis=1)))
        result["pearson"][i][cell] = _cosines(_centred(rows))
        result["cosine"][i][cell] = _cosines(rows)
        top = places(rows, k)
        result["top_k"][i][cell] = [np.minimum(top, mine).sum(axis=1) / k for mine in top]
    return result


def matrix(maps: Sequence[Array], share: float = 0.1) -> dict[str, Numbers]:
    """Means over samples of every measure between E maps (n, *space): name → (E, E), NaN where no sample has it; and "n"."""
    cubes = per_sample(maps, share)
    usable = ~np.isnan(cubes["cosine"])
    n = usable.sum(axis=0)
    means = {
        name: np.where(n > 0, np.where(usable, cube, 0).sum(axis=0) / np.maximum(n, 1), np.nan)
        for name, cube in cubes.items()
    }
    return {**means, "n": n.astype(np.float64)}


def _checked(maps: Sequence[Array], share: float) -> list[Array]:
    if not 0 < share <= 1:
        raise InvalidInput(f"share must lie in (0, 1], got {share}")
    shapes = {m.shape for m in maps}
    if len(shapes) > 1 or any(len(shape) < 2 for shape in shapes):
        raise InvalidInput(f"maps must share one shape (n, *space), without channels; got {sorted(shapes)}")
    return [m.reshape(len(m), -1) for m in maps]


def _centred(rows: Numbers) -> Numbers:
    return np.asarray(rows - rows.mean(axis=1, keepdims=True))


def _cosines(rows: Numbers) -> Numbers:
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    # Of a matrix and its own transpose NumPy calls a routine that is 25 times slower on few long rows.
    return np.asarray(np.clip(unit @ unit.copy().T, -1, 1))


def places(rows: Numbers, k: int) -> Numbers:
    """How much of each unit of rows (m, units) is in the top k, in [0, 1], rows summing to k; tied ones share what is left."""
    edge = -np.partition(-rows, k - 1, axis=1)[:, k - 1 : k]
    above, at = rows > edge, rows == edge
    return np.asarray(above + at * (k - above.sum(axis=1, keepdims=True)) / at.sum(axis=1, keepdims=True))


Similarity = Literal["pearson", "spearman", "ssim", "hog"]


def check_space(measure: Similarity, modality: Modality, metric: str) -> None:
    """Raise `Unsupported` where the measure needs space and the modality has none."""
    if measure in ("ssim", "hog") and not modality.spatial:
        raise Unsupported(
            f"{metric}: {measure} needs an image, modality {modality.name!r} is a table: write similarity='spearman'"
        )


def between(original: Array, other: Array, measure: Similarity) -> Numbers:
    """Similarity (n,) of maps (n, *space) with other maps of the same samples, from -1 to 1; 1 is the same map.

    "pearson", "spearman": correlation of values, of ranks. "ssim" (Wang et al. 2004): of maps put to [0, 1] by their smallest and
    largest value (Adebayo et al. 2018), with a uniform window of 7 or the largest odd width that fits. "hog" (Dalal & Triggs
    2005): correlation of histograms of oriented gradients, of cells of 16 pixels or a quarter of the smaller side. NaN where a
    map is not finite or the original is constant: there was nothing to keep. 0 where only the other is: nothing is left.
    """
    finite = ranks.usable(original) & ranks.usable(other)
    kept = finite & ~np.asarray(ranks.degenerate(original), dtype=bool)
    if original.reshape(len(original), -1).shape[1] == 1:
        kept[:] = False
    result = np.where(kept, 0.0, np.nan)
    rows = np.flatnonzero(kept & (ranks.degenerate(other) == 0))
    if measure in ("ssim", "hog"):
        alike = _ssim if measure == "ssim" else _hog
        result[rows] = [alike(original[i], other[i]) for i in rows.tolist()]
    elif rows.size:
        result[rows] = per_sample([original[rows], other[rows]])[measure][:, 0, 1]
    return result


def _ssim(one: Array, other: Array) -> float:
    from skimage.metrics import structural_similarity

    window = min(7, *(size - (size + 1) % 2 for size in one.shape))
    if window < 3:
        return float(pearson(one.reshape(1, -1), other.reshape(1, -1))[0])
    return float(structural_similarity(_unit(one), _unit(other), win_size=window, data_range=1.0))


def _hog(one: Array, other: Array) -> float:
    from skimage.feature import hog

    side = max(1, min(16, min(one.shape) // 4))
    cells = {"pixels_per_cell": (side, side), "cells_per_block": (1, 1)}
    return float(pearson(*(hog(_unit(v), **cells)[None] for v in (one, other)))[0])


def _unit(values: Array) -> Numbers:
    low, high = float(values.min()), float(values.max())
    return np.asarray((values.astype(np.float64) - low) / (high - low))
