"""What a Keras model shows of itself without a pass: norms as they were made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np


def hints(layers: Iterable[Any]) -> Mapping[str, Any]:
    """ "norms": how many batch norms there are; "fresh norms": those whose statistics and weights are as they were made;
    "rescaling": what a Rescaling layer multiplies by, where there is one."""
    every = list(layers)
    norms = [layer for layer in every if isinstance(layer, keras.layers.BatchNormalization) and layer.built]
    rescaling = [layer.scale for layer in every if isinstance(layer, keras.layers.Rescaling)]
    found: dict[str, Any] = {"norms": len(norms), "fresh norms": sum(_fresh(norm) for norm in norms)}
    return found | ({"rescaling": rescaling[0]} if rescaling else {})


def _fresh(norm: Any) -> bool:
    pairs = ((norm.moving_mean, 0), (norm.moving_variance, 1), (norm.gamma, 1), (norm.beta, 0))
    return all(weight is None or bool((np.asarray(weight) == start).all()) for weight, start in pairs)
