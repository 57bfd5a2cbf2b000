"""A tiny network for every operation that a network may be read with, in torch and in Keras, for the tests of porting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossxai import Modality

SHAPES = {"table": (6,), "tokens": (6, 4), "image": (8, 7, 4), "volume": (5, 6, 4, 2)}
"""Of one sample, channels last."""
MODALITIES = {
    "table": Modality.table(tuple("abcdef")),
    "tokens": Modality("tokens", ("token", "feature"), tuple("abcd")),
    "image": Modality.image(channels=tuple("abcd")),
    "volume": Modality("volume", ("z", "y", "x", "channel"), ("a", "b")),
}


def values(kind: str) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(3, *SHAPES[kind]))


class Called(nn.Module):
    """A function of an activation and of these modules, its result in a row. The input comes through a layer, so that
    what follows is not the input itself."""

    def __init__(self, kind: str, function: Callable[..., Any], *modules: nn.Module) -> None:
        super().__init__()
        self.tokens, self.function, self.inner = kind == "tokens", function, nn.ModuleList(modules)
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.scale * torch.tanh(x.transpose(1, 2) if self.tokens else x)
        return self.function(x, *self.inner).flatten(1)


def _shuffled(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def _windows(x: Tensor) -> Tensor:
    """Shifted windows as samples of their own, as in Swin transformers, and back."""
    x = F.pad(x.permute(0, 2, 3, 1), (0, 0, 0, 1))
    n, h, w, c = x.shape
    x = x.roll((-1, 2), (1, 2)).view(n, h // 4, 4, w // 4, 4, c).transpose(2, 3).reshape(-1, 16, c)
    x = x @ x.transpose(1, 2).softmax(-1) @ x
    return x.view(n, h // 4, w // 4, 4, 4, c).transpose(2, 3).reshape(n, h, w, c)


def _attention(x: Tensor, qkv: nn.Module) -> Tensor:
    n, t, c = x.shape
    q, k, v = qkv(x).reshape(n, t, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
    mask = torch.ones(t, t, dtype=torch.bool).tril()
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).reshape(n, t, c)


_Case = tuple[str, Callable[[], nn.Module]]


def _fused(**masks: Any) -> _Case:
    """torch's fused attention of two heads with a mask that no input changes."""
    return "tokens", lambda: Called(
        "tokens", lambda x: F.scaled_dot_product_attention(*[x.unflatten(2, (2, 2)).transpose(1, 2)] * 3, **masks)
    )


def _masked(make: Callable[[Tensor], dict[str, Any]], **named: Any) -> _Case:
    """torch's multi-head attention; make: its input → masks."""
    return "tokens", lambda: Called(
        "tokens", lambda x, m: m(x, x, x.flip(1), **make(x))[0], nn.MultiheadAttention(4, 2, batch_first=True, **named)
    )


EARLIER = torch.ones(6, 6, dtype=torch.bool).tril()
DISTANCE = -torch.tensor([[[0.5]], [[2.0]]]) * (torch.arange(6)[:, None] - torch.arange(6)).abs()
"""What is added to the scores of either head: less for what is farther away."""


def _by_hand(x: Tensor, one: nn.Module, two: nn.Module) -> Tensor:
    heads = [layer(x).unflatten(2, (2, 2)).transpose(1, 2) for layer in (one, two)]
    scores = torch.einsum("bhid,bhjd->bhij", *heads) / 2**0.5
    scores = scores.masked_fill(torch.eye(6, dtype=torch.bool), -5.0)
    return torch.matmul(scores.softmax(dim=-1), heads[1]).permute(0, 2, 1, 3).flatten(2)


