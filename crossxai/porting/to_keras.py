"""A graph as a flat functional Keras model of ordinary layers, which `clone_model` copies and Xplique's ReLU override
finds. The few layers that Keras has not are serialisable, so that `clone_model` and `load_model` know them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from crossxai.errors import Unsupported
from crossxai.model import Array
from crossxai.porting.building import NONE, widened
from crossxai.porting.graph import Graph, Node


@keras.saving.register_keras_serializable(package="crossxai.porting")
class MinusInfinityPadding2D(keras.layers.Layer):  # type: ignore[misc]
    """Pads (n, y, x, c) by ((top, bottom), (left, right)) with -inf, which no maximum ever takes."""

    def __init__(self, padding: Sequence[Sequence[int]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.padding = tuple((int(a), int(b)) for a, b in padding)

    def call(self, inputs: Any) -> Any:
        return keras.ops.pad(inputs, ((0, 0), *self.padding, (0, 0)), constant_values=-np.inf)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        n, height, width, channels = input_shape
        (top, bottom), (left, right) = self.padding
        return n, height and height + top + bottom, width and width + left + right, channels

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "padding": self.padding}


@keras.saving.register_keras_serializable(package="crossxai.porting")
class Standardise(keras.layers.Layer):  # type: ignore[misc]
    """(x - mean) / sd in the layer's own dtype; the constants of Keras's Rescaling are float32 whatever its dtype."""

    def __init__(self, mean: Any, sd: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mean, self.sd = (np.asarray(v, dtype=np.float64).tolist() for v in (mean, sd))

    def call(self, inputs: Any) -> Any:
        mean, sd = (np.asarray(v, dtype=self.compute_dtype) for v in (self.mean, self.sd))
        return (inputs - mean) / sd

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mean": self.mean, "sd": self.sd}


@keras.saving.register_keras_serializable(package="crossxai.porting")
class BilinearUpSampling2D(keras.layers.Layer):  # type: ignore[misc]
    """Bilinear upsampling by whole factors in the layer's own dtype; Keras's, TensorFlow's resize, is float32 inside."""

    def __init__(self, size: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = tuple(int(factor) for factor in size)

    def call(self, inputs: Any) -> Any:
        rows, columns = (
            keras.ops.convert_to_tensor(interpolation(n, factor), dtype=self.compute_dtype)
            for n, factor in zip(inputs.shape[1:3], self.size, strict=True)
        )
        return keras.ops.einsum("ny,byxc,mx->bnmc", rows, inputs, columns)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        n, height, width, channels = input_shape
        return n, height and height * self.size[0], width and width * self.size[1], channels

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size}


@keras.saving.register_keras_serializable(package="crossxai.porting")
class ExactLeakyReLU(keras.layers.Layer):  # type: ignore[misc]
    """Leaky ReLU with a slope of the layer's own dtype; TensorFlow's operation keeps it in float32."""

    def __init__(self, negative_slope: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.negative_slope = float(negative_slope)

    def call(self, inputs: Any) -> Any:
        return keras.ops.where(inputs > 0, inputs, self.negative_slope * inputs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "negative_slope": self.negative_slope}


@keras.saving.register_keras_serializable(package="crossxai.porting")  # type: ignore[untyped-decorator]
def gelu_erf(x: Any) -> Any:
    """GELU with constants of x's dtype; TensorFlow's, which Keras calls, are float32."""
    return 0.5 * x * (1.0 + keras.ops.erf(x * 0.5**0.5))


@keras.saving.register_keras_serializable(package="crossxai.porting")  # type: ignore[untyped-decorator]
def gelu_tanh(x: Any) -> Any:
    """GELU by its tanh formula."""
    return 0.5 * x * (1.0 + keras.ops.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x * x * x)))


def interpolation(n: int, factor: int) -> Array:
    """The matrix (n * factor, n) of linear interpolation between pixel centres, edges repeated."""
    place = np.clip((np.arange(n * factor) + 0.5) / factor - 0.5, 0, n - 1)
    below = np.minimum(place.astype(int), max(n - 2, 0))
    matrix = np.zeros((n * factor, n))
    rows = np.arange(n * factor)
    matrix[rows, below] = 1 - (place - below)
    matrix[rows, np.minimum(below + 1, n - 1)] += place - below
    return matrix


