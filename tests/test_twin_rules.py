"""Methods that need a rule for every operation refuse what has none by name, and hold what they claim on what has one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import to_port
from networks.operations import Called
from torch import Tensor, nn

from crossxai import Modality, Question, Target, Unsupported
from crossxai.adapters.tensorflow import KerasModel
from crossxai.adapters.torch import TorchModel
from crossxai.explainers import get

IMAGE = Modality.image(channels=tuple("abcd"), range=(-5, 5))
VALUES = np.random.default_rng(0).normal(size=(2, 8, 8, 4))
RULED = ("captum.deep_lift", "captum.deep_lift_shap", "captum.lrp", "gradcam.fullgrad")
pytestmark = pytest.mark.filterwarnings("ignore:.*(hooks|required_grads).*:UserWarning")


def question(model: Any) -> Question:
    return Question(model, (VALUES,), Target.outputs(0, len(VALUES), model.predict((VALUES,)).shape[-1]))


def torch_question(function: Callable[..., Tensor], *modules: nn.Module) -> Question:
    torch.manual_seed(0)
    return question(TorchModel(Called("image", function, *modules).double().eval(), (IMAGE,)))


def _attended(x: Tensor) -> Tensor:
    tokens = x.flatten(2).mT
    return (tokens @ tokens.mT).softmax(-1) @ tokens


@pytest.mark.parametrize(
    ("function", "modules", "op"),
    [
        (_attended, (), "einsum"),
        (
            lambda x, m: m(*[x.flatten(2).mT] * 3)[0],
            (nn.MultiheadAttention(4, 2, batch_first=True),),
            "multi_head_attention",
        ),
        (lambda x, m: m(x), (nn.GroupNorm(2, 4),), "group_norm"),
        (lambda x: F.normalize(x), (), "unit_norm"),
        (lambda x: x / (2 + x), (), "divide"),
        (lambda x: x.softmax(2), (), "softmax"),
        (lambda x: F.max_pool1d(x.flatten(2), 2), (), "max_pool1d"),
    ],
)
@pytest.mark.parametrize("name", RULED)
def test_what_has_no_rule_is_refused_by_name(name: str, function: Any, modules: Any, op: str) -> None:
    asked = torch_question(function, *modules)
    with pytest.raises(Unsupported, match=f"no rule for {op} "):
        get(name)(asked)


def test_attention_in_keras_is_refused_too() -> None:
    start = keras.Input((8, 8, 4), dtype="float64")
    x = keras.layers.LayerNormalization(dtype="float64")(keras.layers.Reshape((64, 4), dtype="float64")(start))
    x = keras.layers.MultiHeadAttention(2, 2, dtype="float64")(x, x)
    net = keras.Model(start, keras.layers.Dense(3, dtype="float64")(keras.layers.Flatten(dtype="float64")(x)))
    asked = question(KerasModel(to_port.lively_keras(net), (IMAGE,)))
    for name in RULED:
        with pytest.raises(Unsupported, match="no rule for layer_norm "):
            get(name)(asked)
    for name in ("captum.guided_backprop", "xplique.guided_backprop"):  # nothing to guide
        with pytest.raises(Unsupported, match="none"):
            get(name)(asked)


class Moved(nn.Module):
    """A channel shuffle, slices, a roll, uneven pools, a resize, reductions: all linear, between ReLUs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(4, 6, 3, padding=1), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        x = self.conv(x).relu().view(n, 2, 3, h, w).transpose(1, 2).reshape(n, 6, h, w)
        left, right = x[:, ::2], x.roll((1, -2), (2, 3))[:, 3:]
        left = F.avg_pool2d(left, 3, 2, 1, count_include_pad=False)
        right = F.adaptive_avg_pool2d(F.pad(right, (1, 2, 0, 1), "reflect"), (5, 3))
        right = F.interpolate(right, (4, 4), mode="bilinear", align_corners=True)
        x = torch.cat([left, right.permute(0, 1, 3, 2)], 1).relu()
        return self.head(x.flatten(2).mT).relu().sum(1)


def test_linear_operations_keep_what_deeplift_and_lrp_claim() -> None:
    """Completeness; and LRP's epsilon rule is input × gradient where activations are ReLUs."""
    torch.manual_seed(0)
    asked = question(TorchModel(Moved().double().eval(), (IMAGE,)))
    _, gradients = asked.score_and_grad()
    for profile in ("native", "canonical"):
        found = get("captum.deep_lift", profile=profile)(asked)
        np.testing.assert_allclose(found.extras["completeness_gap"], 0, atol=1e-9)
    product = VALUES * gradients[0]
    assert np.abs(product).max() > 1e-3
    np.testing.assert_allclose(
        get("captum.lrp", profile="native")(asked).values[0], product, atol=1e-6 * np.abs(product).max()
    )


@pytest.mark.parametrize("name", ["PReLU", "Hardsigmoid", "Hardswish", "Mish", "SELU", "Softsign"])
def test_activations_that_captum_has_no_rule_for_are_rescaled(name: str) -> None:
    asked = torch_question(lambda x, conv, act: act(conv(x)), nn.Conv2d(4, 3, 3), getattr(nn, name)())
    found = get("captum.deep_lift", baseline=0.3)(asked)
    np.testing.assert_allclose(found.extras["completeness_gap"], 0, atol=1e-9)
    _, (gradient,) = asked.score_and_grad()
    assert np.abs(found.values[0] - (VALUES - 0.3) * gradient).max() > 1e-3 * np.abs(found.values[0]).max()
