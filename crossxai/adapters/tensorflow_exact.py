"""A copy of a Keras model in float64, to measure with and to throw away."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from crossxai.model_checks import LARGEST_COPY
from crossxai.process import foreign, streams_kept

FLOATING = ("float16", "bfloat16", "float32", "mixed_float16", "mixed_bfloat16")


def exact(model: Any) -> Any | None:
    """A copy of a functional or sequential model in float64; None where there can be none.

    There is none of subclassed models, of layers that cannot be made anew from their configuration, and of quantised ones.
    """
    if not model.built or 8 * model.count_params() > LARGEST_COPY:
        return None
    if any(getattr(layer, "quantization_mode", None) for layer in model._flatten_layers()):
        return None
    raised: tuple[type[Exception], ...] = (AttributeError, MemoryError, *foreign())
    try:
        with streams_kept():  # Keras's initialisers take their seeds from Python's generator
            twin = _model(model)
            if twin is None:
                return None
            twin.set_weights([np.asarray(w) for w in model.get_weights()])
    except raised:
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
    return type(own).from_config(_config(own.get_config()))


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
