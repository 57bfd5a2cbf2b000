"""Bilinear resizing of low-resolution maps to the input's size, the convention on which the libraries' resizers agree."""

from __future__ import annotations

import numpy as np

from crossxai.model import Array


def bilinear(maps: Array, height: int, width: int) -> Array:
    """Resize maps (n, h, w) to (n, height, width) with half-pixel centres and clamped borders.

    Equal to torch `interpolate(mode="bilinear", align_corners=False)`, `tf.image.resize` and `cv2.resize`.
    """
    rows, columns = _weights(maps.shape[1], height), _weights(maps.shape[2], width)
    return np.asarray(np.einsum("ah,nhw,bw->nab", rows, maps, columns, optimize=True)).astype(maps.dtype)


def _weights(old: int, new: int) -> Array:
    """Interpolation matrix (new, old)."""
    centres = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    left = np.floor(centres).astype(int)
    right = np.minimum(left + 1, old - 1)
    matrix = np.zeros((new, old))
    np.add.at(matrix, (np.arange(new), left), 1 - (centres - left))
    np.add.at(matrix, (np.arange(new), right), centres - left)
    return matrix
