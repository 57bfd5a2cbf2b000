"""The networks of `torch_networks` in Keras 3: same layers, same weights, same numbers, NHWC images and masks.

Set as in torch: explicit padding (TensorFlow's SAME pads bottom and right at stride 2), max-pool padded with minus infinity,
batch norm epsilon 1e-5 and momentum 0.9 (torch's 0.1). Layers, blocks and stages bear torch's names with "_" for ".".

Weights pass between torch's state_dict and our Keras models both ways: kernels are OIHW in torch and HWIO in Keras (transposed
convolutions IOHW and HWOI), dense ones transposed, and behind a Flatten ordered by (channel, y, x) and (y, x, channel).
`keras.models.load_model` in safe mode loads a saved ResNet-18 once this module is imported (it registers one layer).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from crossxai.errors import InvalidFile, InvalidInput, UnknownName
from crossxai.studies.networks import ENCODERS, weight_files
from crossxai.studies.networks.weight_files import WIDTHS

FEATURES = 12


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


def resnet18(n_classes: int = 2, size: int = 96, dtype: str = "float32") -> Any:
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


def load(
    path: str | os.PathLike[str], checkpoint: weight_files.Checkpoint, size: int | None = None, dtype: str = "float32"
) -> Any:
    """The network of a checkpoint, for standardised images; raises `InvalidFile` if the weights do not fit it."""
    architecture = weight_files.known(path, checkpoint, ARCHITECTURES)
    if architecture == "resnet18":
        model = resnet18(checkpoint.n_classes, size or 96, dtype)
    else:
        model = fusion_network(architecture, size or int(checkpoint.meta.get("size", 224)), dtype)
    try:
        set_weights_from(model, checkpoint.weights)
    except InvalidInput as error:
        raise InvalidFile(f"{path}: {error}") from error
    return model


Values = npt.NDArray[Any]


def set_weights_from(model: Any, state: Mapping[str, Values]) -> None:
    """Give a Keras model the weights of torch's state_dict (as NumPy arrays); every array must find its place."""
    left = {name for name in state if not name.endswith("num_batches_tracked")}
    for layer in model.layers:
        if not layer.weights:
            continue
        wanted = _torch_names(layer)
        lacking = [name for name in wanted if name not in state]
        if lacking:
            raise InvalidInput(f"the weights lack {', '.join(lacking)}, which layer {layer.name!r} needs")
        expected = [tuple(w.shape) for w in layer.weights]
        values = [_to_keras(layer, np.asarray(state[name])) for name in wanted]
        shapes = [v.shape for v in values]
        if shapes != expected:
            raise InvalidInput(
                f"layer {layer.name!r} takes arrays of shapes {expected}, {', '.join(wanted)} give {shapes} (Keras's order)"
            )
        layer.set_weights(values)
        left -= set(wanted)
    if left:
        raise InvalidInput(f"no layer of {model.name!r} takes {', '.join(sorted(left))}")


def state_from(model: Any) -> dict[str, Values]:
    """torch's state_dict, as NumPy arrays, of a Keras model; batch norms count no batches."""
    state: dict[str, Values] = {}
    for layer in model.layers:
        if not layer.weights:
            continue
        for name, values in zip(_torch_names(layer), layer.get_weights(), strict=True):
            state[name] = np.ascontiguousarray(_from_keras(layer, np.asarray(values)))
        if isinstance(layer, keras.layers.BatchNormalization):
            state[f"{_prefix(layer)}.num_batches_tracked"] = np.array(0, np.int64)
    return state


def _prefix(layer: Any) -> str:
    return str(layer.name).replace("_", ".")  # layer2_0_downsample_1 → layer2.0.downsample.1


def _torch_names(layer: Any) -> list[str]:
    """torch's names of a layer's arrays, in the order of Keras's `layer.weights`."""
    if isinstance(layer, keras.layers.BatchNormalization):
        names: tuple[str, ...] = ("weight", "bias", "running_mean", "running_var")
    else:
        names = ("weight", "bias")[: len(layer.weights)]
    return [f"{_prefix(layer)}.{name}" for name in names]


def _to_keras(layer: Any, values: Values) -> Values:
    if values.ndim == 4:
        return values.transpose(2, 3, 1, 0)
    height, width, channels = _flattened(layer)
    if values.ndim == 2 and height * width * channels == values.shape[1]:
        return values.reshape(-1, channels, height, width).transpose(2, 3, 1, 0).reshape(-1, len(values))
    return values.T


def _from_keras(layer: Any, values: Values) -> Values:
    if values.ndim == 4:
        return values.transpose(3, 2, 0, 1)
    height, width, channels = _flattened(layer)
    if values.ndim == 2 and height * width * channels == len(values):
        return values.reshape(height, width, channels, -1).transpose(3, 2, 0, 1).reshape(-1, len(values))
    return values.T


def _flattened(layer: Any) -> tuple[int, int, int]:
    """(height, width, channels) of what is flattened into a dense layer, the one order of values in which frameworks differ."""
    before = layer.input._keras_history.operation if isinstance(layer, keras.layers.Dense) else None
    if not isinstance(before, keras.layers.Flatten) or len(before.input.shape) != 4:
        return 0, 0, 0
    _, height, width, channels = before.input.shape
    return height, width, channels


