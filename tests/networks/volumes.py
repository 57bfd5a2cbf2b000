"""A U-Net in 2-D or 3-D as MONAI writes it (`monai.networks.nets.UNet` with residual units), which is not installed here."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

KINDS: dict[int, tuple[Any, Any, Any]] = {
    2: (nn.Conv2d, nn.ConvTranspose2d, nn.InstanceNorm2d),
    3: (nn.Conv3d, nn.ConvTranspose3d, nn.InstanceNorm3d),
}
"""Dimensions of space -> the layers."""


class Convolution(nn.Sequential):
    """A convolution, strided or transposed, then instance norm, dropout and PReLU, which MONAI calls its ADN."""

    def __init__(
        self, n: int, before: int, after: int, stride: int = 1, transposed: bool = False, bare: bool = False
    ) -> None:
        conv: nn.Module = KINDS[n][0](before, after, 3, stride, padding=1)
        if transposed:
            conv = KINDS[n][1](before, after, 3, stride, padding=1, output_padding=stride - 1)
        adn = nn.Sequential(OrderedDict(N=KINDS[n][2](after), D=nn.Dropout(0.0), A=nn.PReLU()))
        super().__init__(OrderedDict(conv=conv) if bare else OrderedDict(conv=conv, adn=adn))


class ResidualUnit(nn.Module):
    def __init__(self, n: int, before: int, after: int, stride: int = 1, units: int = 2, last: bool = False) -> None:
        super().__init__()
        self.conv = nn.Sequential()
        for unit in range(units):
            sizes = (after, after) if unit else (before, after, stride)
            self.conv.add_module(f"unit{unit:d}", Convolution(n, *sizes, bare=last and unit == units - 1))
        size = 3 if stride > 1 else 1
        plain = stride == 1 and before == after
        self.residual = nn.Identity() if plain else KINDS[n][0](before, after, size, stride, padding=size // 2)

    def forward(self, x: Tensor) -> Tensor:
        res = self.residual(x)
        return self.conv(x) + res


class SkipConnection(nn.Module):
    def __init__(self, submodule: nn.Module) -> None:
        super().__init__()
        self.submodule = submodule

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.submodule(x)], dim=1)


class UNet(nn.Module):
    """channels, strides: one more level for each. n: dimensions of space."""

    def __init__(self, before: int, after: int, channels: Sequence[int], strides: Sequence[int], n: int = 3) -> None:
        super().__init__()
        self.n = n
        self.model = self._level(before, after, tuple(channels), tuple(strides), top=True)

    def _level(
        self, before: int, after: int, channels: tuple[int, ...], strides: tuple[int, ...], top: bool
    ) -> nn.Module:
        wide, stride = channels[0], strides[0]
        if len(channels) > 2:
            inner, upper = self._level(wide, wide, channels[1:], strides[1:], top=False), 2 * wide
        else:
            inner, upper = ResidualUnit(self.n, wide, channels[1]), wide + channels[1]
        down = ResidualUnit(self.n, before, wide, stride)
        up = nn.Sequential(
            Convolution(self.n, upper, after, stride, transposed=True),
            ResidualUnit(self.n, after, after, units=1, last=top),
        )
        return nn.Sequential(down, SkipConnection(inner), up)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)
