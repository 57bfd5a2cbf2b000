"""Networks full of what ports go wrong at, with random weights, for the tests of porting."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def images(size: int = 32, n: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, size, size, 3))


def lively(net: nn.Module, seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
    """Random weights and batch-norm statistics far from 0 and 1; evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.3, generator=generator)
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
        elif isinstance(module, nn.Conv2d | nn.Linear | nn.ConvTranspose2d):
            fan = module.weight[0].numel()
            for parameter in module.parameters():
                parameter.data.normal_(0, (2 / fan) ** 0.5 if parameter.ndim > 1 else 0.3, generator=generator)
    return net.to(dtype).eval()


def lively_keras(model: Any, seed: int = 0) -> Any:
    """The same for a Keras model."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if "variance" in weight.path or "gamma" in weight.path:
            weight.assign(rng.uniform(0.5, 2, weight.shape))
        else:
            fan = np.prod(weight.shape[:-1]) if len(weight.shape) > 1 else 10
            weight.assign(rng.normal(0, (2 / fan) ** 0.5, weight.shape))
    return model


class Tangled(nn.Module):
    """Functional, in-place and reused activations, aliases that in-place operations change, every way to flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.first = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.groups = nn.Conv2d(6, 12, 3, padding="same", dilation=2, groups=2)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False)
        self.squeeze = nn.Linear(12, 12)
        self.block = nn.Sequential(nn.Conv2d(12, 6, 1), nn.LeakyReLU(0.2), nn.Dropout2d())
        self.head = nn.Linear(18 * 4 * 4, 5)
        self.register_buffer(
            "shift", torch.tensor([0.1, -0.2, 0.3, 0.4, -0.5, 0.6], dtype=torch.float64)[:, None, None]
        )

    def forward(self, x: Tensor, power: int = 1) -> Tensor:
        if power > 1:  # what keeps its default may steer
            x = x * x
        _n, channels, height, _width = x.shape
        if channels == 3 and height > 8:  # sizes are numbers
            x = 2 * (0.5 - x) / 1.5
        a = self.norm(self.first(x))
        kept = a
        self.relu(a)  # changes `kept` too
        b = F.gelu(self.groups(F.elu(kept, 0.7)) + 0.1)
        b = F.max_pool2d(b, 3, 2, 1)
        scale = b.mean((2, 3)).view(-1, 12)
        scale = torch.sigmoid(self.squeeze(F.relu_(scale)))
        b = self.relu(self.depthwise(b)) * scale[:, :, None, None]
        c = self.block(b)
        c += self.shift
        c = F.interpolate(F.silu(c), scale_factor=2, mode="bilinear") - F.adaptive_avg_pool2d(a, 1).expand_as(a)
        d = torch.cat([a, torch.relu(c), F.interpolate(F.softplus(c[:, :]), a.shape[2:])], dim=1)
        d = F.adaptive_max_pool2d(F.avg_pool2d(d, 2), 4)
        d = torch.cat([torch.tanh(d)], 1).contiguous()
        return self.head(d.reshape(d.size(0), -1))


class Fusion(nn.Module):
    """An image and a table into a map: expand, add, concatenate, transposed convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU6(), nn.AvgPool2d(2, 1, padding=1))
        self.table = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ELU(), nn.Unflatten(1, (8, 1, 1)))
        self.up = nn.ConvTranspose2d(16, 6, 3, 2, padding=1, output_padding=1)
        self.wide = nn.ConvTranspose2d(6, 4, 2, 3, output_padding=1)
        self.out = nn.Conv2d(4, 2, 1)

    def forward(self, image: Tensor, table: Tensor) -> Tensor:
        x, y = self.encode(image), self.table(table)
        x = torch.cat((x + y, y.expand(-1, -1, *x.shape[2:])), 1)
        return F.softmax(self.out(self.wide(self.up(F.pad(x, (0, 1, -1, 2))))), dim=1)


class Pair(nn.Module):
    """Two images through one encoder, used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True), nn.Flatten())
        self.out = nn.Linear(12 * 4 * 4, 3)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.out(torch.cat([self.encode(left), self.encode(right)], dim=1))


class Function(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.inner = nn.Sequential()
        self.inner.forward = function
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x)


def same_keras(dtype: str = "float64") -> Any:
    """Strided padding="same" everywhere, fused activations, a nested model, keras.ops, flattening channels last."""
    named = {"dtype": dtype}
    layers, ops = keras.layers, keras.ops
    inner_in = keras.Input((None, None, 8), **named)
    inner = keras.Model(
        inner_in, layers.Conv2D(6, 3, 2, "same", activation="elu", name="inner_conv", **named)(inner_in)
    )
    image = keras.Input((None, None, 3), **named)
    x = layers.Rescaling(2.0, -1.0, **named)(image)
    x = layers.Conv2D(8, 4, 2, "same", activation="relu", name="stem", **named)(x)
    x = layers.MaxPooling2D(3, 2, "same", name="maximum", **named)(x - 0.5)
    x = layers.DepthwiseConv2D(3, depth_multiplier=1, padding="same", activation="silu", **named)(x)
    y = inner(x)
    y = layers.UpSampling2D(2, **named)(layers.BatchNormalization(name="norm", **named)(y))
    z = layers.SeparableConv2D(6, 3, padding="same", activation="tanh", **named)(layers.Dropout(0.5, **named)(x))
    z = layers.Cropping2D(((0, 1), (1, 0)), **named)(layers.ZeroPadding2D(((2, 0), (1, 3)), **named)(z))
    z = ops.concatenate(
        [ops.relu(z), ops.leaky_relu(layers.Conv2DTranspose(4, 3, 1, "same", **named)(z), 0.3)], axis=-1
    )
    gate = layers.Dense(6, "sigmoid", name="gate", **named)(layers.GlobalMaxPooling2D(**named)(x))
    y = layers.Multiply(**named)([y, layers.Reshape((1, 1, 6), **named)(gate)])
    y = layers.Conv2DTranspose(4, 3, 2, "same", activation="softplus", name="up", **named)(y)
    y, z = layers.AveragePooling2D(2, **named)(y), layers.Dense(5, "elu", **named)(z)
    pooled = layers.Reshape((1, 1, 8), **named)(layers.GlobalMaxPooling2D(**named)(x))
    row = layers.Concatenate(**named)([layers.GlobalAveragePooling2D(**named)(y), ops.mean(z, axis=(1, 2))])
    row = layers.Concatenate(**named)([row, layers.Flatten(**named)(pooled)])
    return lively_keras(keras.Model(image, layers.Dense(4, **named)(row)))
