"""Keras networks drawn from a grammar, some with a planted fault, and what is true of them by the network without it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers as L

from crossxai import Modality
from crossxai.adapters.tensorflow import KerasModel
from networks.removing import Removing

NAME = "keras"
INT8 = 0.3
"""Keras differentiates its int8 layers as if they were not rounded: right to what rounding takes away."""
SIZE = 8
FAULTS = (
    "stop_gradient",
    "rounded",
    "numpy",
    "dropout",
    "coupled",
    "coupled_mean",
    "unused",
    "int8",
    "changed",
    "temperature",
)


@dataclass(frozen=True)
class Spec:
    """What a network is made of; `fault` "" is a healthy one."""

    seed: int
    body: str
    act: str
    norm: str
    pool: str
    residual: bool
    head: str
    inputs: str
    softmax: bool
    fault: str = ""


def draw(seed: int) -> Spec:
    """The network of a seed; two in three have a fault."""
    rng = np.random.default_rng([seed, 78])

    def one(*options: Any) -> Any:
        return options[int(rng.integers(len(options)))]

    spec = Spec(
        seed,
        one("conv", "conv", "nested", "tokens"),
        one("relu", "tanh", "gelu", "layer", "reused"),
        one("batch", "layer", "group", "none"),
        one("max", "avg", "none"),
        one(True, False),
        one("mean", "flatten"),
        one("one", "one", "table", "dict"),
        one(True, False, False),
        one(*FAULTS) if rng.random() < 2 / 3 else "",
    )
    if spec.fault == "unused" and spec.inputs == "one":
        return replace(spec, inputs=one("table", "dict"))
    # A subclassed model knows no names until it was called with them.
    return replace(spec, inputs="table") if spec.fault == "temperature" and spec.inputs == "dict" else spec


@keras.saving.register_keras_serializable("crossxai-tests")
class Faulty(L.Layer):
    """Features (n, width) that lose their gradient, or what makes them one sample's; healthy, what the fault computes."""

    def __init__(self, fault: str, planted: bool, **options: Any) -> None:
        super().__init__(**options)
        self.fault, self.planted = fault, planted

    def call(self, x: Any) -> Any:
        if self.fault == "numpy":
            if self.planted:
                return tf.ensure_shape(tf.numpy_function(np.tanh, [x], x.dtype), x.shape)
            return tf.tanh(x)
        if not self.planted:
            return x
        if self.fault == "stop_gradient":
            return tf.stop_gradient(x)
        if self.fault == "dropout":
            return tf.nn.dropout(x, 0.4)
        if self.fault == "coupled":
            mean, variance = tf.nn.moments(x, [0])
            return (x - mean) / tf.sqrt(variance + 1e-3)
        return x - 0.5 * tf.reduce_mean(x, axis=0, keepdims=True) if self.fault == "coupled_mean" else x


class Rounded(L.Layer):
    """An image in 17 shades."""

    def call(self, x: Any) -> Any:
        return tf.cast(tf.cast(x * 16 + 0.5, tf.int32), x.dtype) / 16


