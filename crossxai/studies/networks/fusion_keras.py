"""The fusion networks in Keras 3, the twins of `fusion_torch`: same layers, same names with "_" for ".", NHWC images.

Outputs are those of the torch networks, the mask's logits (n, h, w, 1). The last convolutional activation of each encoder:
"ct_relu2" ("ct_layer4" with a ResNet-18), "t1_relu2" and "t2_relu2", "flair_relu3" and "t1ce_relu3". Weights come and go by
`crossxai.studies.networks.resnet18_keras`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import keras

from crossxai.errors import InvalidInput, UnknownName
from crossxai.studies.networks import resnet18_keras

FEATURES = 12


def build(architecture: str, size: int = 224, dtype: str = "float32") -> Any:
    """An untrained keras.Model by the name that checkpoints call it, for images of size × size, every layer in `dtype`.

    size: a multiple of 16. Inputs are a list of two, in the order of the modalities.
    """
    if architecture not in ARCHITECTURES:
        raise UnknownName("fusion network", architecture, ARCHITECTURES)
    if size < 16 or size % 16:
        raise InvalidInput(f"the fusion networks take images whose size is a multiple of 16, got {size}")
    return ARCHITECTURES[architecture](_Layers(dtype), size)


class _Layers:
    """Layers of one dtype, called at once; each method takes a symbolic tensor first and the layer's name last."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype

    def input(self, shape: tuple[int, ...], name: str) -> Any:
        return keras.Input(shape, dtype=self.dtype, name=f"{name}_input")

    def conv(self, x: Any, width: int, name: str) -> Any:
        return keras.layers.Conv2D(width, 3, padding="same", dtype=self.dtype, name=name)(x)

    def up(self, x: Any, width: int, name: str) -> Any:
        return keras.layers.Conv2DTranspose(width, 2, 2, "valid", dtype=self.dtype, name=name)(x)

    def norm(self, x: Any, name: str) -> Any:
        return keras.layers.BatchNormalization(epsilon=1e-5, momentum=0.9, dtype=self.dtype, name=name)(x)

    def relu(self, x: Any, name: str) -> Any:
        return keras.layers.ReLU(dtype=self.dtype, name=name)(x)

    def pool(self, x: Any, name: str) -> Any:
        return keras.layers.MaxPooling2D(2, dtype=self.dtype, name=name)(x)

    def average(self, x: Any, side: int, name: str) -> Any:
        """Means over equal windows, side × side of them."""
        if side == 1:
            return keras.layers.GlobalAveragePooling2D(keepdims=True, dtype=self.dtype, name=name)(x)
        return keras.layers.AveragePooling2D(x.shape[1] // side, dtype=self.dtype, name=name)(x)

    def flatten(self, x: Any, name: str) -> Any:
        return keras.layers.Flatten(dtype=self.dtype, name=name)(x)

    def dense(self, x: Any, width: int, name: str) -> Any:
        return keras.layers.Dense(width, dtype=self.dtype, name=name)(x)

    def join(self, parts: list[Any], name: str) -> Any:
        return keras.layers.Concatenate(dtype=self.dtype, name=name)(parts)


def _classifier(make: _Layers, size: int, resnet18: bool = False) -> Any:
    ct, table = make.input((size, size, 1), "ct"), make.input((FEATURES,), "table")
    if resnet18:
        x = resnet18_keras.encoded(ct, make.dtype, "ct_")
    else:
        x = make.pool(make.relu(make.conv(ct, 16, "ct_conv1"), "ct_relu1"), "ct_pool1")
        x = make.pool(make.relu(make.conv(x, 32, "ct_conv2"), "ct_relu2"), "ct_pool2")
        x = make.flatten(make.average(x, 4, "ct_pool3"), "ct_flatten")
    x = make.relu(make.dense(x, 64, "ct_fc"), "embedding")
    y = make.relu(make.dense(table, 32, "table_fc1"), "table_relu1")
    y = make.relu(make.dense(y, 32, "table_fc2"), "table_relu2")
    logits = _fused(make, [x, y], 2)
    return keras.Model([ct, table], logits, name="fusion_classifier_resnet18" if resnet18 else "fusion_classifier")


def _regressor(make: _Layers, size: int) -> Any:
    def stream(image: Any, name: str) -> Any:
        x = make.relu(make.norm(make.conv(image, 16, f"{name}_conv1"), f"{name}_bn1"), f"{name}_relu1")
        x = make.conv(make.pool(x, f"{name}_pool1"), 32, f"{name}_conv2")
        x = make.pool(make.relu(make.norm(x, f"{name}_bn2"), f"{name}_relu2"), f"{name}_pool2")
        x = make.flatten(make.average(x, 1, f"{name}_pool3"), f"{name}_flatten")
        return make.relu(make.dense(x, 64, f"{name}_fc"), f"{name}_relu3")

    images = [make.input((size, size, 1), name) for name in ("t1", "t2")]
    streams = [stream(image, name) for image, name in zip(images, ("t1", "t2"), strict=True)]
    return keras.Model(images, _fused(make, streams, 1), name="fusion_regressor")


def _unet(make: _Layers, size: int) -> Any:
    def encoder(x: Any, name: str) -> tuple[Any, Any]:
        skip = x
        for stage, width in enumerate((8, 16, 32), start=1):
            x = make.relu(make.conv(x, width, f"{name}_conv{stage}"), f"{name}_relu{stage}")
            skip = x if stage == 2 else skip
            x = make.pool(x, f"{name}_pool{stage}")
        return x, skip

    images = [make.input((size, size, 1), name) for name in ("flair", "t1ce")]
    (flair, skip), (t1ce, _) = (encoder(x, name) for x, name in zip(images, ("flair", "t1ce"), strict=True))
    x = make.conv(make.join([flair, t1ce], "bottleneck_join"), 32, "bottleneck_conv")
    x = make.relu(x, "bottleneck_relu")
    x = make.relu(make.up(x, 16, "up1_conv"), "up1_relu")
    x = make.relu(make.up(x, 16, "up2_conv"), "up2_relu")
    x = make.relu(make.conv(make.join([x, skip], "decoder_join"), 8, "decoder_conv"), "decoder_relu")
    return keras.Model(images, make.up(x, 1, "head"), name="fusion_unet")


def _fused(make: _Layers, parts: list[Any], outputs: int) -> Any:
    x = make.relu(make.dense(make.join(parts, "fusion_join"), 64, "fusion_fc1"), "fusion_relu1")
    return make.dense(x, outputs, "fusion_fc2")


ARCHITECTURES: dict[str, Callable[[_Layers, int], Any]] = {
    "fusion_classifier": _classifier,
    "fusion_classifier_resnet18": partial(_classifier, resnet18=True),
    "fusion_regressor": _regressor,
    "fusion_unet": _unet,
}
