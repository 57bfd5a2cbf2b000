"""Noisy linear imputation: hidden pixels become the weighted mean of their neighbours, hidden ones included, plus noise.

Rong et al. 2022 (ROAD, arXiv:2202.00449), section 4: a hidden mask must not tell its shape to the model, which a constant
colour does. One sparse linear system per mask, shared by the channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crossxai.errors import InvalidInput
from crossxai.evaluation.imputation_system import Imputation
from crossxai.model import Array


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
        filled = Imputation(hidden)(image) if len(places) < hidden.size else np.zeros((len(places), image.shape[-1]))
        # In pgc's order, (channel, pixel), so that the same normal numbers give the same image.
        noise = rng.standard_normal((image.shape[-1], len(places))).T
        result.reshape(-1, image.shape[-1])[places] = filled + self.noise * noise
        return result
