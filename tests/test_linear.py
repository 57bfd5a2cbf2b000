"""On a linear model every complete method has one answer, w · (x - baseline), whatever the library and the framework."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

import crossxai  # noqa: F401 - makes the import order of the frameworks safe
from crossxai import Modality, Question, Target
from crossxai.explainers import get
from crossxai.model import Array

SIZE = 4
MODALITIES = (Modality.image(), Modality.table(("age", "dose", "score")))
BASELINE = 0.25
SINGLE = {"segmentation": "scalars"}

CASES: list[tuple[str, dict[str, Any], float]] = [
    ("captum.input_x_gradient", {}, 0.0),
    ("captum.integrated_gradients", {"steps": 9, "baseline": BASELINE}, BASELINE),
    ("captum.integrated_gradients", {"steps": 9, "baseline": BASELINE, "profile": "canonical"}, BASELINE),
    ("captum.gradient_shap", {"baseline": BASELINE}, BASELINE),
    ("captum.feature_ablation", {**SINGLE, "baseline": BASELINE}, BASELINE),
    ("captum.shapley_value_sampling", {**SINGLE, "baseline": BASELINE, "samples": 2}, BASELINE),
    ("captum.kernel_shap", {**SINGLE, "baseline": BASELINE, "samples": 150, "profile": "canonical"}, BASELINE),
    ("captum.deep_lift", {"baseline": BASELINE}, BASELINE),
    ("captum.deep_lift", {"baseline": BASELINE, "profile": "canonical"}, BASELINE),
    ("captum.lrp", {}, 0.0),
    ("reference.gradient_x_input", {}, 0.0),
    ("reference.integrated_gradients", {"steps": 9, "baseline": BASELINE}, BASELINE),
    ("reference.kernel_shap", {**SINGLE, "baseline": BASELINE, "samples": 150}, BASELINE),
    ("xplique.integrated_gradients", {"steps": 9, "baseline": BASELINE, "profile": "canonical"}, BASELINE),
    ("xplique.gradient_input", {"profile": "canonical"}, 0.0),
]


@cache
def weights() -> tuple[Array, Array]:
    """Of the image (y, x, channel, output) and of the table (column, output)."""
    rng = np.random.default_rng(4)
    return rng.normal(size=(SIZE, SIZE, 3, 2)), rng.normal(size=(3, 2))


@cache
def model(framework: str) -> Any:
    """Two outputs, each a weighted sum of everything and a bias."""
    image, table = weights()
    bias = np.array([0.5, -1.0])
    if framework == "torch":
        import torch
        from torch import nn

        from crossxai.adapters.torch import TorchModel

        class Net(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.flat = nn.Flatten()
                self.head = nn.Linear(SIZE * SIZE * 3 + 3, 2)
                flat = np.concatenate([image.transpose(2, 0, 1, 3).reshape(-1, 2), table])
                with torch.no_grad():
                    self.head.weight.copy_(torch.tensor(flat.T))
                    self.head.bias.copy_(torch.tensor(bias))

            def forward(self, x: Any, row: Any) -> Any:
                return self.head(torch.cat([self.flat(x), row], 1))

        return TorchModel(Net().eval(), MODALITIES)
    import keras

    from crossxai.adapters.tensorflow import KerasModel

    starts = [keras.Input((SIZE, SIZE, 3), name="image"), keras.Input((3,), name="table")]
    joined = keras.layers.Concatenate()([keras.layers.Flatten()(starts[0]), starts[1]])
    net = keras.Model(starts, keras.layers.Dense(2, name="head")(joined))
    net.get_layer("head").set_weights([np.concatenate([image.reshape(-1, 2), table]), bias])
    return KerasModel(net, MODALITIES)


def question(framework: str) -> Question:
    rng = np.random.default_rng(5)
    inputs = rng.random((2, SIZE, SIZE, 3)).astype(np.float32), rng.normal(size=(2, 3)).astype(np.float32)
    return Question(model(framework), inputs, Target.classes([1, 0], 2))


def expected(asked: Question, baselines: tuple[Array | float, Array | float]) -> tuple[Array, Array]:
    image, table = (np.moveaxis(w[..., [1, 0]], -1, 0) for w in weights())
    x, row = asked.inputs
    return image * (x - baselines[0]), table * (row - baselines[1])


@pytest.mark.parametrize("framework", ["torch", "keras"])
@pytest.mark.parametrize(("name", "params", "baseline"), CASES)
def test_complete_methods_agree(framework: str, name: str, params: dict[str, Any], baseline: float) -> None:
    asked = question(framework)
    answer = get(name, **params)(asked)
    for found, right in zip(answer.values, expected(asked, (baseline, baseline)), strict=True):
        if found.ndim == 4 and found.shape[-1] == 1:
            right = right.sum(axis=-1, keepdims=True)
        np.testing.assert_allclose(found, right, atol=1e-5)
    bias = np.array([-1.0, 0.5]) if name == "captum.lrp" else 0.0  # a bias takes its share of the relevance
    gaps = [v for key, v in answer.extras.items() if key.startswith("completeness_gap") and "." not in key]
    for gap in gaps:
        np.testing.assert_allclose(gap, -bias, atol=2e-5)


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_several_baselines_count_by_their_mean(framework: str) -> None:
    asked = question(framework)
    answer = get("captum.deep_lift_shap", baselines=3, baseline=BASELINE)(asked)
    for found, right in zip(answer.values, expected(asked, (0.5, BASELINE)), strict=True):
        np.testing.assert_allclose(found, right, atol=1e-5)
    np.testing.assert_allclose(answer.extras["completeness_gap"], 0, atol=2e-5)


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_native_kernel_shap_is_near(framework: str) -> None:
    """Captum holds the ends with a weight of 1e6, in float32."""
    asked = question(framework)
    answer = get("captum.kernel_shap", **SINGLE, baseline=BASELINE, samples=150)(asked)
    for found, right in zip(answer.values, expected(asked, (BASELINE, BASELINE)), strict=True):
        np.testing.assert_allclose(found, right, atol=2e-3)
