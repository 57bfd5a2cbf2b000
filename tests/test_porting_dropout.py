"""What drops at random in training is kept by a port, with its rate and what it drops together; explainers' copies have none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn
from torchvision.ops import StochasticDepth

import crossxai as xai
from crossxai.porting import twin

IMAGES = np.random.default_rng(0).random((4, 8, 8, 3))


class DropPath(nn.Module):
    """As timm and transformers have it."""

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x
        return x * torch.bernoulli(x.new_full((len(x), 1, 1, 1), 1 - self.drop_prob)) / (1 - self.drop_prob)


class Dropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.channels = nn.Conv2d(3, 6, 3, padding=1), nn.Dropout2d(0.2)
        self.conv2, self.depth, self.path = nn.Conv2d(6, 6, 3, padding=1), StochasticDepth(0.3, "row"), DropPath(0.4)
        self.relu, self.hidden = nn.ReLU(inplace=True), nn.Linear(384, 8)
        self.numbers, self.head = nn.Dropout(0.5), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.channels(self.conv1(x)))
        x = x + self.depth(self.conv2(x))
        x = x + self.path(torch.tanh(x))
        x = nn.functional.dropout(self.hidden(x.flatten(1)), 0.1, self.training)
        return self.head(self.numbers(self.relu(x)))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return Dropping().double().eval()


@pytest.fixture(scope="module")
def ported(network: nn.Module) -> Any:
    return xai.port(network, "keras", IMAGES)


def dropouts(module: Any) -> list[tuple[float, Any]]:
    return [(layer.rate, layer.noise_shape) for layer in module.layers if isinstance(layer, keras.layers.Dropout)]


KEPT = [(0.2, (None, 1, 1, None)), (0.3, (None, 1, 1, 1)), (0.4, (None, 1, 1, 1)), (0.1, None), (0.5, None)]


def test_rates_are_kept_both_ways(ported: Any) -> None:
    assert ported.certificate.holds
    assert dropouts(ported.module) == KEPT
    back = xai.port(ported.module, "torch", IMAGES)
    assert isinstance(back.module.channels, nn.Dropout2d)
    assert dropouts(xai.port(back.module, "keras", IMAGES).module) == KEPT


def test_a_port_drops_in_training_as_the_original_does(network: nn.Module, ported: Any) -> None:
    """Mean and spread of the outputs for one image, over many draws."""
    one = np.repeat(IMAGES[:1], 4000, axis=0)
    torch.manual_seed(0)
    keras.utils.set_random_seed(0)
    with torch.no_grad():
        network.train()
        ours = network(torch.from_numpy(one).permute(0, 3, 1, 2)).numpy()
        network.eval()
    theirs = np.asarray(ported.module(one, training=True))
    error = ours.std(0) / len(one) ** 0.5
    assert np.all(abs(ours.mean(0) - theirs.mean(0)) < 5 * error)
    np.testing.assert_allclose(theirs.std(0), ours.std(0), rtol=0.1)


def test_attention_drops(tmp_path: Path) -> None:
    """The rate reaches the file, whether or not torch's own layer knows heads of such a width."""
    for wide in (2, 3):
        x = keras.Input((6, 4), dtype="float64")
        y = keras.layers.MultiHeadAttention(2, wide, dropout=0.25, dtype="float64")(x, x)
        model = keras.Model(x, keras.layers.Flatten(dtype="float64")(y))
        tokens = xai.Modality("tokens", ("token", "feature"), tuple("abcd"))
        back = xai.port(
            xai.wrap(model, modalities=(tokens,)), "torch", IMAGES[:, :6, 0, :1].repeat(4, -1), out=tmp_path
        )
        assert "dropout=0.25" in (tmp_path / "network.py").read_text(encoding="utf-8")
        again = xai.port(xai.wrap(back.module, modalities=(tokens,)), "keras", IMAGES[:, :6, 0, :1].repeat(4, -1))
        found = [layer for layer in again.module.layers if isinstance(layer, keras.layers.MultiHeadAttention)]
        assert [layer.get_config()["dropout"] for layer in found] == ([0.25] if wide == 2 else [])


def test_a_copy_for_explainers_has_no_layer_that_does_nothing(network: nn.Module) -> None:
    wrapped = xai.wrap(network, modalities=(xai.Modality.image(),))
    rebuilt = twin(wrapped, (IMAGES,), "keras")
    assert dropouts(rebuilt.module) == []
    assert rebuilt.layers["channels"] == rebuilt.layers["conv1"]
