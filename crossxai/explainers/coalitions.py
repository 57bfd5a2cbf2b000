"""Which groups are shown and which are hidden, drawn the same way for every library that is given the draws."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from crossxai.errors import Unsupported


def lime_samples(rng: np.random.Generator, samples: int, groups: int) -> npt.NDArray[np.int64]:
    """LIME's binary samples (samples, groups): each group shown by the toss of a coin; the first sample shows all."""
    shown = rng.integers(0, 2, (samples, groups))
    shown[0] = 1
    return shown


def shap_coalitions(rng: np.random.Generator, samples: int, groups: int) -> npt.NDArray[np.int64]:
    """Coalitions (samples, groups), neither empty nor full, drawn in proportion to the Shapley kernel.

    Lundberg & Lee 2017, theorem 2: a size k has the weight (groups - 1) / (k (groups - k)), all coalitions of a size are
    alike; what is drawn so enters the regression with equal weights. Raises `Unsupported` for fewer than two groups.
    """
    if groups < 2:
        raise Unsupported(f"Shapley's kernel needs at least 2 groups, there is {groups}: choose smaller groups")
    k = np.arange(1, groups)
    weights = (groups - 1) / (k * (groups - k))
    sizes = rng.choice(k, size=samples, p=weights / weights.sum())
    shown = np.zeros((samples, groups), np.int64)
    for i, size in enumerate(sizes):
        shown[i, rng.permutation(groups)[:size]] = 1
    return shown
