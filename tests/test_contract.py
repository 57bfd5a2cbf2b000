"""What every explainer promises, held against the discovered list on torch, Keras and plain functions."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import torch
import toys

from crossxai import Modality, Question, Target, Unsupported
from crossxai.adapters.numpy import FunctionModel
from crossxai.adapters.torch import TorchModel
from crossxai.explainers import discover, get
from crossxai.model import Array, Cotangent, Inputs

SMALL: dict[str, dict[str, Any]] = {
    "captum.integrated_gradients": {"steps": 7},
    "captum.occlusion": {"patch": 8, "stride": 4},
    "gradcam.gradcam": {"layer": "conv2"},
    "gradcam.gradcam_plus_plus": {"layer": "conv2"},
    "gradcam.hirescam": {"layer": "conv2"},
    "gradcam.sess": {"sizes": 2},
    "lime.image": {"samples": 40},
    "xplique.gradcam": {"layer": "conv2"},
    "xplique.integrated_gradients": {"steps": 7},
    "xplique.occlusion": {"patch": 8, "stride": 4},
    "xplique.rise": {"samples": 40},
}
CASES = [(name, profile) for name, kind in discover().items() for profile in kind.profiles if "image" in kind.kinds]


@pytest.fixture(scope="module", params=["torch", "keras", "numpy"])
def model(request: pytest.FixtureRequest) -> Any:
    if request.param == "numpy":
        inner = toys.torch_model()
        return FunctionModel(lambda x: inner.predict((x,)), (toys.IMAGE,))
    return toys.torch_model() if request.param == "torch" else toys.keras_model()


class Counting:
    """A model that counts the samples passing through it forwards and backwards."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.name, self.modalities = inner, inner.name, inner.modalities
        self.forward = self.backward = 0

    def predict(self, inputs: Inputs) -> Array:
        self.forward += len(inputs[0])
        return self.inner.predict(inputs)

    def vjp(self, inputs: Inputs, cotangent: Cotangent) -> Any:
        self.forward += len(inputs[0])
        self.backward += len(inputs[0])
        return self.inner.vjp(inputs, cotangent)

    def activations(self, inputs: Inputs) -> Any:
        return self.inner.activations(inputs)

    def layer_vjp(self, inputs: Inputs, cotangent: Cotangent, layer: str) -> Any:
        self.forward += len(inputs[0])
        self.backward += len(inputs[0])
        return self.inner.layer_vjp(inputs, cotangent, layer)

    def read(self, inputs: Inputs, layer: str) -> Any:
        self.forward += len(inputs[0])
        return self.inner.read(inputs, layer)

    def replace(self, inputs: Inputs, layer: str, activation: Array) -> Array:
        self.forward += len(inputs[0])
        return self.inner.replace(inputs, layer, activation)


@pytest.mark.parametrize(("name", "profile"), CASES)
def test_contract(model: Any, name: str, profile: str) -> None:
    explainer = get(name, profile=profile, **SMALL.get(name, {}))
    question = toys.question(model, batch_size=3)
    if explainer.needs in ("gradients", "layers", "module") and isinstance(model, FunctionModel):
        with pytest.raises(Unsupported, match=f"{name} needs {explainer.needs}, which model 'function' does not give"):
            explainer(question)
        return
    if explainer.needs == "attention":  # a convolutional network has none: tests/test_attention.py asks transformers
        with pytest.raises(Unsupported, match=r"needs attention|declares no token streams"):
            explainer(question)
        return
    before = question.inputs[0].copy()
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    states = (random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state())

    answer = explainer(question)

    (values,) = answer.values
    np.broadcast_shapes(values.shape, question.inputs[0].shape)
    assert values.shape[:3] == (3, toys.SIZE, toys.SIZE)
    assert np.isfinite(values).all()
    assert np.ptp(values) > 0
    assert answer.explainer == name
    assert answer.profile == profile
    assert answer.seconds > 0
    np.testing.assert_array_equal(question.inputs[0], before)
    assert states[0] == random.getstate()
    np.testing.assert_array_equal(states[1], np.random.get_state()[1])
    assert torch.equal(states[2], torch.get_rng_state())
    if isinstance(model, TorchModel):
        assert not any(m._forward_hooks or m._backward_hooks or m.training for m in model.module.modules())
        assert all(p.grad is None and p.requires_grad for p in model.module.parameters())
    elif not isinstance(model, FunctionModel):
        assert not any("call" in vars(layer) for layer in model.model._flatten_layers())
    assert not tf.config.functions_run_eagerly()

    np.testing.assert_array_equal(values, explainer(question).values[0], err_msg="same seed, same answer")
    scale = np.abs(values).max()
    other_batches = explainer(toys.question(model, batch_size=2)).values[0]
    np.testing.assert_allclose(other_batches, values, atol=1e-5 * scale, err_msg="depends on the batch size")
    order = [2, 0]
    np.testing.assert_allclose(
        explainer(question[order]).values[0], values[order], atol=1e-5 * scale, err_msg="depends on the other samples"
    )


