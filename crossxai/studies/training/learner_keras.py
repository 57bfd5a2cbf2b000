"""The learner in Keras, in step with PyTorch's: same weights, same order of operations, same optimiser.

`keras.optimizers.AdamW` would add epsilon before it corrects for the first steps, and batch norms would collect biased variances.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from crossxai.model import Array
from crossxai.process import streams_kept
from crossxai.studies.networks import keras_networks
from crossxai.studies.networks.weight_files import Weights
from crossxai.studies.pcam.dataset import Labels, Pixels
from crossxai.studies.training.patch_loop import BETAS, EPSILON, Rules, State, part_of


class KerasLearner:
    """The Keras twin of torchvision's ResNet-18; a step is one graph."""

    def __init__(self, weights: Weights, rules: Rules) -> None:
        self.rules = rules
        with streams_kept():  # Keras seeds its initialisers from Python's generator
            self.model = keras_networks.resnet18(dtype=rules.dtype)
        keras_networks.set_weights_from(self.model, weights)
        layers = [self.model.get_layer("fc")] if rules.frozen else self.model.layers
        self.learning = {v.path: v.value for layer in layers for v in layer.trainable_variables}
        self.first = {path: tf.Variable(tf.zeros_like(v), trainable=False) for path, v in self.learning.items()}
        self.second = {path: tf.Variable(tf.zeros_like(v), trainable=False) for path, v in self.learning.items()}
        self.steps = 0
        self.norms = [layer for layer in self.model.layers if isinstance(layer, keras.layers.BatchNormalization)]
        images, scalar = tf.TensorSpec((None, 96, 96, 3), rules.dtype), tf.TensorSpec((), rules.dtype)
        labels = tf.TensorSpec((None,), tf.int64)
        self._stepped = tf.function(self._step, input_signature=(images, labels, scalar, scalar, scalar))
        self._predicted = tf.function(lambda x: self.model(x, training=False), input_signature=(images,))

    def step(self, pixels: Pixels, labels: Labels, learning_rate: float) -> float:
        self.steps += 1
        first, second = (1 - beta**self.steps for beta in BETAS)
        scalars = (1 - learning_rate * self.rules.weight_decay, learning_rate / first, math.sqrt(second))
        images = tf.constant(self.rules.seen(pixels))
        return float(self._stepped(images, tf.constant(labels), *(tf.constant(s, self.rules.dtype) for s in scalars)))

    def predict(self, images: npt.NDArray[np.float32]) -> Array:
        return np.asarray(self._predicted(tf.constant(self.rules.standardised(images))).numpy())

    def weights(self) -> Weights:
        return keras_networks.state_from(self.model)

    def state(self) -> State:
        arrays: State = {f"weights/{name}": values for name, values in self.weights().items()}
        for kind, moments in (("first", self.first), ("second", self.second)):
            arrays |= {f"{kind}/{path}": values.numpy() for path, values in moments.items()}
        return {**arrays, "steps": np.array(self.steps)}

    def restore(self, state: State) -> None:
        keras_networks.set_weights_from(self.model, part_of(state, "weights"))
        for kind, moments in (("first", self.first), ("second", self.second)):
            for path, values in moments.items():
                values.assign(state[f"{kind}/{path}"])
        self.steps = int(state["steps"])

    def _step(self, images: Any, labels: Any, decay: Any, size: Any, root: Any) -> Any:
        """decay: what weights keep of themselves. size: learning rate, and root: of second moments, corrected for first steps."""
        before = [tf.identity(norm.moving_variance.value) for norm in self.norms]
        with tf.GradientTape() as tape:
            logits = self.model(images, training=not self.rules.frozen)
            smooth = self.rules.label_smoothing
            wanted = tf.one_hot(labels, logits.shape[-1], dtype=logits.dtype) * (1 - smooth) + smooth / logits.shape[-1]
            loss = -tf.reduce_mean(tf.reduce_sum(wanted * tf.nn.log_softmax(logits), axis=-1))
        gradients = tape.gradient(loss, list(self.learning.values()))
        for (path, weight), gradient in zip(self.learning.items(), gradients, strict=True):
            m, v = self.first[path], self.second[path]
            m.assign_add((1 - BETAS[0]) * (gradient - m))
            v.assign(BETAS[1] * v + (1 - BETAS[1]) * tf.square(gradient))
            weight.assign(decay * weight - size * m / (tf.sqrt(v) / root + EPSILON))
        if not self.rules.frozen:
            for norm, old in zip(self.norms, before, strict=True):
                _, height, width, _ = norm.output.shape
                n = tf.cast(tf.shape(images)[0] * (height * width), images.dtype)
                new = norm.moving_variance.value
                new.assign_add((new - norm.momentum * old) / (n - 1))  # biased → unbiased: times n / (n - 1)
        return loss
