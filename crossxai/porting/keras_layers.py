"""The few layers of a Keras twin that Keras has not: serialisable, so that `clone_model` and `load_model` know them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from crossxai.model import Array


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
