"""Small networks with the same random weights in PyTorch and in Keras, for tests of the bridge."""

from __future__ import annotations

from typing import Any

import numpy as np

import crossxai  # noqa: F401 - makes the import order of the frameworks safe
from crossxai import Modality, Question, Target
from crossxai.model import Array

SIZE = 32
MEAN, SD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
STANDARDISE = {"image": (MEAN, SD)}
IMAGE = Modality.image()


def images(n: int = 3, seed: int = 0, dtype: str = "float32") -> Array:
    """Smooth random images (n, 32, 32, 3) in [0, 1]."""
    from skimage.filters import gaussian

    noise = np.random.default_rng(seed).random((n, SIZE, SIZE, 3))
    smooth = np.stack([gaussian(image, 1.5, channel_axis=-1) for image in noise])
    low, high = smooth.min(axis=(1, 2, 3), keepdims=True), smooth.max(axis=(1, 2, 3), keepdims=True)
    return ((smooth - low) / (high - low)).astype(dtype)


def torch_net(dtype: str = "float32") -> Any:
    """conv-relu-conv-relu (in place)-pool-dense, 3 classes, evaluation mode."""
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(3)
    net = nn.Sequential()
    net.add_module("conv1", nn.Conv2d(3, 8, 3, stride=2, padding=1))
    net.add_module("relu1", nn.ReLU())
    net.add_module("conv2", nn.Conv2d(8, 16, 3, padding=1))
    net.add_module("relu2", nn.ReLU(inplace=True))
    net.add_module("pool", nn.AdaptiveAvgPool2d(1))
    net.add_module("flat", nn.Flatten())
    net.add_module("fc", nn.Linear(16, 3))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * (0.5 if parameter.ndim == 1 else 0.3))
    return net.to(getattr(torch, dtype)).eval()


def keras_net(dtype: str = "float32", kind: str = "functional") -> Any:
    """The Keras twin of `torch_net`, as a functional, sequential or subclassed model."""
    import keras

    stack = [
        keras.layers.ZeroPadding2D(1, name="pad1", dtype=dtype),
        keras.layers.Conv2D(8, 3, strides=2, name="conv1", dtype=dtype),
        keras.layers.ReLU(name="relu1", dtype=dtype),
        keras.layers.ZeroPadding2D(1, name="pad2", dtype=dtype),
        keras.layers.Conv2D(16, 3, name="conv2", dtype=dtype),
        keras.layers.ReLU(name="relu2", dtype=dtype),
        keras.layers.GlobalAveragePooling2D(name="pool", dtype=dtype),
        keras.layers.Dense(3, name="fc", dtype=dtype),
    ]
    if kind == "functional":
        x = start = keras.Input((SIZE, SIZE, 3), dtype=dtype)
        for layer in stack:
            x = layer(x)
        model = keras.Model(start, x)
    elif kind == "sequential":
        model = keras.Sequential([keras.Input((SIZE, SIZE, 3), dtype=dtype), *stack])
    else:

        class Subclassed(keras.Model):
            def __init__(self) -> None:
                super().__init__(dtype=dtype)
                self.stack = stack

            def call(self, x: Any, training: bool = False) -> Any:
                for layer in self.stack:
                    x = layer(x)
                return x

        model = Subclassed()
        model(np.zeros((1, SIZE, SIZE, 3), dtype))
    state = {k: v.double().numpy() for k, v in torch_net("float64").state_dict().items()}
    for name in ("conv1", "conv2", "fc"):
        kernel = state[f"{name}.weight"]
        kernel = kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel.T
        next(layer for layer in stack if layer.name == name).set_weights([kernel, state[f"{name}.bias"]])
    return model


def torch_model(dtype: str = "float32") -> Any:
    from crossxai.adapters.torch import TorchModel

    return TorchModel(torch_net(dtype), (IMAGE,), standardise=STANDARDISE)


def keras_model(dtype: str = "float32", kind: str = "functional") -> Any:
    from crossxai.adapters.tensorflow import KerasModel

    return KerasModel(keras_net(dtype, kind), (IMAGE,), standardise=STANDARDISE)


def question(model: Any, n: int = 3, dtype: str = "float32", **options: Any) -> Question:
    """Explain class i % 3 of image i."""
    return Question(model, (images(n, dtype=dtype),), Target.classes(np.arange(n) % 3, 3), **options)