class _Tokened(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cls = nn.Parameter(torch.randn(1, 1, 4))
        self.place = nn.Parameter(torch.randn(1, 7, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.place
        return torch.cat([x[:, 0], x[:, 1:].mean(1), x[:, -1], x.sum(dim=(1, 2))[:, None], x.amax(2)], 1)


def _module(kind: str, make: Callable[[], nn.Module]) -> _Case:
    return kind, lambda: Called(kind, lambda x, m: m(x), make())


def _function(kind: str, function: Callable[..., Any], *modules: Callable[[], nn.Module]) -> _Case:
    return kind, lambda: Called(kind, function, *(make() for make in modules))


def _up(**named: Any) -> _Case:
    return _function("image", lambda x: F.interpolate(x, **named))


TORCH: dict[str, _Case] = {
    "activations": _function(
        "image",
        lambda x, *acts: torch.cat([act(x) for act in acts], 1),
        *(
            getattr(nn, name)
            for name in (
                "ReLU",
                "ReLU6",
                "LeakyReLU",
                "PReLU",
                "ELU",
                "SELU",
                "Sigmoid",
                "Tanh",
                "Softplus",
                "Softsign",
                "GELU",
                "SiLU",
                "Mish",
                "Hardswish",
                "Hardsigmoid",
                "Hardtanh",
                "Softmax2d",
            )
        ),
    ),
    "dense layer": _module("table", lambda: nn.Linear(6, 3)),
    "convolution": _module("image", lambda: nn.Conv2d(4, 6, 3, 2, 1, groups=2)),
    "weight and spectral norm": _function(
        "image",
        lambda x, one, two: one(x) * two(x),
        lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 3, 3)),
        lambda: nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 3, 3)),
    ),
    "batch norm": _module("image", lambda: nn.BatchNorm2d(4)),
    "max pool": _module("image", lambda: nn.MaxPool2d(3, 2, 1)),
    "global max pool": _module("image", lambda: nn.AdaptiveMaxPool2d(1)),
    "upsampling": _up(scale_factor=2),
    "gate": _function("image", lambda x, m: x * m(x.mean((2, 3))).sigmoid()[:, :, None, None], lambda: nn.Linear(4, 4)),
    "addcmul": _function(
        "tokens", lambda x: torch.addcmul(torch.ones(4).double(), x, torch.arange(4.0).double(), value=2)
    ),
    "rsqrt": _function("table", lambda x: torch.rsqrt(x + 2)),
    "tokens' reductions": _function("tokens", lambda x: x.sum(1) - x.amax(1) + x.mean(1)),
    "embedding": _function(
        "tokens", lambda x, m: m((x[..., 0].abs() * 3).clamp(0, 4).long()), lambda: nn.Embedding(5, 3)
    ),
    "GELU by tanh": _module("tokens", lambda: nn.GELU("tanh")),
    "PReLU per channel": _module("image", lambda: nn.PReLU(4)),
    "log_softmax": _function("tokens", lambda x: F.log_softmax(x, 1)),
    "functions": _function(
        "table", lambda x: torch.exp(x).sqrt() + (2 + x).log().abs() * torch.erf(x) ** 2 + (x + 2) ** 1.5
    ),
    "division, maximum, minimum": _function(
        "image", lambda x: torch.maximum(x, 0.2 / (2 + x)) - torch.minimum(x, -x / 3)
    ),
    "constants of any shape": _function(
        "image", lambda x: x * torch.arange(56.0).view(8, 7) + torch.ones(4, 8, 1) * 0 - 1
    ),
    "layer norm": _module("tokens", lambda: nn.LayerNorm(4)),
    "layer norm over several axes": _module("tokens", lambda: nn.LayerNorm((6, 4), elementwise_affine=False)),
    "layer norm of an image": _function(
        "image", lambda x, m: m(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), lambda: nn.LayerNorm(4)
    ),
    "RMS norm": _module("tokens", lambda: nn.RMSNorm(4)),
    "group norm": _module("image", lambda: nn.GroupNorm(2, 4)),
    "instance norm": _module("image", lambda: nn.InstanceNorm2d(4, affine=True)),
    "instance norm in 3-D": _module("volume", lambda: nn.InstanceNorm3d(2)),
    "unit norm": _function("tokens", lambda x: F.normalize(x, dim=-1)),
    "dropout": _module(
        "image", lambda: nn.Sequential(nn.Conv2d(4, 3, 1), nn.Dropout2d(0.3), nn.Tanh(), nn.Dropout(0.2))
    ),
    "batch norm in 3-D": _module("volume", lambda: nn.BatchNorm3d(2)),
    "convolution in 1-D": _function(
        "tokens", lambda x, m: m(x.transpose(1, 2)), lambda: nn.Conv1d(4, 6, 3, 2, 2, groups=2)
    ),
    "convolution in 3-D": _module("volume", lambda: nn.Conv3d(2, 3, (2, 3, 1), (1, 2, 1), (1, 0, 0))),
    "convolution, padding that repeats": _module(
        "image", lambda: nn.Conv2d(4, 2, 3, padding=1, padding_mode="reflect")
    ),
    "transposed convolution": _module("image", lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2, dilation=2)),
    "transposed convolution in 1-D": _function(
        "tokens", lambda x, m: m(x.mT), lambda: nn.ConvTranspose1d(4, 2, 4, 2, 1)
    ),
    "transposed convolution in 3-D": _module("volume", lambda: nn.ConvTranspose3d(2, 3, 2, 2)),
    "max pool in 1-D": _function("tokens", lambda x: F.max_pool1d(x.transpose(1, 2), 3, 2, 1)),
    "max pool in 3-D": _module("volume", lambda: nn.MaxPool3d(2, ceil_mode=True)),
    "average pool, padding not counted": _module("image", lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False)),
    "average pool, last windows smaller": _module("image", lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True)),
    "average pool in 3-D": _module("volume", lambda: nn.AvgPool3d(2, (1, 2, 2))),
    "adaptive average pool": _module("image", lambda: nn.AdaptiveAvgPool2d((5, 3))),
    "adaptive max pool": _module("image", lambda: nn.AdaptiveMaxPool2d((3, 5))),
    "adaptive average pool in 1-D": _function("tokens", lambda x: F.adaptive_avg_pool1d(x.transpose(1, 2), 4)),
    "global pools in 3-D": _function(
        "volume", lambda x: torch.cat([F.adaptive_avg_pool3d(x, 1), x.amax((2, 3, 4), True)], 1)
    ),
    **{
        f"padding, {m}": _function("image", lambda x, m=m: F.pad(x, (1, 2, 2, 0), m))
        for m in ("reflect", "replicate", "circular")
    },
    "padding of channels": _function("image", lambda x: F.pad(x, (0, 0, 1, -1, 2, 1), value=0.5)),
    "resize, nearest": _up(size=(5, 10)),
    "resize, nearest-exact": _up(size=(5, 10), mode="nearest-exact"),
    "resize, linear": _up(size=(12, 5), mode="bilinear"),
    "resize, linear with corners aligned": _up(scale_factor=2, mode="bilinear", align_corners=True),
    "resize, by a factor": _up(scale_factor=1.6, mode="bilinear"),
    "resize in 3-D": _function("volume", lambda x: F.interpolate(x, (7, 3, 8), mode="trilinear")),
    "resize in 1-D": _function("tokens", lambda x: F.interpolate(x.mT, 9, mode="linear", align_corners=True)),
    "pixel shuffle": _module("image", lambda: nn.PixelShuffle(2)),
    "channel shuffle": _function("image", _shuffled),
    "slices": _function("image", lambda x: x[:, 1:3, ::2, -3:] - x[:, -1:, 1:5, 0, None]),
    "entries by number": _function("image", lambda x: x[:, [2, 0]] * x[:, :2][..., [3]] + x.flip(2)[:, :2]),
    "chunk, split, unbind, stack": _function(
        "image",
        lambda x: (
            torch.stack([x.chunk(2, 1)[1], x.split([2, 1, 1], 1)[0]], 2).sum(2) + torch.stack(x.unbind(3), 3)[:, :2]
        ),
    ),
    "select, narrow, index_select": _function(
        "tokens", lambda x: x.select(1, 2)[:, None] + x.narrow(1, 1, 3) * x.index_select(1, torch.tensor([0, 4, 4]))
    ),
    "roll": _function("image", lambda x: torch.roll(x, (2, -1), (2, 1))),
    "repeat and expand": _function(
        "tokens", lambda x: x.repeat(1, 2, 1) + x.repeat_interleave(2, 1) + x[:, :1].expand(-1, 12, -1)
    ),
    "permute and reshape": _function("image", lambda x: x.permute(0, 3, 1, 2).reshape(len(x), 14, 16).movedim(1, 2)),
    "windows": _function("image", _windows),
    "tokens of an image": _function("image", lambda x, m: m(x.flatten(2).transpose(1, 2)), lambda: nn.Linear(4, 3)),
    "dense layer on an image": _function("image", lambda x, m: m(x), lambda: nn.Linear(7, 3)),
    "class token and places": _module("tokens", _Tokened),
    "matmul and einsum": _function("tokens", _by_hand, lambda: nn.Linear(4, 4), lambda: nn.Linear(4, 4)),
    "matmul by a constant": _function(
        "tokens", lambda x: x @ torch.ones(4, 3).double().cumsum(0) + torch.ones(6, 6).double().tril() @ x[..., :3]
    ),
    "scaled-dot-product attention": _function("tokens", _attention, lambda: nn.Linear(4, 12)),
    "multi-head attention": _function(
        "tokens", lambda x, m: m(x, x, x.flip(1))[0], lambda: nn.MultiheadAttention(4, 2, batch_first=True)
    ),
    "multi-head attention, tokens first": _function(
        "tokens",
        lambda x, m: m(*[x.transpose(0, 1)] * 3, need_weights=False)[0].transpose(0, 1),
        lambda: nn.MultiheadAttention(4, 2),
    ),
    "attention to what came before": _fused(is_causal=True),
    "attention with a bias per head": _fused(attn_mask=DISTANCE),
    "multi-head attention to what came before": _masked(
        lambda x: {"attn_mask": ~EARLIER, "is_causal": True, "need_weights": False}
    ),
    "multi-head attention with a bias per head": _masked(
        lambda x: {"attn_mask": DISTANCE.double().repeat(len(x), 1, 1)}
    ),
    "multi-head attention with padding": _masked(
        lambda x: {
            "attn_mask": torch.eye(6, dtype=torch.bool),
            "key_padding_mask": (torch.arange(6) > 3).expand(len(x), -1),
        }
    ),
    "masked transformer layer": _function(
        "tokens",
        lambda x, m: m(x, src_mask=nn.Transformer.generate_square_subsequent_mask(6, dtype=x.dtype), is_causal=True),
        lambda: nn.TransformerEncoderLayer(4, 2, 5, batch_first=True),
    ),
    "transformer layer": _module(
        "tokens", lambda: nn.TransformerEncoderLayer(4, 2, 5, batch_first=True, norm_first=True)
    ),
    "stochastic depth and dropout": _function("tokens", lambda x, m: m(x) + x, lambda: nn.Dropout(0.3)),
}


