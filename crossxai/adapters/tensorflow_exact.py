"""A copy of a Keras model in float64, to measure with and to throw away."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from crossxai.adapters.checks import LARGEST_COPY
from crossxai.process import foreign, streams_kept

FLOATING = ("float16", "bfloat16", "float32", "mixed_float16", "mixed_bfloat16")
KEPT = LARGEST_COPY // 8
"""A copy of at most so many bytes is kept: making it anew takes longer than a pass."""


def exact(model: Any, keep: Callable[[str, Callable[[], Any]], Any]) -> Any | None:
    """A copy of a functional or sequential model in float64; None where there can be none.

    There is none of subclassed models, of layers that cannot be made anew from their configuration, and of quantised ones.
    keep: (name, make) → what was made, until the model changes in anything but the values of its weights.
    """
    size = 8 * model.count_params() if model.built else 0
    if not model.built or size > LARGEST_COPY:
        return None
    twin = keep("exact", lambda: _made(model)) if size <= KEPT else _made(model)
    if twin is not None:
        twin.set_weights([np.asarray(w) for w in model.get_weights()])
    return twin


def _made(model: Any) -> Any | None:
    """A copy, or None; its weights are still to be set.

    A copy that shares a variable with the model, or has other ones, is none.
    """
    if any(getattr(layer, "quantization_mode", None) for layer in model._flatten_layers()):
        return None
    raised: tuple[type[Exception], ...] = (AttributeError, MemoryError, *foreign())
    try:
        with streams_kept():  # Keras's initialisers take their seeds from Python's generator
            twin = _model(model)
    except raised:
        return None
    if twin is None or [tuple(w.shape) for w in twin.weights] != [tuple(w.shape) for w in model.weights]:
        return None
    return None if {id(v) for v in twin.variables} & {id(v) for v in model.variables} else twin


def _model(model: Any) -> Any | None:
    made: dict[int, Any] = {}

    def layer(own: Any) -> Any:
        if id(own) not in made:
            made[id(own)] = _layer(own)
        return made[id(own)]

    if isinstance(model, keras.Sequential):
        ends = [keras.Input(batch_shape=model.input_shape, dtype="float64", name=model.inputs[0].name)]
        return keras.Sequential([*ends, *(layer(own) for own in model.layers)], name=model.name)
    if not _functional(model):
        return None
    ends = keras.tree.map_structure(
        lambda x: keras.Input(batch_shape=x.shape, dtype=_wide(x.dtype), name=x.name), model.input
    )
    return keras.models.clone_model(model, input_tensors=ends, clone_function=layer)


def _functional(model: Any) -> bool:
    """Whether what a model computes is its graph of layers."""
    return hasattr(model, "_inputs_struct") and type(model).call.__qualname__ == "Functional.call"


def _layer(own: Any) -> Any:
    if isinstance(own, keras.Model):
        inner = _model(own)
        if inner is None:
            raise NotImplementedError(f"{type(own).__name__} is subclassed")
        return inner
    if not isinstance(own, keras.layers.Layer):
        twin = copy.copy(own)  # an operation of the graph; it must not learn of another graph
        twin._inbound_nodes, twin._outbound_nodes = [], []
        return twin
    if isinstance(own, keras.layers.Lambda):  # its function as it is, which no configuration carries
        return keras.layers.Lambda(
            own.function, own._output_shape, own.mask, own.arguments, name=own.name, dtype="float64"
        )
    config = _config(own.get_config())
    if type(own).__module__.startswith("keras."):  # its weights are set later: none needs to be drawn
        config |= {key: "zeros" for key, value in config.items() if key.endswith("_initializer") and value is not None}
    return type(own).from_config(config)


def _config(config: Any, key: str = "") -> Any:
    """A configuration with every floating dtype and policy in it replaced by float64."""
    if key == "dtype" and isinstance(config, Mapping):
        return "float64" if config.get("config", {}).get("name") in FLOATING else config
    if key == "dtype":
        return _wide(config)
    if isinstance(config, Mapping):
        return {k: _config(v, k) for k, v in config.items()}
    return [_config(v) for v in config] if isinstance(config, list) else config


def _wide(dtype: Any) -> Any:
    return "float64" if dtype in FLOATING else dtype
