"""How alike two maps of one sample are: one number, from -1 to 1."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from crossxai.errors import InvalidInput, Unsupported
from crossxai.evaluation import agreement, ranking
from crossxai.model import Array, Modality

Similarity = Literal["pearson", "spearman", "ssim"]
Numbers = npt.NDArray[np.float64]

WINDOW = 7


def check(measure: str, metric: str) -> None:
    """Raise `InvalidInput` unless the measure is known."""
    if measure not in get_args(Similarity):
        raise InvalidInput(f"{metric}: unknown similarity {measure!r}: write {', '.join(get_args(Similarity))}")


def check_space(measure: Similarity, modality: Modality, metric: str) -> None:
    """Raise `Unsupported` where the measure needs space and the modality has none."""
    if measure == "ssim" and not modality.spatial:
        raise Unsupported(
            f"{metric}: ssim needs an image, modality {modality.name!r} is a table: write similarity='spearman'"
        )


def between(original: Array, other: Array, measure: Similarity) -> Numbers:
    """Similarity (n,) of maps (n, *space) with other maps of the same samples, from -1 to 1; 1 is the same map.

    "pearson" and "spearman": correlation of values, of ranks. "ssim": structural similarity (Wang et al. 2004), after each map
    is put to [0, 1] by its smallest and largest value (Adebayo et al. 2018), with a uniform window of 7 or the largest odd
    width that fits. NaN where either map is not finite or the original is constant: there was nothing to keep. 0 where only
    the other map is constant: of the original's order nothing is left.
    """
    finite = ranking.usable(original) & ranking.usable(other)
    kept = finite & ~np.asarray(ranking.degenerate(original), dtype=bool)
    if original.reshape(len(original), -1).shape[1] == 1:
        kept[:] = False
    result = np.where(kept, 0.0, np.nan)
    rows = np.flatnonzero(kept & (ranking.degenerate(other) == 0))
    if measure == "ssim":
        result[rows] = [_ssim(original[i], other[i]) for i in rows.tolist()]
    elif rows.size:
        result[rows] = agreement.per_sample([original[rows], other[rows]])[measure][:, 0, 1]
    return result


def _ssim(one: Array, other: Array) -> float:
    from skimage.metrics import structural_similarity

    window = min(WINDOW, *(size - (size + 1) % 2 for size in one.shape))
    if window < 3:
        return float(agreement.pearson(one.reshape(1, -1), other.reshape(1, -1))[0])
    return float(structural_similarity(_unit(one), _unit(other), win_size=window, data_range=1.0))


def _unit(values: Array) -> Numbers:
    low, high = float(values.min()), float(values.max())
    return np.asarray((values.astype(np.float64) - low) / (high - low))