def _keras(kind: str, *steps: Callable[[Any], Any]) -> tuple[str, Callable[[], Any]]:
    """A Keras model of these steps, its result in a row."""

    def make() -> Any:
        start = keras.Input(SHAPES[kind], dtype="float64")
        x = keras.layers.Dense(SHAPES[kind][-1], "tanh", dtype="float64")(start)
        for step in steps:
            x = step(x)
        return keras.Model(start, keras.layers.Flatten(dtype="float64")(x))

    return kind, make


def _layer(kind: str, name: str, *args: Any, **named: Any) -> tuple[str, Callable[[], Any]]:
    return _keras(kind, lambda x: getattr(keras.layers, name)(*args, **named, dtype="float64")(x))


ops = keras.ops
KERAS: dict[str, tuple[str, Callable[[], Any]]] = {
    "activations": _keras(
        "image",
        lambda x: ops.concatenate(
            [
                keras.layers.Activation(name, dtype="float64")(x)
                for name in (
                    "relu",
                    "relu6",
                    "leaky_relu",
                    "elu",
                    "selu",
                    "sigmoid",
                    "tanh",
                    "softplus",
                    "softsign",
                    "gelu",
                    "silu",
                    "mish",
                    "hard_sigmoid",
                    "hard_silu",
                    "softmax",
                    "log_softmax",
                    "exponential",
                )
            ],
            -1,
        ),
    ),
    "dense layer": _layer("table", "Dense", 3),
    "dense layer on an image": _layer("image", "Dense", 3),
    "convolution": _layer("image", "Conv2D", 6, 3, 2, "same"),
    "depthwise convolution": _layer("image", "DepthwiseConv2D", 3, 2, depth_multiplier=2),
    "separable convolution": _layer("image", "SeparableConv2D", 3, 3),
    "transposed convolution": _layer("image", "Conv2DTranspose", 3, 3, 2, "same"),
    "transposed convolution, output padding": _keras(
        "image",
        lambda x: keras.layers.Conv2DTranspose(3, 3, 2, "same", output_padding=(0, 0), dtype="float64")(x),
        lambda x: keras.layers.Conv2DTranspose(2, (4, 2), 2, output_padding=(1, 0), dtype="float64")(x),
        lambda x: keras.layers.Conv2DTranspose(2, 4, 3, "same", output_padding=1, dtype="float64")(x),
    ),
    "batch norm": _layer("image", "BatchNormalization"),
    "max pool": _layer("image", "MaxPooling2D", 3, 2, "same"),
    "global pools of images": _keras("image", lambda x: ops.mean(x, (1, 2)) + ops.max(x, (1, 2))),
    "reductions": _keras("image", lambda x: ops.sum(x, 1) * ops.mean(x, 1) + ops.rsqrt(2 + ops.max(x, 1))),
    "upsampling": _layer("image", "UpSampling2D", (2, 3)),
    "gate": _keras("image", lambda x: x * ops.sigmoid(ops.mean(x, (1, 2), keepdims=True))),
    "PReLU": _layer("image", "PReLU", alpha_initializer="random_normal"),
    "PReLU per channel": _layer("image", "PReLU", alpha_initializer="random_normal", shared_axes=[1, 2]),
    "ReLU with a top": _layer("image", "ReLU", 0.5),
    "softmax over an axis": _layer("image", "Softmax", 1),
    "functions": _keras(
        "table",
        lambda x: ops.exp(x) + ops.log(2 + x) * ops.erf(x) + ops.sqrt(2 + x) * ops.square(x) + ops.abs(x) ** 1.5,
    ),
    "division, maximum, minimum": _keras(
        "table", lambda x: ops.maximum(x, 0.25 / (2 + x)) - ops.minimum(x, ops.clip(x, -0.5, 0.25))
    ),
    "constants of any shape": _keras("image", lambda x: x * np.arange(56.0).reshape(8, 7, 1) - np.ones((8, 1, 4))),
    "layer norm": _layer("tokens", "LayerNormalization"),
    "layer norm over several axes": _layer("tokens", "LayerNormalization", [1, 2]),
    "RMS norm": _layer("tokens", "RMSNormalization"),
    "group norm": _layer("image", "GroupNormalization", 2),
    "instance norm": _layer("volume", "GroupNormalization", -1),
    "unit norm": _layer("tokens", "UnitNormalization"),
    "augmentation and a crop": _keras(
        "image", lambda x: keras.layers.CenterCrop(5, 4, dtype="float64")(keras.layers.RandomFlip(dtype="float64")(x))
    ),
    "dropout": _keras(
        "tokens",
        lambda x: (
            keras.layers.SpatialDropout1D(0.3, dtype="float64")(x)
            + keras.layers.Dropout(0.2, noise_shape=(None, 1, 1), dtype="float64")(x)
        ),
    ),
    "Rescaling": _layer("image", "Rescaling", 0.5, -1.0),
    "Normalization": _layer("image", "Normalization", mean=[0.5, 1, 2, 3], variance=[1.0, 2, 3, 4]),
    "convolution in 1-D": _layer("tokens", "Conv1D", 6, 3, padding="causal", activation="mish"),
    "depthwise convolution in 1-D": _layer("tokens", "DepthwiseConv1D", 3, 2, "same"),
    "convolution in 3-D": _layer("volume", "Conv3D", 3, 3, 2, "same"),
    "transposed convolution in 1-D": _layer("tokens", "Conv1DTranspose", 3, 4, 3, "same"),
    "transposed convolution in 3-D": _layer("volume", "Conv3DTranspose", 3, 3, 2, "same"),
    "average pool with padding": _layer("image", "AveragePooling2D", 3, 2, padding="same"),
    "average pool in 1-D": _layer("tokens", "AveragePooling1D", 3, 2, padding="same"),
    "max pool in 1-D": _layer("tokens", "MaxPooling1D", 3, 2, padding="same"),
    "adaptive average pool": _layer("image", "AdaptiveAveragePooling2D", (5, 3)),
    "adaptive max pool": _layer("image", "AdaptiveMaxPooling2D", (5, 3)),
    "global pools": _keras("tokens", lambda x: keras.layers.GlobalAveragePooling1D(dtype="float64")(x) + ops.max(x, 1)),
    "global pools in 3-D": _layer("volume", "GlobalAveragePooling3D"),
    "padding and cropping in 1-D": _keras(
        "tokens", keras.layers.ZeroPadding1D((1, 2), dtype="float64"), keras.layers.Cropping1D((0, 2), dtype="float64")
    ),
    "padding in 3-D": _layer("volume", "ZeroPadding3D", (1, 0, 2)),
    "padding that repeats": _keras("image", lambda x: ops.pad(x, ((0, 0), (1, 2), (0, 3), (0, 0)), "reflect")),
    "resize": _layer("image", "Resizing", 5, 10, "nearest"),
    "upsampling in 1-D": _layer("tokens", "UpSampling1D", 3),
    "upsampling in 3-D": _layer("volume", "UpSampling3D", 2),
    "permute and reshape": _keras(
        "image",
        keras.layers.Permute((3, 1, 2), dtype="float64"),
        keras.layers.Reshape((14, 16), dtype="float64"),
        lambda x: ops.swapaxes(x, 1, 2),
    ),
    "transpose, moveaxis": _keras("image", lambda x: ops.moveaxis(ops.transpose(x, (0, 3, 2, 1)), 1, 3)),
    "slices": _keras("image", lambda x: x[:, ::2, -3:, 1:3] - x[:, 1:5, 0, None, -1:]),
    "split, unstack, stack": _keras(
        "image",
        lambda x: (
            ops.stack(ops.split(x, [1, 2], -1)[:2], 3) + ops.expand_dims(ops.unstack(x, axis=3, num=4)[0], (3, 4))
        ),
    ),
    "take, flip, roll": _keras(
        "image", lambda x: ops.take(x, [2, 0], axis=-1) + ops.flip(ops.roll(x, 2, 1), 2)[..., :2]
    ),
    "tile and repeat": _keras("tokens", lambda x: ops.tile(x, (1, 2, 1))),
    "RepeatVector": _layer("table", "RepeatVector", 3),
    "windows": _keras("image", lambda x: ops.reshape(ops.softmax(ops.reshape(x, (-1, 14, 4)), 1), (-1, 8, 7, 4))),
    "channel shuffle": _keras(
        "image", lambda x: ops.reshape(ops.transpose(ops.reshape(x, (-1, 8, 7, 2, 2)), (0, 1, 2, 4, 3)), (-1, 8, 7, 4))
    ),
    "merging layers": _keras(
        "tokens",
        lambda x: keras.layers.Average(dtype="float64")([x, 2 * x, keras.layers.Maximum(dtype="float64")([x, -x])]),
    ),
    "matmul and einsum": _keras("tokens", lambda x: ops.einsum("nhd,ned->neh", x, x) @ x),
    "matmul by a constant": _keras(
        "tokens", lambda x: ops.matmul(np.tril(np.ones((6, 6))), x @ np.arange(12.0).reshape(4, 3))
    ),
    "Dot": _keras("tokens", lambda x: keras.layers.Dot((2, 2), dtype="float64")([x, x])),
    "EinsumDense": _layer("tokens", "EinsumDense", "abc,cde->abde", output_shape=(6, 2, 3), bias_axes="e"),
    "multi-head attention": _keras(
        "tokens", lambda x: keras.layers.MultiHeadAttention(2, 3, value_dim=5, dtype="float64")(x, 2 * x)
    ),
    "multi-head attention as torch has it": _keras(
        "tokens", lambda x: keras.layers.MultiHeadAttention(2, 2, dtype="float64")(x, x)
    ),
    "multi-head attention to what came before": _keras(
        "tokens", lambda x: keras.layers.MultiHeadAttention(2, 3, dtype="float64")(x, 2 * x, use_causal_mask=True)
    ),
    "multi-head attention with a mask": _keras(
        "tokens",
        lambda x: keras.layers.MultiHeadAttention(2, 2, dropout=0.1, dtype="float64")(
            x, x, attention_mask=np.tri(6, dtype=bool)[None, ::-1], use_causal_mask=False
        ),
    ),
    "multi-head attention with two masks": _keras(
        "tokens",
        lambda x: keras.layers.MultiHeadAttention(2, 3, value_dim=4, dtype="float64")(
            x, x, attention_mask=(np.arange(6) != 3) | np.eye(6, dtype=bool), use_causal_mask=True
        ),
    ),
    "attention without weights": _keras("tokens", lambda x: keras.layers.Attention(dtype="float64")([x, 2 * x])),
    "embedding": _keras("table", lambda x: keras.layers.Embedding(5, 3, dtype="float64")(ops.clip(x * 5, 0, 4))),
}
