"""Noisy linear imputation: hidden pixels become the weighted mean of their neighbours, hidden ones included, plus noise.

Rong et al. 2022 (ROAD, arXiv:2202.00449), section 4: a hidden mask must not tell its shape to the model, which a constant
colour does. One sparse linear system per mask, shared by the channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix, csc_matrix
from scipy.sparse.linalg import splu

from crossxai.errors import InvalidInput
from crossxai.model import Array

NEIGHBOURS = {(-1, 0): 1 / 6, (1, 0): 1 / 6, (0, -1): 1 / 6, (0, 1): 1 / 6} | {
    (y, x): 1 / 12 for y in (-1, 1) for x in (-1, 1)
}
"""Direct neighbours weigh twice what diagonal ones do; at a border the weights that remain are scaled to sum to 1."""


@dataclass(frozen=True)
class NoisyLinear:
    """Weighted mean of the eight neighbours plus normal noise, absolute, in the units it works in; 2-D images only."""

    noise: float = 0.01

    def __post_init__(self) -> None:
        if isinstance(self.noise, bool) or not isinstance(self.noise, int | float) or not 0 <= self.noise < np.inf:
            raise InvalidInput(f"noisy_linear: noise must be a number of at least 0, got {self.noise!r}")

    def __call__(self, values: Array) -> Array:
        """With everything hidden there is nothing to interpolate from: zero."""
        return np.zeros_like(values)

    def impute(self, image: Array, hidden: npt.NDArray[np.bool_], rng: np.random.Generator) -> Array:
        """A copy of an image (height, width, channels) with its hidden pixels (height, width) imputed."""
        if image.ndim != 3:
            raise InvalidInput(f"noisy_linear imputes images (height, width, channels), got shape {image.shape}")
        result = image.copy()
        places = np.flatnonzero(hidden)
        if not len(places):
            return result
        filled = np.zeros((len(places), image.shape[-1]))
        if len(places) < hidden.size:
            system, known = _system(hidden, image)
            filled = splu(system).solve(known)
        # In pgc's order, (channel, pixel), so that the same normal numbers give the same image.
        noise = rng.standard_normal((image.shape[-1], len(places))).T
        result.reshape(-1, image.shape[-1])[places] = filled + self.noise * noise
        return result


def _system(hidden: npt.NDArray[np.bool_], image: Array) -> tuple[csc_matrix, npt.NDArray[np.float64]]:
    """The matrix (m, m) and right-hand sides (m, channels) of the m hidden pixels' equations."""
    height, width = hidden.shape
    y, x = np.nonzero(hidden)
    number = np.full(hidden.shape, -1)
    number[y, x] = np.arange(len(y))
    total, known = np.zeros(len(y)), np.zeros((len(y), image.shape[-1]))
    rows, columns, weights = [np.arange(len(y))], [np.arange(len(y))], []
    for (down, right), weight in NEIGHBOURS.items():
        at = np.flatnonzero((y + down >= 0) & (y + down < height) & (x + right >= 0) & (x + right < width))
        there = (y[at] + down, x[at] + right)
        total[at] += weight
        open_ = ~hidden[there]
        known[at[open_]] += weight * image[there][open_]
        rows.append(at[~open_])
        columns.append(number[there][~open_])
        weights.append(np.full(len(rows[-1]), -weight))
    values = np.concatenate([total, *weights])
    return csc_matrix(coo_matrix((values, (np.concatenate(rows), np.concatenate(columns))))), known
