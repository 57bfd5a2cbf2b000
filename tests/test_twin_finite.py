"""Methods that run on a twin: a score that is NaN or infinite is refused by the sample's name, beside maps that look ordinary."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch
from cheap import CHEAP
from torch import nn

from crossxai import Modality, Question, Target
from crossxai.adapters.tensorflow import KerasModel
from crossxai.adapters.torch import TorchModel
from crossxai.errors import BrokenAssumption
from crossxai.explainers import discover, get

MODULE = [name for name, kind in discover().items() if kind.needs == "module"]
MODALITIES = (Modality.image(), Modality.table(("dose",)))
NOT_FINITE = "ignore:(overflow|invalid value) encountered:RuntimeWarning"
REMINDER = "ignore:.*(hooks|required_grads).*:UserWarning"  # Captum's own, at every call


class Net(nn.Module):
    """An image's classes plus the squared dose, which is infinite in float32 for a dose of 1e30."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.relu, self.head = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(4, 2)
        self.dose = nn.Linear(1, 2)

    def forward(self, image: Any, table: Any) -> Any:
        dose = self.dose(table)
        return self.head(self.relu(self.conv(image)).mean((2, 3))) + dose * dose


def keras_net() -> Any:
    keras.utils.set_random_seed(0)
    image, table = keras.Input((12, 12, 3), name="image"), keras.Input((1,), name="table")
    h = keras.layers.ReLU()(keras.layers.Conv2D(4, 3)(image))
    h = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(h))
    dose = keras.layers.Dense(2)(table)
    return keras.Model([image, table], keras.layers.Add()([h, keras.layers.Multiply()([dose, dose])]))


def question(framework: str, **options: Any) -> Question:
    rng = np.random.default_rng(0)
    images, doses = rng.random((7, 12, 12, 3), np.float32), rng.random((7, 1), np.float32)
    images[5] = 0.5 + 0.1 * images[5]  # less vivid than the others: not one of the two that are looked at beforehand
    doses[5] = 1e30
    model: Any = TorchModel(Net().eval(), MODALITIES) if framework == "torch" else KerasModel(keras_net(), MODALITIES)
    return Question(model, (images, doses), Target.classes([0] * 7, 2), **options).only("image")


@pytest.mark.filterwarnings(NOT_FINITE, REMINDER)
@pytest.mark.parametrize("framework", ["torch", "keras"])
@pytest.mark.parametrize("name", MODULE)
def test_a_later_sample_without_a_score_is_named(name: str, framework: str) -> None:
    asked, explainer = question(framework), get(name, **CHEAP.get(name, {}))
    with pytest.raises(BrokenAssumption, match=r"NaN or infinite for sample 5, or"):
        explainer(asked)
    assert np.isfinite(explainer(asked[[0, 1, 6]]).of("image")).all()


@pytest.mark.filterwarnings(NOT_FINITE, REMINDER)
@pytest.mark.parametrize("name", ["captum.guided_backprop", "xplique.guided_backprop"])
def test_its_map_looks_like_any_other(name: str) -> None:
    """What is refused above, asked without checks."""
    assert np.isfinite(get(name)(question("torch", check="off")).of("image")).all()


@pytest.mark.filterwarnings(NOT_FINITE, REMINDER)
def test_a_baseline_without_a_score_is_refused_too() -> None:
    asked = question("torch")[[0, 1, 6]].only("image", "table")
    with pytest.raises(
        BrokenAssumption, match=r"NaN or infinite for samples 0, 1, 2 \('6'\), or for what an explainer makes"
    ):
        get("captum.deep_lift", baseline=1e30)(asked)
