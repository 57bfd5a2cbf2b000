"""The noise floor: what a library's maps differ by from themselves is measured, said, and called no difference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import crossxai as xai
from crossxai.adapters.tensorflow import KerasModel
from crossxai.adapters.torch import TorchModel
from crossxai.conventions.floor import Floor, floor
from crossxai.explainers import get

IMAGES = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
TARGET = xai.Target.classes([0, 1], 3)


@pytest.fixture(scope="module")
def squares() -> Any:
    """A network whose gradients are its inputs, times weights; `coarse` rounds these to multiples of 2⁻¹⁰ in float32."""
    import torch
    from torch import nn

    class Squares(nn.Module):
        coarse, threaded = False, False

        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(192, 3)

        def forward(self, x: Any) -> Any:
            x = (x + 2**13) - 2**13 if self.coarse else x
            x = x * (1 + 1e-3 * torch.get_num_threads()) if self.threaded else x
            return self.last((x**2).flatten(1))

    torch.manual_seed(0)
    return Squares().eval()


def floor_of(model: Any, name: str = "captum.saliency", **params: Any) -> Floor:
    question, explainer = xai.Question(model, (IMAGES,), TARGET), get(name, **params)
    return floor(explainer, question, explainer(question).values[0])


def test_threads_are_torch_s_and_come_back(squares: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    before = torch.get_num_threads()
    assert floor_of(TorchModel(squares, (xai.Modality.image(),))).threads == 0
    monkeypatch.setattr(squares, "threaded", True)
    assert floor_of(TorchModel(squares, (xai.Modality.image(),))).threads == pytest.approx(
        2e-3 * abs(before - (1 if before > 1 else 2)), rel=0.1
    )
    assert torch.get_num_threads() == before


def test_what_cannot_be_measured_is_not_a_number(squares: Any) -> None:
    import keras

    inputs = keras.Input((8, 8, 3))
    keras_model = KerasModel(
        keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(inputs))), (xai.Modality.image(),)
    )
    assert np.isnan(floor_of(keras_model).threads)
    assert floor_of(keras_model).precision < 1e-6
    torch_model = TorchModel(squares, (xai.Modality.image(),))
    assert np.isnan(floor_of(torch_model, "captum.smooth_grad").precision)  # float64 has other draws
    function = xai.wrap(lambda x: x.mean((1, 2)), modalities=(xai.Modality.image(),))
    measured = floor_of(function, "captum.occlusion", patch=4, stride=4)
    assert np.isnan(measured.precision)
    assert measured.tolerance == 1e-4


def test_a_floor_is_measured_as_far_as_a_gap_needs_it(squares: Any) -> None:
    own = floor_of(TorchModel(squares, (xai.Modality.image(),)))
    assert own.tolerance_for(1e-5) == 1e-4
    assert not own.measured
    assert own.tolerance_for(1e-2) == 1e-4
    assert set(own.measured) == {"rounding", "batch", "threads", "precision"}


def test_what_precision_alone_parts_is_no_difference_and_is_said(
    squares: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import torch

    monkeypatch.setattr(squares, "coarse", True)
    images = torch.from_numpy(IMAGES.transpose(0, 3, 1, 2).astype(np.float64)).requires_grad_()
    squares.double()(images)[[0, 1], [0, 1]].sum().backward()
    squares.float()
    assert images.grad is not None
    exact = images.grad.abs().numpy().transpose(0, 2, 3, 1)
    models = {"squares": TorchModel(squares, (xai.Modality.image(),))}
    result = xai.parity(models, IMAGES, "saliency", [0, 1], maps={"exact": (exact, "captum.saliency")}, out=tmp_path)
    assert not result.strangers
    (entry,) = (e for e in result.entries if e.outside)
    assert entry.floor is not None
    assert 1e-4 < entry.floor.precision < 1e-2
    (pair,) = (p for p in result.pairs if {p.one.explainer, p.other.explainer} == {"captum.saliency", "exact"})
    assert pair.rung == "equal to rounding"
    assert pair.agreement.distance.max() > 1e-4
    facts = json.loads((tmp_path / "parity.json").read_text())["methods"][0]
    assert {e["label"] for e in facts["imprecise"]} >= {"exact on squares"}
    page = (tmp_path / "parity.html").read_text()
    assert "The precision of the model decides what is smaller" in page
    assert "precision 0.00" in page
