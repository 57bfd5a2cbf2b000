"""Which samples of a data set to take: as near to half of each class as it allows."""

from __future__ import annotations

from typing import Any

import numpy as np

from crossxai.errors import InvalidInput


def balanced(labels: Any, n: int, seed: int) -> Any:
    """n rows, as near to half of each class as the data allow, in random but reproducible order."""
    if n > len(labels):
        raise InvalidInput(f"data.n = {n} samples asked for, the split holds {len(labels)}")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    positive, negative = order[labels[order] == 1], order[labels[order] != 1]
    take = min(len(positive), max((n + 1) // 2, n - len(negative)))
    return np.sort(np.concatenate([positive[:take], negative[: n - take]]))
