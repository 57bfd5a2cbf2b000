"""How weights are drawn anew, the same way in every framework."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from crossxai.errors import InvalidInput


def redrawn(values: npt.NDArray[Any], layer: str, number: int, seed: int) -> npt.NDArray[np.float64]:
    """Normal draws with the mean and standard deviation of a layer's weight number `number`, same shape.

    Trained scales are kept, so that a randomised network neither dies nor explodes; where all values are equal, as in a weight
    of one number, they stay. Draws depend on the layer's name, never on how many other layers are drawn.
    """
    rng = np.random.default_rng([seed, zlib.crc32(layer.encode()), number])
    exact = np.asarray(values, dtype=np.float64)
    return rng.normal(exact.mean(), exact.std(), exact.shape)


def check_depth(depth: int, layers: tuple[str, ...], model: str) -> None:
    """Raise `InvalidInput` unless `depth` counts layers that there are."""
    if isinstance(depth, bool) or not isinstance(depth, int | np.integer) or not 0 <= depth <= len(layers):
        raise InvalidInput(
            f"model {model!r} has {len(layers)} layers with weights: depth is a whole number from 0 to {len(layers)}, "
            f"got {depth!r}"
        )
