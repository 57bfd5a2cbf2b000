"""Imputation: hidden pixels are made of those that are left, so that what a fill puts in depends on the mask.

Noisy linear imputation: the weighted mean of the neighbours, hidden ones included, plus noise. Rong et al. 2022 (ROAD,
arXiv:2202.00449), section 4: a hidden mask must not tell its shape to the model, which a constant colour does. One sparse
linear system per mask, shared by the channels. In-painting: the smoothest surface through what is left.
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


@dataclass(frozen=True)
class Inpaint:
    """Biharmonic in-painting (Damelin and Hoang 2018) by scikit-image, kept within the range of the pixels left; 2-D images only.

    Its time grows with the area that is hidden in one piece: a tenth of a second per image of 96 × 96.
    """

    def __call__(self, values: Array) -> Array:
        """With everything hidden there is nothing to continue: zero."""
        return np.zeros_like(values)

    def impute(self, image: Array, hidden: npt.NDArray[np.bool_], rng: np.random.Generator) -> Array:
        """A copy of an image (height, width, channels) with its hidden pixels (height, width) painted in; draws nothing."""
        from skimage.restoration import inpaint_biharmonic

        if image.ndim != 3:
            raise InvalidInput(f"inpaint paints images (height, width, channels), got shape {image.shape}")
        if hidden.all():
            return self(image)
        if not hidden.any():
            return image.copy()
        return np.asarray(inpaint_biharmonic(image, hidden, channel_axis=-1), dtype=image.dtype)


IMPUTING = (NoisyLinear, Inpaint)
"""The fills of this file, which read the mask."""
