"""A small network of volumes, in torch, and scans in which a bright cube lies."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import nn

from crossxai.adapters.torch import TorchModel
from crossxai.model import Array, Modality

VOLUME = Modality.volume("scan", ("density",))


class Net(nn.Module):
    """Convolutions, a batch norm, a max-pool and a head of three classes; float64, so that values compare to the last digits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm, self.relu1, self.pool = (
            nn.Conv3d(1, 4, 3, padding=1),
            nn.BatchNorm3d(4),
            nn.ReLU(),
            nn.MaxPool3d(2),
        )
        self.conv2, self.relu2 = nn.Conv3d(4, 6, 3, padding=1), nn.ReLU()
        self.mean, self.flatten, self.head = nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.relu1(self.norm(self.conv1(x))))
        return self.head(self.flatten(self.mean(self.relu2(self.conv2(x)))))


@cache
def values() -> Array:
    rng = np.random.default_rng(0)
    values = 0.3 * rng.random((2, 12, 16, 10, 1))
    values[0, 2:6, 3:8, 1:5] += 0.6
    values[1, 6:10, 9:14, 5:9] += 0.6
    return values


@cache
def net() -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = Net().double()
        nn.init.normal_(made.head.weight, 0, 3)
        for _ in range(20):
            made(tensor())
    return made.eval()


def tensor() -> torch.Tensor:
    """The scans, channels first, as torch takes them."""
    return torch.from_numpy(np.moveaxis(values(), -1, 1).copy())


@cache
def model() -> TorchModel:
    return TorchModel(net(), (VOLUME,))
