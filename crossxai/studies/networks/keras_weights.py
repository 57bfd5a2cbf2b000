"""Weights between torch's state_dict and a Keras model of the same layers, both ways.

A Keras layer bears the torch module's name with "_" for "."; kernels are OIHW in torch and HWIO in Keras (transposed
convolutions IOHW and HWOI), dense kernels transposed, and those behind a Flatten ordered by (channel, y, x) and (y, x, channel).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from crossxai.errors import InvalidInput

Values = npt.NDArray[Any]


def set_weights_from(model: Any, state: Mapping[str, Values]) -> None:
    """Give a Keras model the weights of torch's state_dict (as NumPy arrays); every array must find its place."""
    left = {name for name in state if not name.endswith("num_batches_tracked")}
    for layer in model.layers:
        if not layer.weights:
            continue
        wanted = _torch_names(layer)
        lacking = [name for name in wanted if name not in state]
        if lacking:
            raise InvalidInput(f"the weights lack {', '.join(lacking)}, which layer {layer.name!r} needs")
        expected = [tuple(w.shape) for w in layer.weights]
        values = [_to_keras(layer, np.asarray(state[name])) for name in wanted]
        found = [v.shape for v in values]
        if found != expected:
            raise InvalidInput(
                f"layer {layer.name!r} takes arrays of shapes {expected}, {', '.join(wanted)} give {found} (Keras's order)"
            )
        layer.set_weights(values)
        left -= set(wanted)
    if left:
        raise InvalidInput(f"no layer of {model.name!r} takes {', '.join(sorted(left))}")


def state_from(model: Any) -> dict[str, Values]:
    """torch's state_dict, as NumPy arrays, of a Keras model; batch norms count no batches."""
    state: dict[str, Values] = {}
    for layer in model.layers:
        if not layer.weights:
            continue
        for name, values in zip(_torch_names(layer), layer.get_weights(), strict=True):
            state[name] = np.ascontiguousarray(_from_keras(layer, np.asarray(values)))
        if isinstance(layer, keras.layers.BatchNormalization):
            state[f"{_prefix(layer)}.num_batches_tracked"] = np.array(0, np.int64)
    return state


def _prefix(layer: Any) -> str:
    return str(layer.name).replace("_", ".")  # layer2_0_downsample_1 → layer2.0.downsample.1


def _torch_names(layer: Any) -> list[str]:
    """torch's names of a layer's arrays, in the order of Keras's `layer.weights`."""
    if isinstance(layer, keras.layers.BatchNormalization):
        names: tuple[str, ...] = ("weight", "bias", "running_mean", "running_var")
    else:
        names = ("weight", "bias")[: len(layer.weights)]
    return [f"{_prefix(layer)}.{name}" for name in names]


def _to_keras(layer: Any, values: Values) -> Values:
    if values.ndim == 4:
        return values.transpose(2, 3, 1, 0)
    height, width, channels = _flattened(layer)
    if values.ndim == 2 and height * width * channels == values.shape[1]:
        return values.reshape(-1, channels, height, width).transpose(2, 3, 1, 0).reshape(-1, len(values))
    return values.T


def _from_keras(layer: Any, values: Values) -> Values:
    if values.ndim == 4:
        return values.transpose(3, 2, 0, 1)
    height, width, channels = _flattened(layer)
    if values.ndim == 2 and height * width * channels == len(values):
        return values.reshape(height, width, channels, -1).transpose(3, 2, 0, 1).reshape(-1, len(values))
    return values.T


def _flattened(layer: Any) -> tuple[int, int, int]:
    """(height, width, channels) of what is flattened into a dense layer, the one order of values in which frameworks differ."""
    before = layer.input._keras_history.operation if isinstance(layer, keras.layers.Dense) else None
    if not isinstance(before, keras.layers.Flatten) or len(before.input.shape) != 4:
        return 0, 0, 0
    _, height, width, channels = before.input.shape
    return height, width, channels
