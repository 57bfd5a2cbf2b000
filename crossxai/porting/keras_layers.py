"""The few layers of a rebuilt network that Keras has not, all serialisable, so that `clone_model` and `load_model` know them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from crossxai.porting.building import read_at


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
            keras.ops.convert_to_tensor(read_at(n, upsampled(n, factor)), dtype=self.compute_dtype)
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


def upsampled(n: int, factor: int) -> Any:
    """Where each pixel reads an axis that becomes so many times as long: between pixel centres, edges repeated."""
    return np.clip((np.arange(n * factor) + 0.5) / factor - 0.5, 0, n - 1)


def _reduced(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, axes, keepdims: function(x, axis=tuple(axes), keepdims=keepdims)


def _slice(x: Any, axis: int, start: int, stop: int, step: int) -> Any:
    return x[(slice(None),) * axis + (slice(start, stop, step),)]


def _pad(x: Any, padding: Sequence[Sequence[int]], value: float) -> Any:
    every = [(0, 0), *(tuple(p) for p in padding), *[(0, 0)] * (len(x.shape) - 1 - len(padding))]
    for axis, (before, after) in enumerate(every):
        if min(before, after) < 0:
            x = _slice(x, axis, max(-before, 0), x.shape[axis] - max(-after, 0), 1)
    return keras.ops.pad(x, [(max(a, 0), max(b, 0)) for a, b in every], constant_values=value)


def _like(value: Any, x: Any) -> Any:
    """A number in the dtype of x: Keras would make it float32 first."""
    return np.asarray(value, keras.backend.standardize_dtype(x.dtype))


def _clip(x: Any, low: float | None, high: float | None) -> Any:
    x = x if low is None else keras.ops.maximum(x, _like(low, x))
    return x if high is None else keras.ops.minimum(x, _like(high, x))


def _rms(x: Any, axes: int, eps: float) -> Any:
    mean = keras.ops.mean(x * x, axis=tuple(range(-axes, 0)), keepdims=True)
    return x * keras.ops.rsqrt(mean + _like(eps, x))


def _unit(x: Any, axis: int) -> Any:
    norm = keras.ops.sqrt(keras.ops.sum(x * x, axis=axis, keepdims=True))
    return x / keras.ops.maximum(norm, _like(1e-12, x))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "exp": keras.ops.exp, "log": keras.ops.log, "sqrt": keras.ops.sqrt, "rsqrt": keras.ops.rsqrt,
    "square": keras.ops.square, "absolute": keras.ops.absolute, "erf": keras.ops.erf,
    "power": lambda x, exponent: keras.ops.power(x, _like(exponent, x)),
    "log_softmax": lambda x, axis: keras.ops.log_softmax(x, axis=axis),
    "clip": _clip, "slice": _slice, "pad": _pad, "unit_norm": _unit, "rms_norm": _rms,
    "mean": _reduced(keras.ops.mean), "sum": _reduced(keras.ops.sum), "max": _reduced(keras.ops.max),
    "take": lambda x, axis, indices: keras.ops.take(x, np.asarray(indices), axis=axis),
    "roll": lambda x, axis, shift: keras.ops.roll(x, shift, axis=axis),
    "tile": lambda x, times: keras.ops.tile(x, (1, *times)),
    "reshape": lambda x, shape: keras.ops.reshape(x, (-1, *shape)),
    "divide": lambda x: x[0] / x[1],
    "einsum": lambda x, equation: keras.ops.einsum(equation, *x),
}  # fmt: skip
"""What each op of a graph that has no layer in Keras computes, from the node's settings."""


@keras.saving.register_keras_serializable(package="crossxai.porting")
class Function(keras.layers.Layer):  # type: ignore[misc]
    """An op of `crossxai.porting.graph` that Keras has as a function only, with the node's settings."""

    def __init__(self, function: str, settings: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.function, self.settings = function, dict(settings)

    def call(self, inputs: Any) -> Any:
        return FUNCTIONS[self.function](inputs, **self.settings)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "function": self.function, "settings": self.settings}


@keras.saving.register_keras_serializable(package="crossxai.porting")
class Constant(keras.layers.Layer):  # type: ignore[misc]
    """The same values, of this shape, for every sample of what it is called with; trains: training may change them."""

    def __init__(self, shape: Sequence[int], trains: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shape, self.trains = tuple(shape), bool(trains)
        self.values = self.add_weight(shape=(1, *self.shape), name="values", trainable=self.trains)

    def call(self, inputs: Any) -> Any:
        return keras.ops.broadcast_to(self.values, (keras.ops.shape(inputs)[0], *self.shape))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "shape": self.shape, "trains": self.trains}


@keras.saving.register_keras_serializable(package="crossxai.porting")
class Scale(keras.layers.Layer):  # type: ignore[misc]
    """x times a weight, one number or one per channel; trains: training may change it."""

    def __init__(self, shape: Sequence[int], trains: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shape, self.trains = tuple(shape), bool(trains)
        self.scale = self.add_weight(shape=self.shape, name="scale", trainable=self.trains)

    def call(self, inputs: Any) -> Any:
        return inputs * self.scale

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "shape": self.shape, "trains": self.trains}


