"""Xplique's rewritten ReLUs, on twins: where the library alone would give the plain gradient, and what is refused."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import xplique.attributions as native
from networks import zoo
from test_xplique import ONE_HOT, X, close

from crossxai import Question, Target, Unsupported
from crossxai.adapters.numpy import FunctionModel
from crossxai.adapters.tensorflow import KerasModel
from crossxai.explainers import get
from crossxai.explainers.twins import KerasTwinScores


def awkward(kind: str) -> Any:
    """Networks whose ReLUs the library does not find: inside another model, or fused with a pre-activation."""
    x = start = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3)(x)
    if kind == "nested":
        inner = keras.Input(x.shape[1:])
        x = keras.Model(inner, keras.layers.ReLU()(keras.layers.Conv2D(4, 3)(keras.layers.ReLU()(inner))))(x)
    else:
        x = keras.layers.Conv2D(4, 3, activation="relu")(keras.layers.Activation("relu")(x))
    model = keras.Model(start, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape) * 0.4)
    return model


@pytest.mark.parametrize("name", ["guided_backprop", "deconv_net"])
@pytest.mark.parametrize("kind", ["nested", "fused", "torch"])
def test_no_relu_keeps_its_gradient(name: str, kind: str) -> None:
    """Against the same network written out by hand; and it is not the plain gradient, which the library gives for a nested
    model."""
    model = zoo.model("torch") if kind == "torch" else KerasModel(awkward(kind), (zoo.T1,))
    question = Question(model, (X,), zoo.target("class"))
    found = get(f"xplique.{name}")(question)
    plain = question.score_and_grad()[1][0].mean(-1, keepdims=True)
    assert np.abs(found.values[0] - plain).max() > 0.1 * np.abs(plain).max()
    assert found.extras["twin_gap"].shape == (2,)
    assert found.extras["twin_gap"].max() < 1e-5
    method = {"guided_backprop": native.GuidedBackprop, "deconv_net": native.DeconvNet}[name]
    if kind == "nested":
        close(method(awkward(kind))(X, ONE_HOT).numpy(), plain)
    if kind != "torch":
        given = awkward(kind).get_weights()
        x = start = keras.Input((16, 16, 3))
        x = keras.layers.ReLU()(keras.layers.Conv2D(4, 3)(x))
        x = keras.layers.ReLU()(keras.layers.Conv2D(4, 3)(x))
        flat = keras.Model(start, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)))
        flat.set_weights(given)
        close(found.values[0], method(flat)(X, ONE_HOT))


@pytest.mark.parametrize("inputs", zoo.INPUTS)
@pytest.mark.parametrize("link", ["identity", "softmax", "sigmoid"])
def test_the_twin_s_operator_is_the_question(inputs: str, link: Any) -> None:
    """Held modalities, weights and link, in TensorFlow, for copies of rows in any order: scores and gradients."""
    import tensorflow as tf

    task = "segmentation" if link == "softmax" else "class"
    for part in Question(
        zoo.model("torch", inputs, task), zoo.values(inputs, 3), Target(zoo.target(task, 3).weights, link)
    ).parts():
        scores = KerasTwinScores(part)
        rows = np.array([2, 0, 0, 1])
        x = tf.constant(part.values[0][rows] * np.float32(0.9))
        with tf.GradientTape() as tape:
            tape.watch(x)
            found = scores.operator(scores.rebuilt.module, x, rows[:, None].astype(np.float32))
        expected, (gradient,) = part.score_and_grad((x.numpy(),), rows)
        close(found.numpy(), expected)
        close(tape.gradient(found, x).numpy(), gradient, 1e-3)
        np.testing.assert_array_equal(scores.seen, found.numpy()[[2, 3, 0]])


def test_rewriting_is_refused_with_the_reason() -> None:
    inner = zoo.model("torch")
    function = FunctionModel(lambda x: inner.predict((x,)), (zoo.T1,))
    with pytest.raises(Unsupported, match="needs module, which model 'function' does not give"):
        get("xplique.guided_backprop")(Question(function, (X,), zoo.target("class")))
    start = keras.Input((16, 16, 3))
    smooth = keras.Model(start, keras.layers.Dense(3)(keras.layers.Flatten()(start)))
    with pytest.raises(Unsupported, match=r"changes the gradient at ReLUs, and model 'keras' has none: use xplique\."):
        get("xplique.deconv_net")(Question(KerasModel(smooth, (zoo.T1,)), (X,), zoo.target("class")))
