"""What a torch network calls as it runs, as rows of `crossxai.check`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision import models, transforms

from crossxai import Modality, check
from crossxai.adapters.torch import TorchModel

UNIT, BYTES = Modality.image(), Modality.image(range=(0, 255))


class Net(nn.Module):
    def __init__(self, before: Callable[[Any], Any] = lambda x: x) -> None:
        super().__init__()
        self.before, self.conv, self.relu, self.head = before, nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(4, 2)

    def forward(self, x: Any) -> Any:
        return self.head(self.relu(self.conv(self.before(x))).mean((2, 3)))


class Block(nn.Module):
    """Activations as functions, and one that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act, self.inner, self.head = nn.Conv2d(3, 4, 3), nn.ReLU(), Inner(), nn.Linear(4, 2)

    def forward(self, x: Any) -> Any:
        h = self.act(self.inner(self.act(self.conv(x))))
        return self.head(torch.sigmoid(h).mean((2, 3)))


class Inner(nn.Module):
    def forward(self, x: Any) -> Any:
        return F.gelu(F.relu(x))


def rows(net: nn.Module, modality: Modality = UNIT, **options: Any) -> dict[str, str]:
    torch.manual_seed(0)
    high = 255 if modality is BYTES else 1
    x = (np.random.default_rng(0).random((2, 16, 16, 3)) * high).astype(np.float32)
    found = check(TorchModel(net.eval(), (modality,), **options), x)
    return {f.name: f.sentence() for f in found.facts if f.verdict == "note"}


def test_activations_that_are_functions_or_run_twice_are_named() -> None:
    found = rows(Block())
    assert "3 are functions" in found["functional activations"]
    assert "relu, gelu in inner" in found["functional activations"]
    assert "sigmoid in the module itself" in found["functional activations"]
    assert "act 2 times" in found["reused layers"]
    assert "functional activations" not in rows(Net())
    assert "reused layers" not in rows(Net())
    assert "layer1.0.relu 2 times" in rows(models.resnet18(num_classes=2))["reused layers"]


@pytest.mark.parametrize(
    ("before", "modality", "words"),
    [
        (lambda x: x / 255, UNIT, "expects 0 to 255"),
        (lambda x: x * (1 / 127.5) - 1, UNIT, "expects 0 to 255"),
        (lambda x: torch.div(x, torch.tensor(255.0)), UNIT, "expects 0 to 255"),
        (lambda x: x * 255, BYTES, "expects 0 to 1"),
        (transforms.Normalize([123.7, 116.3, 103.5], [58.4, 57.1, 57.4]), UNIT, "expects 0 to 255"),
        (transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), BYTES, "nearly white"),
    ],
)
def test_a_first_step_that_expects_another_range(before: Any, modality: Modality, words: str) -> None:
    assert words in rows(Net(before), modality)["first layer after image"]


@pytest.mark.parametrize(
    ("before", "modality"),
    [
        (lambda x: x / 255, BYTES),
        (lambda x: x * 2 - 1, UNIT),
        (transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), UNIT),
        (transforms.Normalize([123.7, 116.3, 103.5], [58.4, 57.1, 57.4]), BYTES),
    ],
)
def test_a_first_step_that_fits_says_nothing(before: Any, modality: Modality) -> None:
    assert "first layer after image" not in rows(Net(before), modality)


def test_standardised_twice() -> None:
    constants = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    found = rows(Net(transforms.Normalize(*constants)), standardise={"image": constants})
    assert "standardised twice" in found["first layer after image"]


def test_axes_that_are_moved_first_are_named() -> None:
    found = rows(Net(lambda x: x.permute(0, 1, 3, 2)))
    assert "permute(0, 1, 3, 2)" in found["layout of the inputs"]
    assert "layout of the inputs" not in rows(models.convnext_tiny(num_classes=2))


def test_nothing_is_left_behind() -> None:
    net = Block().eval()
    TorchModel(net, (UNIT,)).calls((np.zeros((1, 16, 16, 3), np.float32),))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
