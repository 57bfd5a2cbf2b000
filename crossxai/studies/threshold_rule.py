"""How far a single number tells two classes apart: what a set's makers measure its give-aways by."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def best_threshold(values: npt.NDArray[Any], labels: npt.NDArray[Any]) -> float:
    """Balanced accuracy of the best rule "1 if the value is above some threshold"; values, labels (n,).

    The threshold is chosen on the same data: by chance alone it is a little above 0.5, the more so the fewer there are.
    """
    cuts = np.unique(values)
    hit = 1 - np.searchsorted(np.sort(values[labels == 1]), cuts, side="right") / (labels == 1).sum()
    rejected = np.searchsorted(np.sort(values[labels == 0]), cuts, side="right") / (labels == 0).sum()
    return float(((hit + rejected) / 2).max())
