"""ResNet-18 in Keras 3, the twin of torchvision's: same weights, same numbers, NHWC images to logits.

What differs by default between the frameworks and is set here as torch has it: explicit padding (TensorFlow's SAME pads
bottom and right at stride 2), max-pool padded with minus infinity, batch norm epsilon 1e-5 and momentum 0.9 (torch's
0.1). Layers bear torchvision's names with "_" for ".", blocks ("layer1_0") and stages ("layer1") too, so that one name finds the
same activation in both networks. Every ReLU is a layer of its own.

`keras.models.load_model` in safe mode loads a saved twin once this module is imported (it registers one layer).
"""

from __future__ import annotations

import os
from typing import Any

import keras
import numpy as np

from crossxai.errors import InvalidFile, InvalidInput
from crossxai.studies.networks import checkpoint
from crossxai.studies.networks.keras_weights import set_weights_from

__all__ = ["WIDTHS", "PadWithMinusInfinity", "build", "encoded", "load", "set_weights_from"]

WIDTHS = (64, 128, 256, 512)


@keras.saving.register_keras_serializable(package="crossxai")
class PadWithMinusInfinity(keras.layers.Layer):  # type: ignore[misc]
    """Pads height and width of (n, h, w, c) by `padding` on each side with -inf, which no maximum ever takes."""

    def __init__(self, padding: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.padding = padding

    def call(self, inputs: Any) -> Any:
        side = (self.padding, self.padding)
        return keras.ops.pad(inputs, ((0, 0), side, side, (0, 0)), constant_values=-np.inf)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        n, height, width, channels = input_shape
        grow = 2 * self.padding
        return n, height and height + grow, width and width + grow, channels

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "padding": self.padding}


def build(n_classes: int = 2, size: int = 96, dtype: str = "float32") -> Any:
    """An untrained keras.Model from images (n, size, size, 3) to logits (n, n_classes), every layer in `dtype`."""
    image = keras.Input((size, size, 3), dtype=dtype, name="image")
    logits = keras.layers.Dense(n_classes, dtype=dtype, name="fc")(encoded(image, dtype))
    return keras.Model(image, logits, name="resnet18")


def encoded(image: Any, dtype: str = "float32", prefix: str = "") -> Any:
    """The 512 features (n, 512) of a symbolic image (n, h, w, channels), before the last layer; `prefix` goes before every
    layer's name."""

    def conv(x: Any, width: int, kernel: int, stride: int, name: str) -> Any:
        if kernel > 1:
            x = keras.layers.ZeroPadding2D(kernel // 2, dtype=dtype, name=f"{prefix}{name}_pad")(x)
        layer = keras.layers.Conv2D(width, kernel, stride, "valid", use_bias=False, dtype=dtype, name=f"{prefix}{name}")
        return layer(x)

    def norm(x: Any, name: str) -> Any:
        return keras.layers.BatchNormalization(epsilon=1e-5, momentum=0.9, dtype=dtype, name=f"{prefix}{name}")(x)

    def relu(x: Any, name: str) -> Any:
        return keras.layers.ReLU(dtype=dtype, name=f"{prefix}{name}")(x)

    def block(x: Any, width: int, stride: int, name: str) -> Any:
        y = norm(conv(x, width, 3, stride, f"{name}_conv1"), f"{name}_bn1")
        y = norm(conv(relu(y, f"{name}_relu1"), width, 3, 1, f"{name}_conv2"), f"{name}_bn2")
        if stride > 1:
            x = norm(conv(x, width, 1, stride, f"{name}_downsample_0"), f"{name}_downsample_1")
        return relu(keras.layers.Add(dtype=dtype, name=f"{prefix}{name}_add")([y, x]), name)

    x = relu(norm(conv(image, 64, 7, 2, "conv1"), "bn1"), "relu")
    x = PadWithMinusInfinity(dtype=dtype, name=f"{prefix}maxpool_pad")(x)
    x = keras.layers.MaxPooling2D(3, 2, "valid", dtype=dtype, name=f"{prefix}maxpool")(x)
    for stage, width in enumerate(WIDTHS, start=1):
        x = block(x, width, 1 if stage == 1 else 2, f"layer{stage}_0")
        x = block(x, width, 1, f"layer{stage}_1")
        x = keras.layers.Identity(dtype=dtype, name=f"{prefix}layer{stage}")(x)
    return keras.layers.GlobalAveragePooling2D(dtype=dtype, name=f"{prefix}avgpool")(x)


def load(path: str | os.PathLike[str], n_classes: int | None = None, size: int = 96, dtype: str = "float32") -> Any:
    """The keras.Model of a checkpoint; raises `InvalidFile` if the checkpoint does not fit it.

    It expects standardised images: `checkpoint.read(path)` gives mean and sd.
    """
    held = checkpoint.read(path)
    model = build(held.n_classes if n_classes is None else n_classes, size, dtype)
    try:
        set_weights_from(model, held.weights)
    except InvalidInput as error:
        raise InvalidFile(f"{path}: {error}") from error
    return model
