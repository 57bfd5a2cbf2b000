"""What Keras layers show of themselves: the axes of their outputs, norms as they were made, the last operation; hooks on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from crossxai.adapters.checks import overridden
from crossxai.errors import Unsupported
from crossxai.model import Array
from crossxai.porting.to_keras import HARMLESS

Axes = tuple[str, ...]
SPACE: dict[int, Axes] = {1: ("x",), 2: ("y", "x"), 3: ("z", "y", "x")}
_K = keras.layers


def _kinds(*names: str) -> dict[Any, int]:
    """Layer → its number of axes of space, for the names that this version of Keras has in 1-D, 2-D and 3-D."""
    kinds = {getattr(_K, f"{name}{n}D", None): n for name in names for n in SPACE}
    return {kind: n for kind, n in kinds.items() if kind is not None}


WINDOWED = _kinds(
    "Conv", "DepthwiseConv", "SeparableConv", "MaxPooling", "AveragePooling", "UpSampling", "ZeroPadding", "Cropping",
    "AdaptiveAveragePooling", "AdaptiveMaxPooling",
) | {_K.Conv1DTranspose: 1, _K.Conv2DTranspose: 2, _K.Conv3DTranspose: 3}  # fmt: skip
GLOBAL = _kinds("GlobalAveragePooling", "GlobalMaxPooling")
KEEPING = (
    _K.BatchNormalization, _K.LayerNormalization, _K.GroupNormalization, _K.UnitNormalization, _K.Normalization,
    _K.Activation, _K.ReLU, _K.LeakyReLU, _K.ELU, _K.PReLU, _K.Softmax, _K.Dropout, _K.SpatialDropout1D, _K.SpatialDropout2D,
    _K.SpatialDropout3D, _K.GaussianNoise, _K.GaussianDropout, _K.AlphaDropout, _K.ActivityRegularization, _K.Identity,
    _K.Rescaling, _K.Add, _K.Subtract, _K.Multiply, _K.Average, _K.Maximum, _K.Minimum, _K.Concatenate,
)  # fmt: skip
"""Layers whose output has the axes of their inputs."""
POINTWISE = frozenset({
    "Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Gelu", "Silu", "Sigmoid", "Tanh", "Softplus", "Softsign", "HardSigmoid",
    "HardSilu", "Softmax", "LogSoftmax", "Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Maximum", "Minimum", "Power",
    "Negative", "Abs", "Absolute", "Exp", "Log", "Sqrt", "Square", "Clip", "Cast", "Identity", "Concatenate",
})  # fmt: skip
"""The same of keras.ops, by the name of their class: the classes themselves are not public."""


def defined_axes(layer: Any) -> Axes | None:
    """What a layer's definition says of its output's axes after the sample axis; None if it says nothing."""
    for kinds, pooled in ((WINDOWED, False), (GLOBAL, True)):
        known = next((kind for kind in type(layer).__mro__ if kind in kinds), None)
        if known is None or overridden(layer, known, HARMLESS):
            continue
        if pooled and not layer.keepdims:
            return ("channel",)
        # 1-D padding, cropping and upsampling know no data format: they act on the first axis.
        first = getattr(layer, "data_format", "channels_last") == "channels_first"
        return ("channel", *SPACE[kinds[known]]) if first else (*SPACE[kinds[known]], "channel")
    return None


def axes_along(
    model: Any, inputs: Mapping[int, Axes], known: dict[int, Axes | None] | None = None
) -> dict[int, Axes | None]:
    """id of every symbolic tensor of a functional graph → its axes after the sample axis, carried along the graph.

    inputs: id of the model's symbolic inputs → their axes. Nested functional models that are called once are gone into.
    """
    axes: dict[int, Axes | None] = {} if known is None else known
    axes.update(inputs)
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if node.is_input:
                continue
            operation, given = node.operation, node.input_tensors
            inner = getattr(operation, "_functional", None) or operation
            if hasattr(inner, "_nodes_by_depth"):
                if len(operation._inbound_nodes) == 1 and len(given) == len(inner.inputs):
                    named = {id(s): axes.get(id(t)) for s, t in zip(inner.inputs, given, strict=True)}
                    axes_along(inner, {i: a for i, a in named.items() if a is not None}, axes)
                    results: Any = [axes.get(id(s)) for s in inner.outputs]
                else:
                    results = []
            else:
                results = [_axes_of(operation, given, node.output_tensors, axes)]
            for tensor, result in zip(node.output_tensors, results, strict=False):
                axes[id(tensor)] = result if result is None or len(result) == len(tensor.shape) - 1 else None
    return axes


def _axes_of(operation: Any, given: Any, outputs: Any, axes: Mapping[int, Axes | None]) -> Axes | None:
    if isinstance(operation, _K.Layer):
        defined = defined_axes(operation)
        if defined is not None:
            return defined
        dense = isinstance(operation, _K.Dense)
        kind = next((k for k in type(operation).__mro__ if k in KEEPING or k is _K.Dense), None)
        scaled = type(operation).__module__ == "keras.src.applications.convnext"  # a factor per channel, a random depth
        if not scaled and (kind is None or overridden(operation, kind, HARMLESS)):
            return None
    elif type(operation).__name__ in POINTWISE and type(operation).__module__.startswith("keras."):
        dense = False
    else:
        return None
    # What is as large as the output has its axes; a factor that is broadcast, or one that tells nothing, does not matter.
    shape = tuple(outputs[0].shape)
    joined = type(operation).__name__ == "Concatenate"
    known = {axes.get(id(t)) for t in given if joined or tuple(t.shape) == shape or dense}
    known -= set() if joined else {None}
    (source,) = known if len(known) == 1 else (None,)
    # A dense layer mixes along the last axis, of which it makes another one.
    return None if dense and (source is None or source[-1] != "channel") else source


KEEPING_RANGE = frozenset({
    *("Identity", "Reshape", "Squeeze", "ExpandDims", "Transpose", "Cast", "StridedSlice", "EnsureShape", "Mean"),
    *("ResizeBilinear", "ResizeNearestNeighbor", "AvgPool", "MaxPool"),
})  # fmt: skip
"""Operations that keep what lies in [0, 1] there."""

ENDINGS = {
    **{"Sigmoid": "sigmoid", "Softmax": "softmax", "LogSoftmax": "log-softmax"},
    **dict.fromkeys(("BiasAdd", "MatMul", "BatchMatMulV2", "Conv2D", "FusedBatchNormV3"), "linear"),
}
SUMS = ("Add", "AddV2", "Sub")


def last_operation(output: Any) -> str | None:
    """ "sigmoid", "softmax", "log-softmax" or "linear" (a layer without an activation); None for anything else."""
    step = output.op
    while step.type in KEEPING_RANGE:
        step = step.inputs[0].op
    if step.type in SUMS:  # a bias, or a residual branch; but 0.5 + 0.5 * tanh(x) is a sigmoid
        return "linear" if any(last_operation(term) == "linear" for term in step.inputs) else None
    return ENDINGS.get(step.type)


def hints(layers: Iterable[Any]) -> Mapping[str, Any]:
    """ "norms": how many batch norms there are; "fresh norms": those whose statistics and weights are as they were made;
    "rescaling": what a Rescaling layer multiplies by, where there is one."""
    every = list(layers)
    norms = [layer for layer in every if isinstance(layer, keras.layers.BatchNormalization) and layer.built]
    rescaling = [layer.scale for layer in every if isinstance(layer, keras.layers.Rescaling)]
    shown: dict[str, Any] = {"norms": len(norms), "fresh norms": sum(_fresh(norm) for norm in norms)}
    return shown | ({"rescaling": rescaling[0]} if rescaling else {})


def _fresh(norm: Any) -> bool:
    pairs = ((norm.moving_mean, 0), (norm.moving_variance, 1), (norm.gamma, 1), (norm.beta, 0))
    return all(weight is None or bool((np.asarray(weight) == start).all()) for weight, start in pairs)


def to_array(tensor: Any) -> Array:
    """A NumPy array; half precision becomes float32."""
    full = tensor if tensor.dtype in (tf.float32, tf.float64) else tf.cast(tensor, tf.float32)
    return np.asarray(full)


@contextmanager
def wrapped_methods(wrappers: Sequence[tuple[Any, str, Callable[..., Any]]]) -> Iterator[None]:
    """Within it, `function(method, *arguments)` runs in place of a layer's method: (layer, the method's name, function)."""
    own = [(layer, method, vars(layer)[method]) for layer, method, _ in wrappers if method in vars(layer)]
    try:
        for layer, method, function in wrappers:
            # Past Keras's own __setattr__, which would track the function as part of the model.
            object.__setattr__(layer, method, partial(function, getattr(layer, method)))
        yield
    finally:
        for layer, method, _ in wrappers:
            vars(layer).pop(method, None)
        for layer, method, value in own:
            object.__setattr__(layer, method, value)


def hooked(layers: Mapping[str, Any], hooks: Mapping[str, Callable[[Any], Any]]) -> AbstractContextManager[None]:
    """Within it, the outputs of the named layers pass through functions. layers: every layer by name."""
    return wrapped_methods([(layers[name], "call", partial(_after, hook)) for name, hook in hooks.items()])


@contextmanager
def once(
    layers: Mapping[str, Any], layer: str, model: str, change: Callable[[Any], Any] = lambda output: output
) -> Iterator[list[Any]]:
    """Within it, the output of one layer passes through `change`; the list holds what came of it.

    Raises `Unsupported` afterwards unless the layer ran exactly once and gave a tensor.
    """
    seen: list[Any] = []

    def record(output: Any) -> Any:
        seen.append(change(output) if tf.is_tensor(output) and not seen else output)
        return seen[-1]

    with hooked(layers, {layer: record}):
        yield seen
    if len(seen) > 1:
        raise Unsupported(f"layer {layer!r} of model {model!r} runs more than once in a pass: name another")
    if not seen:
        raise Unsupported(f"layer {layer!r} of model {model!r} does not run in a forward pass")
    if not tf.is_tensor(seen[0]):
        raise Unsupported(f"layer {layer!r} of model {model!r} gives {type(seen[0]).__name__}, not a tensor")


def _after(hook: Callable[[Any], Any], call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return hook(call(*args, **kwargs))
