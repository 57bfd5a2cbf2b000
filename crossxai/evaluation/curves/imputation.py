"""Imputation: hidden pixels are made of those that are left, so that what a fill puts in depends on the mask."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix, csc_matrix, csr_matrix
from scipy.sparse.linalg import splu

from crossxai.errors import InvalidInput
from crossxai.evaluation.parameters import not_negative
from crossxai.model import Array


@dataclass(frozen=True)
class NoisyLinear:
    """Weighted mean of the eight neighbours plus normal noise, absolute, in the units it works in; 2-D images only.

    Rong et al. 2022 (ROAD, arXiv:2202.00449), section 4: a constant colour tells the model the shape of the hidden mask.
    """

    noise: float = 0.01

    def __post_init__(self) -> None:
        not_negative(self.noise, "noisy_linear: noise")

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

WEIGHTS = {(0, 1): 1 / 6, (0, -1): 1 / 6, (1, 0): 1 / 6, (-1, 0): 1 / 6}
WEIGHTS |= {(1, 1): 1 / 12, (1, -1): 1 / 12, (-1, 1): 1 / 12, (-1, -1): 1 / 12}

Entries = tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]
"""Values, rows and columns of part of a sparse matrix."""


class Imputation:
    """The sparse linear system of one mask (height, width), true where pixels are removed; some pixel must be left.

    Every removed pixel equals the mean of its neighbours by `WEIGHTS`, rescaled at the image's edge, for every channel and image.
    """

    def __init__(self, removed: npt.NDArray[np.bool_]) -> None:
        self.unknowns = int(removed.sum())
        number = np.full(tuple(side + 2 for side in removed.shape), -1)
        number[1:-1, 1:-1][removed] = np.arange(self.unknowns)
        known = np.full(number.shape, -1)
        known[1:-1, 1:-1][~removed] = np.flatnonzero(~removed)
        y, x = np.nonzero(removed)
        own, total = np.arange(self.unknowns), np.zeros(self.unknowns)
        left: list[Entries] = []
        right: list[Entries] = []
        for (down, across), weight in WEIGHTS.items():
            for numbers, entries, sign in ((number, left, -1), (known, right, 1)):
                neighbour = numbers[y + 1 + down, x + 1 + across]
                here = neighbour >= 0
                total[here] += weight
                entries.append((np.full(here.sum(), sign * weight), own[here], neighbour[here]))
        left.append((total, own, own))
        system: csc_matrix = _sparse(left, (self.unknowns, self.unknowns)).tocsc()
        self.known: csr_matrix = _sparse(right, (self.unknowns, removed.size)).tocsr()
        # Symmetric and diagonally dominant: no pivoting, half the entries and time of the general case.
        self.factors = splu(system, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0, options={"SymmetricMode": True})

    @property
    def size(self) -> int:
        """Numbers held."""
        return int(self.factors.nnz + self.known.nnz)

    def __call__(self, image: Array) -> npt.NDArray[np.float64]:
        """What an image (height, width, channels) has at the removed pixels, in raster order: (removed, channels)."""
        flat = image.reshape(-1, image.shape[-1]).astype(np.float64)
        return np.asarray(self.factors.solve(self.known @ flat))


class Imputations:
    """The last masks' systems, as many as fit into `most` numbers of 12 bytes."""

    def __init__(self, most: int = 10_000_000) -> None:
        self.most = most
        self._held: OrderedDict[tuple[tuple[int, ...], bytes], Imputation] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def __call__(self, removed: npt.NDArray[np.bool_]) -> Imputation:
        """The system of a mask, made if it is not held."""
        key = (removed.shape, np.packbits(removed).tobytes())
        system = self._held.pop(key, None) or Imputation(removed)
        self._held[key] = system
        while len(self._held) > 1 and sum(i.size for i in self._held.values()) > self.most:
            self._held.popitem(last=False)
        return system


def _sparse(entries: list[Entries], shape: tuple[int, int]) -> coo_matrix:
    values, rows, columns = (np.concatenate(column) for column in zip(*entries, strict=True))
    return coo_matrix((values, (rows, columns)), shape=shape)
