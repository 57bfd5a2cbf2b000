"""The conventions of finished maps: sign, channels, ReLU, resize and rescale, in the order in which libraries apply them."""

from __future__ import annotations

import numpy as np

from crossxai.conventions.convention import Setting
from crossxai.explainers.families import bilinear
from crossxai.model import Array


def finish(raw: Array, setting: Setting, space: tuple[int, ...]) -> Array:
    """A raw array (n, y, x, channels), or (n, features) of a table, finished as a setting has it.

    space: (height, width) of the image, for a map on a smaller grid.
    """
    maps = np.abs(raw) if setting.get("magnitude") == "absolute" else raw
    maps = _reduced(maps, str(setting.get("channels", "each")))
    if setting.get("relu") == "before":
        maps = np.maximum(maps, 0)
    epsilon = float(setting["rescale_epsilon"])
    if setting["rescale"] == "twice":
        maps = rescaled(maps, epsilon)
    maps = resized(maps, str(setting.get("resize", "none")), space)
    if setting.get("relu") == "after":
        maps = np.maximum(maps, 0)
    if setting["rescale"] == "largest":
        maps = _divided(maps, np.abs(maps).max(axis=tuple(range(1, maps.ndim)), keepdims=True))
    elif setting["rescale"] != "none":
        maps = rescaled(maps, epsilon)
    return -maps if setting["sign"] == "negated" else maps


def _reduced(maps: Array, how: str) -> Array:
    if how == "each" or maps.ndim == 2:  # a table has no channels
        return maps
    if how == "largest":
        return np.asarray(maps.max(axis=-1, keepdims=True))
    if how == "norm":
        return np.asarray(np.linalg.norm(maps, axis=-1, keepdims=True))
    total = maps.sum(axis=-1, keepdims=True)
    return np.asarray(total if how == "sum" else total / maps.dtype.type(maps.shape[-1]))


def rescaled(maps: Array, epsilon: float = 1e-7) -> Array:
    """Each sample put to [0, 1], as pytorch-grad-cam does it, with its 1e-7 in the denominator."""
    axes = tuple(range(1, maps.ndim))
    maps = maps - maps.min(axis=axes, keepdims=True)
    return _divided(maps, maps.dtype.type(epsilon) + maps.max(axis=axes, keepdims=True))


def _divided(maps: Array, by: Array) -> Array:
    """A map that is 0 everywhere stays so."""
    return np.asarray(maps / np.where(by == 0, maps.dtype.type(1), by))


def resized(maps: Array, how: str, space: tuple[int, ...]) -> Array:
    """Maps (n, h, w, c) enlarged to `space`."""
    if how == "none" or maps.shape[1:3] == tuple(space):
        return maps
    if how == "bilinear":
        planes = np.moveaxis(maps, -1, 1).reshape(-1, *maps.shape[1:3])
        large = bilinear(planes, *space).reshape(len(maps), maps.shape[-1], *space)
        return np.ascontiguousarray(np.moveaxis(large, 1, -1))
    rows, columns = (_weights(how, old, new) for old, new in zip(maps.shape[1:3], space, strict=True))
    return np.asarray(np.einsum("ah,nhwc,bw->nabc", rows, maps, columns, optimize=True), maps.dtype)


def _weights(how: str, old: int, new: int) -> Array:
    """Interpolation matrix (new, old)."""
    matrix = np.zeros((new, old))
    if how == "nearest":
        matrix[np.arange(new), np.arange(new) * old // new] = 1
        return matrix
    if how == "corners":
        centres = np.arange(new) * (old - 1) / max(new - 1, 1)
        left = np.minimum(np.floor(centres).astype(int), old - 1)
        np.add.at(matrix, (np.arange(new), left), 1 - (centres - left))
        np.add.at(matrix, (np.arange(new), np.minimum(left + 1, old - 1)), centres - left)
        return matrix
    a = -0.5 if how == "bicubic" else -0.75
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    left = np.floor(centres).astype(int)
    inside = np.zeros(new)
    for offset in (-1, 0, 1, 2):
        distance = np.abs(centres - (left + offset))
        weight = np.where(
            distance <= 1,
            (a + 2) * distance**3 - (a + 3) * distance**2 + 1,
            a * (distance**3 - 5 * distance**2 + 8 * distance - 4),
        )
        place = left + offset
        if how == "bicubic":  # TensorFlow leaves out what is beyond the border and shares its weight among the rest
            weight = np.where((place >= 0) & (place < old), weight, 0)
        np.add.at(matrix, (np.arange(new), np.clip(place, 0, old - 1)), weight)
        inside += weight
    return matrix / inside[:, None]
