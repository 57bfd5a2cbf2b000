"""Copies of Keras models: in float64 to measure with, and with weights drawn anew, which may then be trained."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import keras
import numpy as np

from crossxai.adapters.checks import ITSELF, LARGEST_COPY, redrawn
from crossxai.adapters.tensorflow_layers import hooked, wrapped_methods
from crossxai.errors import Unsupported
from crossxai.model import Array
from crossxai.porting import keras_layers as ours
from crossxai.process import foreign, streams_kept

FLOATING = ("float16", "bfloat16", "float32", "mixed_float16", "mixed_bfloat16")
KEPT = LARGEST_COPY // 8
"""A copy of at most so many bytes is kept: making it anew takes longer than a pass."""


def float64_copy(model: Any, keep: Callable[[str, Callable[[], Any]], Any]) -> Any | None:
    """A copy of a functional or sequential model in float64; None where there can be none.

    There is none of subclassed models, of layers that cannot be made anew from their configuration, and of quantised ones.
    keep: (name, make) → what was made, until the model changes in anything but the values of its weights.
    """
    size = 8 * model.count_params() if model.built else LARGEST_COPY + 1
    if size > LARGEST_COPY:
        return None
    twin = keep("exact", lambda: _copy(model)) if size <= KEPT else _copy(model)
    if twin is not None:
        twin.set_weights([np.asarray(w) for w in model.get_weights()])
    return twin


def _copy(model: Any) -> Any | None:
    """A copy whose weights are still to be set; None for one that shares a variable with the model, or has other ones."""
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
    copies: dict[int, Any] = {}

    def layer(own: Any) -> Any:
        if id(own) not in copies:
            copies[id(own)] = _layer(own)
        return copies[id(own)]

    if isinstance(model, keras.Sequential):
        ends = [keras.Input(batch_shape=model.input_shape, dtype="float64", name=model.inputs[0].name)]
        return keras.Sequential([*ends, *(layer(own) for own in model.layers)], name=model.name)
    if not hasattr(model, "_inputs_struct") or type(model).call.__qualname__ != "Functional.call":
        return None  # what it computes is not its graph of layers
    ends = keras.tree.map_structure(
        lambda x: keras.Input(batch_shape=x.shape, dtype=_wide(x.dtype), name=x.name), model.input
    )
    return keras.models.clone_model(model, input_tensors=ends, clone_function=layer)


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
        given = (own.function, own._output_shape, own.mask, own.arguments)
        return keras.layers.Lambda(*given, name=own.name, dtype="float64")
    if own.compute_dtype in FLOATING and (exact := _exact_layer(own)) is not None:
        return exact
    config = _config(own.get_config())
    if type(own).__module__.startswith("keras."):  # its weights are set later: none needs to be drawn
        config |= {key: "zeros" for key, value in config.items() if key.endswith("_initializer") and value is not None}
    layer = type(own).from_config(config)
    if own.compute_dtype not in FLOATING:
        return layer
    for usual, precise in EXACT_ACTIVATIONS:
        if getattr(own, "activation", None) is usual:
            layer.activation = precise
    if isinstance(own, keras.layers.MultiHeadAttention):
        layer._inverse_sqrt_key_dim = np.float64(own._inverse_sqrt_key_dim)  # a Python number is cast by way of float32
    return layer


def _leaky_relu(x: Any) -> Any:
    return keras.ops.where(x > 0, x, 0.2 * x)


EXACT_ACTIVATIONS = ((keras.activations.gelu, ours.gelu_erf), (keras.activations.leaky_relu, _leaky_relu))
"""Activations whose constants TensorFlow keeps in float32, each with one that does not."""
POOLS = {keras.layers.MaxPooling3D: "max", keras.layers.AveragePooling3D: "average"}
"""Pools that TensorFlow does not compute in float64."""


def _exact_layer(own: Any) -> Any | None:
    """In place of a layer whose constants, or all of it, TensorFlow keeps in float32 whatever its dtype."""
    named = {"name": own.name, "dtype": "float64"}
    plain = type(own) is keras.layers.ReLU and own.max_value is None and not own.threshold
    if type(own) is keras.layers.LeakyReLU or (plain and own.negative_slope):
        return ours.ExactLeakyReLU(own.negative_slope, **named)
    if type(own) is keras.layers.UpSampling2D and (own.interpolation, own.data_format) == ("bilinear", "channels_last"):
        return ours.BilinearUpSampling2D(own.size, **named)
    if (kind := POOLS.get(type(own))) is not None and own.data_format == "channels_last":
        return ours.Pooling3D(kind, own.pool_size, own.strides, own.padding, **named)
    return None


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


def owned(layer: Any) -> list[Any]:
    """A layer's own weights without its sublayers' and without statistics, whether or not they are frozen."""
    return list(layer._trainable_variables)


def weighted_layers(model: Any, named: Mapping[str, Any], run: Callable[[], object]) -> dict[str, Any]:
    """Layer name → layer with weights of its own, the one that `run` ends last first; the model's own, of no layer, last."""
    weighted = {name: layer for name, layer in named.items() if owned(layer)}
    ended: dict[str, None] = {}

    def record(name: str, output: Any) -> Any:
        ended.setdefault(name)
        return output

    with hooked(named, {name: partial(record, name) for name in weighted}):
        run()
    own = {ITSELF: model} if owned(model) else {}
    return {name: weighted[name] for name in reversed(ended)} | own