def fusion_network(architecture: str, size: int = 224, dtype: str = "float32") -> Any:
    """An untrained keras.Model, by the name in checkpoints, of a list of two inputs; every layer in `dtype`."""
    if architecture not in ARCHITECTURES:
        raise UnknownName("fusion network", architecture, ARCHITECTURES)
    if size < 16 or size % 16:
        raise InvalidInput(f"the fusion networks take images whose size is a multiple of 16, got {size}")
    return ARCHITECTURES[architecture](_Layers(dtype), size)


class _Layers:
    """Layers of one dtype, called at once; each method takes a symbolic tensor first and the layer's name last."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype

    def image(self, size: int, name: str) -> Any:
        return keras.Input((size, size, 1), dtype=self.dtype, name=f"{name}_input")

    def conv(self, x: Any, width: int, name: str) -> Any:
        return keras.layers.Conv2D(width, 3, padding="same", dtype=self.dtype, name=name)(x)

    def up(self, x: Any, width: int, name: str) -> Any:
        return keras.layers.Conv2DTranspose(width, 2, 2, "valid", dtype=self.dtype, name=name)(x)

    def relu(self, x: Any, name: str) -> Any:
        return keras.layers.ReLU(dtype=self.dtype, name=name)(x)

    def encoder(self, x: Any, encoder: str, name: str) -> dict[str, Any]:
        """The output of every layer of an encoder of `ENCODERS`, by the layer's name there."""
        outputs: dict[str, Any] = {}
        for layer, width in ENCODERS[encoder]:
            options = {"dtype": self.dtype, "name": f"{name}_{layer}"}
            match layer.rstrip("123"):
                case "conv":
                    x = keras.layers.Conv2D(width, 3, padding="same", **options)(x)
                case "bn":
                    x = keras.layers.BatchNormalization(epsilon=1e-5, momentum=0.9, **options)(x)
                case "relu":
                    x = keras.layers.ReLU(**options)(x)
                case "pool" if width == 1:
                    x = keras.layers.GlobalAveragePooling2D(keepdims=True, **options)(x)
                case "pool" if width:
                    x = keras.layers.AveragePooling2D(x.shape[1] // width, **options)(x)
                case "pool":
                    x = keras.layers.MaxPooling2D(2, **options)(x)
                case "flatten":
                    x = keras.layers.Flatten(**options)(x)
                case "fc":
                    x = keras.layers.Dense(width, **options)(x)
            outputs[layer] = x
        return outputs

    def dense(self, x: Any, width: int, name: str) -> Any:
        return keras.layers.Dense(width, dtype=self.dtype, name=name)(x)

    def join(self, parts: list[Any], name: str) -> Any:
        return keras.layers.Concatenate(dtype=self.dtype, name=name)(parts)


def _classifier(make: _Layers, size: int, resnet18: bool = False) -> Any:
    ct, table = make.image(size, "ct"), keras.Input((FEATURES,), dtype=make.dtype, name="table_input")
    features = (
        make.dense(encoded(ct, make.dtype, "ct_"), 64, "ct_fc") if resnet18 else make.encoder(ct, "ct", "ct")["fc"]
    )
    x = make.relu(features, "embedding")
    y = make.relu(make.dense(table, 32, "table_fc1"), "table_relu1")
    y = make.relu(make.dense(y, 32, "table_fc2"), "table_relu2")
    logits = _fused(make, [x, y], 2)
    return keras.Model([ct, table], logits, name="fusion_classifier_resnet18" if resnet18 else "fusion_classifier")


def _regressor(make: _Layers, size: int) -> Any:
    images = {name: make.image(size, name) for name in ("t1", "t2")}
    streams = [make.encoder(image, "stream", name)["relu3"] for name, image in images.items()]
    return keras.Model(list(images.values()), _fused(make, streams, 1), name="fusion_regressor")


def _unet(make: _Layers, size: int) -> Any:
    images = {name: make.image(size, name) for name in ("flair", "t1ce")}
    flair, t1ce = (make.encoder(image, "unet", name) for name, image in images.items())
    x = make.conv(make.join([flair["pool3"], t1ce["pool3"]], "bottleneck_join"), 32, "bottleneck_conv")
    x = make.relu(x, "bottleneck_relu")
    x = make.relu(make.up(x, 16, "up1_conv"), "up1_relu")
    x = make.relu(make.up(x, 16, "up2_conv"), "up2_relu")
    x = make.relu(make.conv(make.join([x, flair["relu2"]], "decoder_join"), 8, "decoder_conv"), "decoder_relu")
    return keras.Model(list(images.values()), make.up(x, 1, "head"), name="fusion_unet")


def _fused(make: _Layers, parts: list[Any], outputs: int) -> Any:
    x = make.relu(make.dense(make.join(parts, "fusion_join"), 64, "fusion_fc1"), "fusion_relu1")
    return make.dense(x, outputs, "fusion_fc2")


ARCHITECTURES: dict[str, Callable[[_Layers, int], Any]] = {
    "fusion_classifier": _classifier,
    "fusion_classifier_resnet18": partial(_classifier, resnet18=True),
    "fusion_regressor": _regressor,
    "fusion_unet": _unet,
}
