"""What removing 4 × 4 patches of images and columns of tables does to a drawn network's scores, in either framework."""

from __future__ import annotations

from typing import Any

import numpy as np


class Removing:
    """A drawn network with its modalities, its inputs and `scores(labels, inputs)`."""

    modalities: Any
    inputs: Any
    scores: Any

    def removals(self, labels: Any) -> dict[str, Any]:
        """The drop of the score as each 4 × 4 patch, or column, becomes 0."""
        own, found = self.scores(labels), {}
        for at, modality in enumerate(self.modalities):
            values = self.inputs[at]
            drops = np.zeros((*values.shape[:-1], 1) if values.ndim == 4 else values.shape)
            patches = [np.s_[:, y : y + 4, x : x + 4] for y in (0, 4) for x in (0, 4)]
            for cell in patches if values.ndim == 4 else [np.s_[:, i] for i in range(4)]:
                changed = values.copy()
                changed[cell] = 0
                scores = self.scores(labels, tuple(changed if i == at else v for i, v in enumerate(self.inputs)))
                drops[cell] = (own - scores).reshape(-1, *[1] * (drops[cell].ndim - 1))
            found[modality.name] = drops
        return found

    def grouped(self, values: Any) -> Any:
        """One value per 4 × 4 patch, or per column."""
        return values[:, ::4, ::4] if values.ndim == 4 else values