@keras.saving.register_keras_serializable(package="crossxai.porting")
class Affine(keras.layers.Layer):  # type: ignore[misc]
    """x * factor + term in the layer's own dtype; the numbers of Keras's Rescaling are float32 whatever its dtype."""

    def __init__(self, factor: float, term: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor, self.term = float(factor), float(term)

    def call(self, inputs: Any) -> Any:
        return inputs * _like(self.factor, inputs) + _like(self.term, inputs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor, "term": self.term}


@keras.saving.register_keras_serializable(package="crossxai.porting")
class InnerAveragePooling(keras.layers.Layer):  # type: ignore[misc]
    """Average pooling with any padding, which the means do not count."""

    def __init__(
        self, size: Sequence[int], strides: Sequence[int], padding: Sequence[Sequence[int]], **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.size, self.strides = tuple(size), tuple(strides)
        self.padding = tuple((int(a), int(b)) for a, b in padding)

    def call(self, inputs: Any) -> Any:
        return self._sums(inputs) / self._sums(keras.ops.ones_like(inputs[:1, ..., :1]))

    def _sums(self, inputs: Any) -> Any:
        padded = _pad(inputs, self.padding, 0.0)
        if len(self.size) == 3 and self.compute_dtype == "float64":
            return Pooling3D("average", self.size, self.strides, dtype="float64")(padded)
        return keras.ops.average_pool(padded, self.size, self.strides)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size, "strides": self.strides, "padding": self.padding}


@keras.saving.register_keras_serializable(package="crossxai.porting")
class Pooling3D(keras.layers.Layer):  # type: ignore[misc]
    """Pooling of volumes in float64, which TensorFlow has not on a CPU: over the planes, then across them."""

    def __init__(
        self, kind: str, size: Sequence[int], strides: Sequence[int], padding: str = "valid", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.kind, self.size, self.strides, self.padding = kind, tuple(size), tuple(strides), padding

    def call(self, inputs: Any) -> Any:
        pool = {"average": keras.ops.average_pool, "max": keras.ops.max_pool}[self.kind]
        planes = keras.ops.reshape(inputs, (-1, *inputs.shape[2:]))
        planes = pool(planes, self.size[1:], self.strides[1:], self.padding)
        _, height, width, channels = planes.shape
        rows = keras.ops.reshape(planes, (-1, inputs.shape[1], height * width, channels))
        rows = pool(rows, (self.size[0], 1), (self.strides[0], 1), self.padding)
        return keras.ops.reshape(rows, (-1, rows.shape[1], height, width, channels))

    def get_config(self) -> dict[str, Any]:
        own = {"kind": self.kind, "size": self.size, "strides": self.strides, "padding": self.padding}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="crossxai.porting")
class MaskedAttention(keras.layers.MultiHeadAttention):  # type: ignore[misc]
    """Multi-head attention with a mask that is the same for every sample: added to the scores, (t, s) or (heads, t, s)."""

    def __init__(self, *args: Any, mask_shape: Sequence[int], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.mask = self.add_weight(shape=tuple(mask_shape), name="mask", trainable=False)

    def _compute_attention(
        self, query: Any, key: Any, value: Any, *_rest: Any, training: Any = None, **_more: Any
    ) -> Any:
        query = query * _like(self._inverse_sqrt_key_dim, query)
        scores = keras.ops.einsum(self._dot_product_equation, key, query) + self.mask
        weights = self._dropout_layer(keras.ops.softmax(scores, axis=-1), training=training)
        return keras.ops.einsum(self._combine_equation, weights, value), weights

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mask_shape": tuple(self.mask.shape)}


def attention_scale(width: int, dtype: Any) -> float:
    """By how much Keras's multi-head attention is off: it divides by the root of a head's width in float32."""
    exact = width**-0.5
    return float(np.float32(exact)) / exact if dtype == np.float64 else 1.0


@keras.saving.register_keras_serializable(package="crossxai.porting")
class Resize(keras.layers.Layer):  # type: ignore[misc]
    """Each axis of space read at these places, by the nearest entry or linearly between two, in the layer's own dtype."""

    def __init__(self, method: str, places: Sequence[Sequence[float]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.method, self.places = method, [[float(p) for p in axis] for axis in places]

    def call(self, inputs: Any) -> Any:
        for axis, places in enumerate(self.places, start=1):
            if self.method == "nearest":
                inputs = keras.ops.take(inputs, np.asarray(places, int), axis=axis)
            else:
                matrix = np.asarray(read_at(inputs.shape[axis], places), self.compute_dtype)
                inputs = keras.ops.moveaxis(keras.ops.tensordot(inputs, matrix, [[axis], [1]]), -1, axis)
        return inputs

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "method": self.method, "places": self.places}