class Scaled(keras.Model):
    """Logits divided by a temperature that is set later."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner, self.temperature = inner, 1.0

    def call(self, x: Any) -> Any:
        return self.inner(x) / self.temperature


def encoder(spec: Spec, x: Any, planted: bool) -> Any:
    """Features of an image (n, 8, 8, 3)."""
    activation = "relu" if spec.act in ("layer", "reused") else spec.act
    relu = L.ReLU(name="relu") if spec.act == "reused" else None

    def act(h: Any, name: str) -> Any:
        if relu is not None:
            return relu(h)
        return L.ReLU(name=name)(h) if spec.act == "layer" else L.Activation(activation, name=name)(h)

    if spec.fault == "rounded" and planted:
        x = Rounded()(x)
    if spec.body == "tokens":
        h = L.Conv2D(8, 2, 2, name="patch")(x)
        h = L.Reshape((16, 8), name="flat")(h)
        n = L.LayerNormalization(name="before")(h)
        h = L.Add(name="sum")([h, L.MultiHeadAttention(2, 4, name="attention")(n, n)])
        h = L.LayerNormalization(name="after")(h)
        h = L.GlobalAveragePooling1D()(h) if spec.head == "mean" else L.Flatten()(h)
    else:
        h = L.Conv2D(6, 3, padding="same", name="conv1")(x)
        made = {
            "batch": L.BatchNormalization,
            "layer": L.LayerNormalization,
            "group": lambda name: L.GroupNormalization(2, name=name),
        }
        if spec.norm != "none":
            h = made[spec.norm](name="norm")(h)
        h = act(h, "act1")
        if spec.body == "nested":
            h = keras.Sequential(
                [keras.Input((SIZE, SIZE, 6)), L.Conv2D(8, 3, padding="same", name="conv2")], name="inner"
            )(h)
        else:
            h = L.Conv2D(8, 3, padding="same", name="conv2")(h)
        h = act(h, "act2")
        if spec.pool != "none":
            h = {"max": L.MaxPooling2D, "avg": L.AveragePooling2D}[spec.pool](2, name="pool")(h)
        if spec.residual:
            h = L.Add(name="sum")([h, L.Conv2D(8, 3, padding="same", activation="tanh", name="conv3")(h)])
        h = L.GlobalAveragePooling2D()(h) if spec.head == "mean" else L.Flatten()(h)
    inside = spec.fault in ("stop_gradient", "numpy", "dropout", "coupled", "coupled_mean")
    return Faulty(spec.fault, planted, name="faulty")(h) if inside else h


def network(spec: Spec, planted: bool) -> Any:
    """The network of a spec, with or without its fault, with the same weights."""
    keras.utils.set_random_seed(spec.seed)
    image = keras.Input((SIZE, SIZE, 3), name="image")
    features = [encoder(spec, image, planted)]
    given: Any = image
    if spec.inputs != "one":
        other = keras.Input((4,), name="other")
        second = L.Dense(5, activation="tanh", name="second")(other)
        features.append(L.Rescaling(0.0)(second) if spec.fault == "unused" else second)
        given = {"other": other, "image": image} if spec.inputs == "dict" else [image, other]
    h = features[0] if len(features) == 1 else L.Concatenate()(features)
    h = L.Dense(8, activation="tanh", name="hidden")(h)
    net = keras.Model(given, L.Dense(3, activation="softmax" if spec.softmax else None, name="head")(h))
    for layer in net._flatten_layers():
        if isinstance(layer, L.BatchNormalization):
            rng = np.random.default_rng(spec.seed)
            layer.moving_mean.assign(rng.uniform(-0.3, 0.3, layer.moving_mean.shape))
            layer.moving_variance.assign(rng.uniform(0.5, 1.5, layer.moving_variance.shape))
    if spec.fault == "int8" and planted:
        for layer in net._flatten_layers():  # Keras warns of every layer that cannot be
            if type(layer).quantize not in (L.Layer.quantize, keras.Model.quantize):
                layer.quantize("int8")
    return Scaled(net) if spec.fault == "temperature" else net


class Drawn(Removing):
    """The network of a seed, wrapped, and its truths for two samples; changed after it was wrapped if that is its fault."""

    def __init__(self, seed: int) -> None:
        self.spec = spec = draw(seed)
        rng = np.random.default_rng([seed, 5])
        image = rng.random((2, SIZE, SIZE, 3)).astype(np.float32)
        other = rng.normal(size=(2, 4)).astype(np.float32)
        self.inputs = (image,) if spec.inputs == "one" else (image, other)
        others = () if spec.inputs == "one" else (Modality.table(("a", "b", "c", "d"), "other"),)
        self.modalities = (Modality.image(), *others)
        self.net, self.healthy = network(spec, True), network(spec, False)
        self.model = KerasModel(self.net, self.modalities, name=f"drawn {seed}")
        if spec.fault in ("changed", "temperature"):
            self.model.predict(self.inputs)
            for net in (self.net, self.healthy):
                if spec.fault == "temperature":
                    net.temperature = 3.0
                else:
                    net.get_layer("head").activation = keras.activations.tanh
        if spec.fault == "rounded":  # below what is rounded, gradients are right
            self.healthy = self.net

    def _call(self, net: Any, inputs: Any) -> Any:
        tensors = [tf.convert_to_tensor(v, tf.float32) for v in inputs]
        if self.spec.inputs == "dict":
            return net(dict(zip(("image", "other"), tensors, strict=True)), training=False)
        return net(tensors[0] if len(tensors) == 1 else tensors, training=False)

    def scores(self, labels: Any, inputs: Any = None) -> Any:
        """Scores of the two samples, or of copies of them."""
        outputs = np.asarray(self._call(self.net, self.inputs if inputs is None else inputs), np.float64)
        return outputs[np.arange(2), labels]

    def gradients(self, labels: Any) -> dict[str, Any]:
        """By TensorFlow's own tape on the network without its fault."""
        tensors = [tf.convert_to_tensor(v) for v in self.inputs]
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            score = tf.reduce_sum(tf.gather(self._call(self.healthy, tensors), labels, axis=1, batch_dims=1))
        found = tape.gradient(score, tensors, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return {m.name: g.numpy().astype(np.float64) for m, g in zip(self.modalities, found, strict=True)}

    def cam(self, labels: Any, layer: str) -> Any:
        """Grad-CAM at a layer, by a model of two outputs and TensorFlow's tape, on the network without its fault."""
        net = self.healthy.inner if self.spec.fault == "temperature" else self.healthy
        named = next(x for x in net._flatten_layers() if x.name == layer)
        seen: list[Any] = []
        call = named.call

        def watched(*args: Any, **kwargs: Any) -> Any:
            seen.append(tf.identity(call(*args, **kwargs)))
            tape.watch(seen[0])
            return seen[0]

        object.__setattr__(named, "call", watched)
        with tf.GradientTape() as tape:
            outputs = self._call(self.healthy, self.inputs)
            score = tf.reduce_sum(tf.gather(outputs, labels, axis=1, batch_dims=1))
        object.__setattr__(named, "call", call)
        activation, gradient = seen[0].numpy(), tape.gradient(score, seen[0]).numpy()
        if activation.ndim == 3:
            activation, gradient = (v.reshape(2, 4, 4, -1) for v in (activation, gradient))
        raw = np.maximum((activation * gradient.mean(axis=(1, 2), keepdims=True)).sum(-1), 0)
        return tf.image.resize(raw[..., None], (SIZE, SIZE)).numpy()[..., 0]