HARMLESS = frozenset({
    "__init__", "__new__", "__repr__", "__str__", "__reduce__", "build", "quantize", "get_config", "from_config",
    "get_build_config", "build_from_config", "compute_output_shape", "compute_output_spec", "save_own_variables",
    "load_own_variables", "count_params", "summary", "get_weights", "set_weights",
})  # fmt: skip


Step = tuple[Callable[..., Any], Sequence[Array]]
"""What makes a layer of its dtype and name, and the weights it takes, in its own order."""


def build(graph: Graph, dtype: str | None = None) -> tuple[Any, dict[str, str]]:
    """(the keras.Model, node name -> layer name), in the dtype of the weights unless told. Takes one channels-last
    tensor per modality, a list if several. A node that needs two layers gives its name to the last. The model's
    `crossxai_layers` (layer of the original → its own) are what `KerasModel` then shows as its layers."""
    dtype = dtype or graph.dtype.name
    tensors: dict[str, Any] = {}
    names: dict[str, str] = {}
    for node in graph.nodes:
        name = _name(node.name, set(names.values()))
        names[node.name] = name
        if node.op == "input":
            tensors[node.name] = keras.Input(node.settings["shape"], dtype=dtype, name=name)
            continue
        given = [tensors[i] for i in node.inputs]
        steps = _MAKERS[node.op](node, node.settings, node.weights, given)
        value: Any = given[0] if len(given) == 1 else given
        for i, (make, weights) in enumerate(steps):
            last = i == len(steps) - 1
            layer = make(dtype=dtype, name=name if last else f"{name}_before{i or ''}")
            value = layer(value)
            if weights:
                layer.set_weights(weights)
        tensors[node.name] = value
    inputs = [tensors[name] for name in graph.inputs]
    model = keras.Model(inputs[0] if len(inputs) == 1 else inputs, tensors[graph.output])
    model.crossxai_layers = {layer: names[node] for layer, node in graph.layers.items()}
    return model, names


def _name(node: str, taken: set[str]) -> str:
    name = re.sub(r"[^A-Za-z0-9_-]", "_", node)  # TensorFlow's scopes know no other letters
    while name in taken:
        name += "_"
    return name


def _layer(kind: Any, *args: Any, weights: Sequence[Array] = (), **named: Any) -> Step:
    return lambda **both: kind(*args, **named, **both), weights


def _padding(padding: Any, value: float = 0.0) -> list[Step]:
    """Layers that pad, and crop where the padding is negative."""
    layers = []
    more = tuple((max(a, 0), max(b, 0)) for a, b in padding)
    less = tuple((max(-a, 0), max(-b, 0)) for a, b in padding)
    if more != NONE:
        layers.append(_layer(MinusInfinityPadding2D if value else keras.layers.ZeroPadding2D, more))
    if less != NONE:
        layers.append(_layer(keras.layers.Cropping2D, less))
    return layers


def _arrays(weights: Mapping[str, Array], *names: str) -> list[Array]:
    return [weights[name] for name in names if name in weights]