def copied(model: Any, run: Any, name: str) -> Any:
    """A copy of a Keras model that shares no variable with it. run: calls a model, which builds it."""
    try:
        with streams_kept():  # Keras's initialisers take their seeds from Python's generator
            twin = keras.models.clone_model(model)
            run(twin)
        twin.set_weights(model.get_weights())
    except (ValueError, TypeError, NotImplementedError) as error:
        raise Unsupported(
            f"model {name!r} cannot be copied, so its weights cannot be drawn anew: a subclassed model needs get_config and "
            f"from_config ({str(error).partition(chr(10))[0]})"
        ) from error
    if {id(v) for v in twin.variables} & {id(v) for v in model.variables}:
        raise Unsupported(f"model {name!r} cannot be copied: its copy shares weights; make every layer in __init__")
    if not np.allclose(np.asarray(run(twin)), np.asarray(run(model)), rtol=1e-3, atol=1e-5):
        raise Unsupported(f"model {name!r} cannot be copied: its copy with the same weights gives other outputs")
    return twin


def redraw(twin: Any, model: Any, chosen: Mapping[str, Any], seed: int) -> None:
    """Draw anew the weights of the copy's layers that correspond to the chosen layers of the model."""
    names = {id(layer): name for name, layer in chosen.items()}
    for own, other in zip(model._flatten_layers(), twin._flatten_layers(), strict=True):
        if id(own) in names:
            for number, variable in enumerate(owned(other)):
                variable.assign(redrawn(np.asarray(variable), names[id(own)], number, seed))


def trained_statistics(layers: Mapping[str, Any], run: Callable[[], object]) -> dict[str, tuple[Array, Array]]:
    """Name → (running mean, running variance) of every batch norm that runs once in `run`, after it: one pass in which the norms
    alone, frozen or not, are in training mode. All is then as before."""
    norms = {name: layer for name, layer in layers.items() if isinstance(layer, keras.layers.BatchNormalization)}
    before = {name: (norm.trainable, norm.get_weights()) for name, norm in norms.items()}
    runs = dict.fromkeys(norms, 0)

    def train(name: str, call: Callable[..., Any], given: Any, *_training: Any, **kwargs: Any) -> Any:
        runs[name] = runs.pop(name) + 1  # in order of execution
        return call(given, **{**kwargs, "training": True})

    try:
        for norm in norms.values():
            norm.trainable = True
        with wrapped_methods([(norm, "call", partial(train, name)) for name, norm in norms.items()]):
            run()
        return {
            name: (np.asarray(norms[name].moving_mean), np.asarray(norms[name].moving_variance))
            for name, times in runs.items()
            if times == 1
        }
    finally:
        for name, norm in norms.items():
            norm.trainable, weights = before[name]
            norm.set_weights(weights)


def calibrate(layers: Iterable[Any], run: Callable[[], object]) -> None:
    """Set the moving statistics of every batch norm to those of what reaches it in `run`, one forward pass of many samples."""

    def measure(layer: Any, call: Callable[..., Any], given: Any, *args: Any, **kwargs: Any) -> Any:
        values = keras.ops.cast(given, layer.moving_mean.dtype)
        mean, variance = keras.ops.moments(
            values, [axis for axis in range(values.ndim) if axis != layer.axis % values.ndim]
        )
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(variance)
        return call(given, *args, **kwargs)

    norms = {id(layer): layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)}
    with wrapped_methods([(layer, "call", partial(measure, layer)) for layer in norms.values()]):
        run()
