"""Maps and scans brought to another size, linearly along each axis."""

from __future__ import annotations

import numpy as np

from crossxai.model import Array


def bilinear(maps: Array, *size: int) -> Array:
    """Resize maps (n, *space) to (n, *size) with half-pixel centres and clamped borders, linearly along each axis. Equal to torch
    `interpolate(mode="bilinear", align_corners=False)`, of volumes `mode="trilinear"`, `tf.image.resize` and `cv2.resize`."""
    if len(size) != 2:
        enlarged = maps
        for axis, new in enumerate(size, 1):
            weights = interpolation(maps.shape[axis], new)
            enlarged = np.moveaxis(np.tensordot(weights, enlarged, axes=(1, axis)), 0, axis)
        return np.ascontiguousarray(enlarged).astype(maps.dtype)
    rows, columns = (interpolation(old, new) for old, new in zip(maps.shape[1:], size, strict=True))
    return np.asarray(np.einsum("ah,nhw,bw->nab", rows, maps, columns, optimize=True)).astype(maps.dtype)


def interpolation(old: int, new: int) -> Array:
    """Interpolation matrix (new, old)."""
    centres = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    left = np.floor(centres).astype(int)
    right = np.minimum(left + 1, old - 1)
    matrix = np.zeros((new, old))
    np.add.at(matrix, (np.arange(new), left), 1 - (centres - left))
    np.add.at(matrix, (np.arange(new), right), centres - left)
    return matrix