def _conv(node: Node, s: Mapping[str, Any], w: Mapping[str, Array], x: list[Any]) -> list[Step]:
    kernel, strides, dilation, groups = w["kernel"], s["strides"], s["dilation"], s["groups"]
    named = {"strides": strides, "dilation_rate": dilation, "use_bias": "bias" in w}
    if max(strides) > 1 and max(dilation) > 1:
        raise Unsupported(f"node {node.name!r} (conv2d) has strides {strides} and dilation {dilation}; Keras takes one")
    size, channels, out = kernel.shape[:2], x[0].shape[-1], kernel.shape[-1]
    # TensorFlow's depthwise kernel knows one stride for both axes.
    if groups > 1 and groups == channels and strides[0] == strides[1]:
        depthwise = kernel.reshape(*size, channels, out // channels)
        layer = _layer(
            keras.layers.DepthwiseConv2D,
            size,
            depth_multiplier=out // channels,
            weights=[depthwise, *_arrays(w, "bias")],
            **named,
        )
    else:
        layer = _layer(
            keras.layers.Conv2D, out, size, groups=groups, weights=_arrays(w, "kernel", "bias"), **named
        )  # fmt: skip
    return [*_padding(s["padding"]), layer]


def _conv_transpose(node: Node, s: Mapping[str, Any], w: Mapping[str, Array], x: list[Any]) -> list[Step]:
    kernel, crop = widened(w["kernel"], s["crop"])
    # Where the stride is larger than the kernel, TensorFlow adds the difference at the end.
    after = [max(stride - k, 0) for stride, k in zip(s["strides"], kernel.shape[:2], strict=True)]
    layer = _layer(
        keras.layers.Conv2DTranspose,
        kernel.shape[2],
        kernel.shape[:2],
        strides=s["strides"],
        use_bias="bias" in w,
        weights=[kernel, *_arrays(w, "bias")],
    )
    return [layer, *_padding([(-a, -b - more) for (a, b), more in zip(crop, after, strict=True)])]


def _flatten(node: Node, s: Mapping[str, Any], w: Mapping[str, Array], x: list[Any]) -> list[Step]:
    turned = s["order"] == "channels_first" and len(x[0].shape) == 4
    return [*([_layer(keras.layers.Permute, (3, 1, 2))] if turned else []), _layer(keras.layers.Flatten)]


def _upsample(node: Node, s: Mapping[str, Any], w: Mapping[str, Array], x: list[Any]) -> list[Step]:
    if s["method"] == "bilinear" and x[0].dtype == "float64":
        return [_layer(BilinearUpSampling2D, s["factors"])]
    return [_layer(keras.layers.UpSampling2D, s["factors"], interpolation=s["method"])]


def _leaky_relu(node: Node, s: Mapping[str, Any], w: Mapping[str, Array], x: list[Any]) -> list[Step]:
    exact = x[0].dtype != "float64" or s["slope"] == float(np.float32(s["slope"]))
    return [_layer(keras.layers.LeakyReLU if exact else ExactLeakyReLU, negative_slope=s["slope"])]


Maker = Callable[[Node, Mapping[str, Any], Mapping[str, Array], list[Any]], list[Step]]


def _of(kind: Any, *args: Any, weights: Sequence[str] = (), **settings: str) -> Maker:
    """One layer with these of the node's weights; settings: its argument -> the node's setting."""

    def make(node: Node, s: Mapping[str, Any], w: Mapping[str, Array], x: list[Any]) -> list[Step]:
        named = {name: s[setting] for name, setting in settings.items()}
        return [_layer(kind, *args, weights=_arrays(w, *weights), **named)]

    return make


_MAKERS: dict[str, Maker] = {
    "conv2d": _conv,
    "conv_transpose2d": _conv_transpose,
    "dense": lambda node, s, w, x: [
        _layer(keras.layers.Dense, w["kernel"].shape[1], use_bias="bias" in w, weights=_arrays(w, "kernel", "bias"))
    ],
    "batch_norm": _of(keras.layers.BatchNormalization, weights=("gamma", "beta", "mean", "variance"), epsilon="eps"),
    "standardise": lambda node, s, w, x: [_layer(Standardise, w["mean"], w["sd"])],
    "relu": _of(keras.layers.ReLU),
    "relu6": _of(keras.layers.ReLU, 6.0),
    "leaky_relu": _leaky_relu,
    "elu": _of(keras.layers.ELU, alpha="alpha"),
    "gelu": lambda node, s, w, x: [_layer(keras.layers.Activation, gelu_tanh if s["approximate"] else gelu_erf)],
    **{name: _of(keras.layers.Activation, name) for name in ("sigmoid", "tanh", "softplus", "silu")},
    "softmax": _of(keras.layers.Softmax),
    "max_pool2d": lambda node, s, w, x: [
        *_padding(s["padding"], -np.inf),
        _layer(keras.layers.MaxPooling2D, s["size"], s["strides"]),
    ],
    "avg_pool2d": _of(keras.layers.AveragePooling2D, pool_size="size", strides="strides"),
    "global_avg_pool": _of(keras.layers.GlobalAveragePooling2D, keepdims="keepdims"),
    "global_max_pool": _of(keras.layers.GlobalMaxPooling2D, keepdims="keepdims"),
    "pad": lambda node, s, w, x: _padding(s["padding"], s["value"]) or [_layer(keras.layers.Identity)],
    "upsample2d": _upsample,
    "flatten": _flatten,
    "expand": lambda node, s, w, x: [_layer(keras.layers.Reshape, (1, 1, x[0].shape[-1]))],
    "add": _of(keras.layers.Add),
    "subtract": _of(keras.layers.Subtract),
    "multiply": _of(keras.layers.Multiply),
    "concatenate": _of(keras.layers.Concatenate, axis="axis"),
}