@pytest.mark.parametrize(
    ("name", "profile"), [c for c in CASES if discover()[c[0]].needs not in ("attention", "module")]
)
def test_passes_are_as_announced(name: str, profile: str) -> None:
    explainer = get(name, profile=profile, **SMALL.get(name, {}))
    counting = Counting(toys.torch_model())
    question = toys.question(counting)
    explainer(question)
    forward, backward = explainer.passes(question)
    assert (counting.forward, counting.backward) == (3 * forward, 3 * backward)


class Linear:
    """score = w · x: every complete method has to answer w · (x - baseline)."""

    name = "linear"

    def __init__(self, modality: Modality, weights: Array) -> None:
        self.modalities = (modality,)
        self.weights = weights

    def predict(self, inputs: Inputs) -> Array:
        return (inputs[0] * self.weights).reshape(len(inputs[0]), -1).sum(axis=1, keepdims=True)

    def vjp(self, inputs: Inputs, cotangent: Cotangent) -> tuple[Array, Inputs]:
        outputs = self.predict(inputs)
        upstream = cotangent(outputs).reshape(-1, *[1] * self.weights.ndim)
        return outputs, (upstream * self.weights * np.ones_like(inputs[0]),)


@pytest.mark.parametrize("kind", ["image", "table"])
@pytest.mark.parametrize(
    ("name", "profile", "baseline"),
    [
        ("captum.input_x_gradient", "canonical", 0.0),
        ("captum.integrated_gradients", "native", 0.25),
        ("captum.integrated_gradients", "canonical", 0.25),
        ("xplique.integrated_gradients", "canonical", 0.25),
    ],
)
def test_linear_model_identity(kind: str, name: str, profile: Any, baseline: float) -> None:
    rng = np.random.default_rng(0)
    modality = Modality.image() if kind == "image" else Modality.table(("a", "b", "c"))
    shape = (6, 5, 3) if kind == "image" else (3,)
    weights, x = rng.normal(size=shape).astype(np.float32), rng.random((2, *shape)).astype(np.float32)
    question = Question(Linear(modality, weights), (x,), Target.outputs(0, 2, 1))
    params = {} if name.endswith("x_gradient") else {"baseline": baseline}
    answer = get(name, profile=profile, **params)(question)
    expected = weights * (x - baseline)
    if kind == "image" and profile == "canonical":
        expected = expected.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(answer.values[0], expected, atol=2e-6)
    for gap in answer.extras.values():
        np.testing.assert_allclose(gap, 0, atol=2e-5)


def test_occlusion_of_a_linear_model_is_the_windows_sum() -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(8, 8, 3)).astype(np.float32)
    x = rng.random((2, 8, 8, 3)).astype(np.float32)
    question = Question(Linear(Modality.image(), weights), (x,), Target.outputs(0, 2, 1))
    blocks = (weights * x).sum(axis=-1).reshape(2, 2, 4, 2, 4).sum(axis=(2, 4))
    expected = np.repeat(np.repeat(blocks, 4, axis=1), 4, axis=2)
    for name in ("captum.occlusion", "xplique.occlusion"):
        found = get(name, profile="canonical", patch=4, stride=4)(question).values[0][..., 0]
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_held_modality_keeps_its_own_values() -> None:
    """Explaining the image of an image + table model must use each sample's own row of the table."""
    table = Modality.table(("age", "dose"))
    weights = np.random.default_rng(1).normal(size=(16, 16, 3)).astype(np.float32)

    def function(image: Array, row: Array) -> Array:
        return ((image * weights).sum(axis=(1, 2, 3)) * row[:, 0] + row[:, 1])[:, None]

    model = FunctionModel(function, (Modality.image(), table))
    rng = np.random.default_rng(2)
    image = rng.random((3, 16, 16, 3)).astype(np.float32)
    rows = np.array([[1, 0], [-2, 5], [3, 1]], np.float32)
    question = Question(model, (image, rows), Target.outputs(0, 3, 1))
    blocks = (image * weights).sum(axis=-1).reshape(3, 4, 4, 4, 4).sum(axis=(2, 4)) * rows[:, 0].reshape(-1, 1, 1)
    expected = np.repeat(np.repeat(blocks, 4, axis=1), 4, axis=2)
    for name in ("captum.occlusion", "xplique.occlusion"):
        answer = get(name, patch=4, stride=4)(question.only("image"))
        np.testing.assert_allclose(answer.of("image")[..., 0], expected, atol=1e-4)
    both = get("captum.occlusion", patch=4, stride=4)(question)
    np.testing.assert_allclose(both.of("image")[..., 0], expected, atol=1e-4)
    expected_rows = np.stack([(image * weights).sum(axis=(1, 2, 3)) * rows[:, 0], rows[:, 1]], axis=1)
    np.testing.assert_allclose(both.of("table"), expected_rows, atol=1e-4)
