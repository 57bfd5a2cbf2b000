"""Networks with one faulty branch beside a healthy trunk, at a chosen strength, in both frameworks; strength 0 is healthy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIZE = 16
CUT = ("residual", "gate", "attention", "backward")
"""A branch, a gate or weights of attention without their gradient; a backward function that gives half."""
STEPPED = ("rounded", "whole", "one_hot")
"""A branch that is rounded to a sixteenth or to whole numbers, or that picks its largest entry."""
KINDS = (*CUT, *STEPPED)


def images(seed: int, n: int = 3) -> Any:
    """Smooth images with edges, in [0, 1]."""
    rng = np.random.default_rng([seed, 31])
    coarse = np.repeat(np.repeat(rng.random((n, 4, 4, 3)), SIZE // 4, 1), SIZE // 4, 2)
    return np.clip(0.8 * coarse + 0.2 * rng.random((n, SIZE, SIZE, 3)), 0, 1).astype(np.float32)


class Scaled(torch.autograd.Function):
    """The identity, with `factor` times its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Any, factor: float) -> Any:
        ctx.factor = factor
        return x.clone()

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> Any:
        return ctx.factor * upstream, None


class TorchPlanted(nn.Module):
    """Convolutions with ReLU and a max-pool, a second block with the fault, a mean, two dense layers."""

    def __init__(self, kind: str, strength: float, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.kind, self.strength = kind, strength
        self.conv1, self.conv2 = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 12, 3, padding=1)
        self.branch, self.query = nn.Conv2d(12, 12, 3, padding=1), nn.Conv2d(12, 24, 1)
        self.gate = nn.Linear(12, 12)
        self.hidden, self.head = nn.Linear(12, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.max_pool2d(F.relu(self.conv1(4 * (x - 0.5))), 2)
        h = F.relu(self.conv2(h))
        h = h / h.std(dim=(1, 2, 3), keepdim=True)
        h = h + self.strength * self.planted(h)
        return self.head(torch.tanh(self.hidden(h.mean(dim=(2, 3)))))

    def planted(self, h: Tensor) -> Tensor:
        """A branch about as large as the trunk."""
        if self.kind == "gate":
            return h * (4 * torch.sigmoid(4 * self.gate(h.mean(dim=(2, 3))))).detach()[:, :, None, None]
        if self.kind == "attention":
            q, k = self.query(h).flatten(2).chunk(2, 1)
            weights = (2 * q.transpose(1, 2) @ k).softmax(-1).detach()
            return 2 * (h.flatten(2) @ weights.transpose(1, 2)).view_as(h)
        b = torch.tanh(3 * self.branch(h))
        if self.kind == "backward":
            return Scaled.apply(b, 0.5)
        if self.kind == "residual":
            with torch.no_grad():
                return torch.tanh(3 * self.branch(h))
        if self.kind == "one_hot":
            m = b.mean(dim=(2, 3))
            return 3 * F.one_hot(m.argmax(1), 12).to(h.dtype)[:, :, None, None].expand_as(h)
        steps = 16 if self.kind == "rounded" else 2
        return (
            b + (b.mean(dim=(2, 3), keepdim=True) * 8 * steps).round() / steps
            if steps == 2
            else (b * steps).round() / steps
        )


@tf.custom_gradient
def _half(x: Any) -> Any:
    return tf.identity(x), lambda upstream: upstream / 2


@keras.saving.register_keras_serializable("crossxai-tests")
class Planted(keras.layers.Layer):
    """h + strength · a branch with a fault."""

    def __init__(self, kind: str, strength: float, **options: Any) -> None:
        super().__init__(**options)
        self.kind, self.strength = kind, strength
        self.branch = keras.layers.Conv2D(12, 3, padding="same", activation="tanh", dtype=self.dtype_policy)
        self.query = keras.layers.Conv2D(24, 1, dtype=self.dtype_policy)
        self.gate = keras.layers.Dense(12, dtype=self.dtype_policy)

    def build(self, shape: Any) -> None:
        for layer in (self.branch, self.query):
            layer.build(shape)
        self.gate.build((None, 12))
        super().build(shape)

    def get_config(self) -> Any:
        return super().get_config() | {"kind": self.kind, "strength": self.strength}

    def call(self, h: Any) -> Any:
        return h + tf.cast(self.strength, h.dtype) * self.planted(h)

    def planted(self, h: Any) -> Any:
        if self.kind == "gate":
            gate = 4 * tf.sigmoid(4 * self.gate(tf.reduce_mean(h, (1, 2))))
            return h * tf.stop_gradient(gate)[:, None, None, :]
        if self.kind == "attention":
            flat = tf.reshape(h, (-1, SIZE * SIZE // 4, 12))
            q, k = tf.split(tf.reshape(self.query(h), (-1, SIZE * SIZE // 4, 24)), 2, -1)
            weights = tf.stop_gradient(tf.nn.softmax(2 * tf.matmul(q, k, transpose_b=True)))
            return 2 * tf.reshape(tf.matmul(weights, flat), tf.shape(h))
        b = self.branch(h)
        if self.kind == "backward":
            return _half(b)
        if self.kind == "residual":
            return tf.stop_gradient(b)
        if self.kind == "one_hot":
            m = tf.reduce_mean(b, (1, 2))
            return 3 * tf.one_hot(tf.argmax(m, 1), 12, dtype=h.dtype)[:, None, None, :] * tf.ones_like(h)
        if self.kind == "whole":
            return b + tf.round(tf.reduce_mean(b, (1, 2), keepdims=True) * 16) / 2
        return tf.round(b * 16) / 16


def keras_planted(kind: str, strength: float, seed: int) -> Any:
    """The same in Keras."""
    keras.utils.set_random_seed(seed)
    x = keras.Input((SIZE, SIZE, 3))
    h = keras.layers.Rescaling(4.0, -2.0)(x)
    h = keras.layers.MaxPooling2D()(keras.layers.Conv2D(12, 3, padding="same", activation="relu")(h))
    h = keras.layers.Conv2D(12, 3, padding="same", activation="relu")(h)
    h = keras.layers.LayerNormalization(axis=(1, 2, 3), center=False, scale=False)(h)
    h = keras.layers.GlobalAveragePooling2D()(Planted(kind, strength, name="planted")(h))
    return keras.Model(x, keras.layers.Dense(3)(keras.layers.Dense(16, activation="tanh")(h)))


def torch_planted(kind: str, strength: float, seed: int) -> Any:
    return TorchPlanted(kind, strength, seed).eval()


MADE: dict[str, Callable[[str, float, int], Any]] = {"torch": torch_planted, "keras": keras_planted}
