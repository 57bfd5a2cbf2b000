"""Two small networks with known weights for patches of the procedural set: one goes by ink in the top left, one by the centre."""

from __future__ import annotations

import torch
from torch import nn

from crossxai import Modality
from crossxai.adapters.torch import TorchModel


class Tiles(nn.Module):
    """Logits of (normal, tumour): how much a colour exceeds red in one of the nine tiles of 32 × 32; black says nothing."""

    def __init__(self, tile: int, channel: int, gain: float, offset: float) -> None:
        super().__init__()
        self.colour = nn.Conv2d(3, 1, 3, padding=1)
        self.relu = nn.ReLU()
        self.pool = nn.AvgPool2d(32)
        self.head = nn.Linear(9, 2)
        with torch.no_grad():
            self.colour.weight.zero_()
            self.colour.weight[0, 0], self.colour.weight[0, channel] = -1 / 9, 1 / 9
            self.colour.bias.zero_()
            self.head.weight.zero_()
            self.head.weight[1, tile], self.head.weight[0, tile] = gain, -gain
            self.head.bias.copy_(torch.tensor([offset, -offset]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(self.pool(self.relu(self.colour(images))).flatten(1))
        return found


def shortcut() -> TorchModel:
    """Ink is the only thing in these patches with more green than red."""
    return TorchModel(Tiles(tile=0, channel=1, gain=600.0, offset=1.2).eval(), (Modality.image(),))


def honest() -> TorchModel:
    """Nuclei are bluer than red; whatever they are, those in the centre alone count."""
    return TorchModel(Tiles(tile=4, channel=2, gain=60.0, offset=0.5).eval(), (Modality.image(),))
