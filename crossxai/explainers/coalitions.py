"""Which groups of entries LIME and Kernel SHAP show at once: one draw, the same for every library that fits them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from crossxai.errors import Unsupported


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
