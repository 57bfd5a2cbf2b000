"""Which groups of entries LIME and Kernel SHAP show at once: one draw, the same for every library that fits them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from crossxai.errors import Unsupported
from crossxai.model import Array


def lime_samples(rng: np.random.Generator, samples: int, groups: int) -> npt.NDArray[np.int64]:
    """Zeros and ones (samples, groups), each group shown with probability one half; the first row shows all."""
    shown = rng.integers(0, 2, (samples, groups))
    shown[0] = 1
    return shown


def shap_coalitions(rng: np.random.Generator, samples: int, groups: int) -> npt.NDArray[np.int64]:
    """Zeros and ones (samples, groups): sizes drawn from the Shapley kernel (Lundberg & Lee 2017, theorem 2) summed over the
    coalitions of each size, members uniformly, so that every row has the same weight in the regression.

    Neither nothing nor everything is drawn: those two are constraints. Raises `Unsupported` for fewer than two groups.
    """
    if groups < 2:
        raise Unsupported(f"Kernel SHAP compares groups of entries, and there is only {groups}: choose smaller groups")
    size = np.arange(1, groups)
    weight = (groups - 1) / (size * (groups - size))
    sizes = rng.choice(size, size=samples, p=weight / weight.sum())
    shown = np.zeros((samples, groups), np.int64)
    for row, count in zip(shown, sizes, strict=True):
        row[rng.permutation(groups)[:count]] = 1
    return shown


def constrained_values(shown: Array, scores: Array) -> Array:
    """Values (groups,) of the least squares over coalitions whose first row (everything) and second (nothing) hold exactly.

    shown: zeros and ones (2 + samples, groups); scores: (2 + samples,). Takes the place of a library's own regression.
    """
    total = scores[0] - scores[1]
    # Values that add up to `total`: an equal share each, plus what lies in the space of vectors that add up to nothing.
    inside = np.linalg.svd(np.ones((1, shown.shape[1])))[2][1:].T
    rest = scores[2:] - scores[1] - shown[2:].mean(axis=1) * total
    fitted = np.linalg.lstsq(shown[2:] @ inside, rest, rcond=None)[0]
    return np.asarray(total / shown.shape[1] + inside @ fitted)
