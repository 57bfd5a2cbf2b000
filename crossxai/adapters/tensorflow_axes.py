"""What the axes of a Keras layer's output mean, where the layer's own definition or the functional graph tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from crossxai.adapters.checks import overridden
from crossxai.porting.keras_kinds import HARMLESS

Axes = tuple[str, ...]
SPACE: dict[int, Axes] = {1: ("x",), 2: ("y", "x"), 3: ("z", "y", "x")}
_K = keras.layers


def _kinds(*names: str) -> dict[Any, int]:
    """Layer → its number of axes of space, for the names that this version of Keras has in 1-D, 2-D and 3-D."""
    found = {getattr(_K, f"{name}{n}D", None): n for name in names for n in SPACE}
    return {kind: n for kind, n in found.items() if kind is not None}


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


def own(layer: Any) -> Axes | None:
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


def along(
    model: Any, inputs: Mapping[int, Axes], found: dict[int, Axes | None] | None = None
) -> dict[int, Axes | None]:
    """id of every symbolic tensor of a functional graph → its axes after the sample axis, carried along the graph.

    inputs: id of the model's symbolic inputs → their axes. Nested functional models that are called once are gone into.
    """
    axes: dict[int, Axes | None] = {} if found is None else found
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
                    along(inner, {i: a for i, a in named.items() if a is not None}, axes)
                    results: Any = [axes.get(id(s)) for s in inner.outputs]
                else:
                    results = []
            else:
                results = [_of(operation, given, node.output_tensors, axes)]
            for tensor, result in zip(node.output_tensors, results, strict=False):
                axes[id(tensor)] = result if result is None or len(result) == len(tensor.shape) - 1 else None
    return axes


def _of(operation: Any, given: Any, outputs: Any, axes: Mapping[int, Axes | None]) -> Axes | None:
    if isinstance(operation, _K.Layer):
        told = own(operation)
        if told is not None:
            return told
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
