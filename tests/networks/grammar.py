"""PyTorch networks drawn from a grammar, some with a planted fault."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIZE = 8
FAULTS = ("no_grad", "detach", "rounded", "numpy", "dropout", "coupled", "coupled_mean", "unused", "int8", "changed")
Layout = tuple[str, int]
""" ("nchw" | "nhwc" | "tokens", tokens before the grid)."""


@dataclass(frozen=True)
class Spec:
    """What a network is made of; `fault` "" is a healthy one."""

    seed: int
    body: str
    act: str
    norm: str
    pool: str
    residual: bool
    head: str
    inputs: str
    softmax: bool
    dtype: str
    fault: str = ""
    widths: tuple[int, int] = field(default=(6, 8))

    @property
    def healthy(self) -> Spec:
        return replace(self, fault="")


def draw(seed: int) -> Spec:
    """The network of a seed; two in three have a fault."""
    rng = np.random.default_rng([seed, 77])

    def one(*options: Any) -> Any:
        return options[int(rng.integers(len(options)))]

    spec = Spec(
        seed,
        body=one("conv", "conv", "nhwc", "tokens", "tokens_by_hand"),
        act=one("module", "inplace", "functional", "reused", "tanh", "gelu"),
        norm=one("batch", "layer", "group", "instance", "none"),
        pool=one("max", "avg", "none"),
        residual=one(True, False),
        head=one("mean", "view", "reshape", "pool"),
        inputs=one("one", "one", "table", "two"),
        softmax=one(True, False, False),
        dtype=one("float64", "float32"),
        fault=one(*FAULTS) if rng.random() < 2 / 3 else "",
    )
    return replace(spec, inputs=one("table", "two")) if spec.fault == "unused" and spec.inputs == "one" else spec


class Activation(nn.Module):
    """ReLU, tanh or GELU, as a module, in place, or as a function."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        if kind in ("module", "inplace", "reused"):
            self.relu = nn.ReLU(inplace=kind == "inplace")

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "functional":
            return F.relu(x)
        return torch.tanh(x) if self.kind == "tanh" else F.gelu(x) if self.kind == "gelu" else self.relu(x)


def norm(kind: str, width: int) -> nn.Module:
    if kind == "batch":
        made = nn.BatchNorm2d(width)
        made.running_mean.uniform_(-0.3, 0.3)
        made.running_var.uniform_(0.5, 1.5)
        return made
    groups = {"layer": 1, "group": 2}
    if kind in groups:
        return nn.GroupNorm(groups[kind], width)
    return nn.InstanceNorm2d(width, affine=True) if kind == "instance" else nn.Identity()


class Encoder(nn.Module):
    """An image (n, 3, y, x) → features (n, width), by convolutions, in channels-last order, or by tokens."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        a, b = spec.widths
        self.layouts: dict[str, Layout] = {}
        if spec.body in ("conv", "nhwc"):
            self.conv1, self.norm1 = nn.Conv2d(3, a, 3, padding=1), norm(spec.norm, a)
            self.conv2 = nn.Conv2d(a, b, 3, padding=1)
            self.act1 = Activation(spec.act)
            self.act2 = self.act1 if spec.act == "reused" else Activation(spec.act)
            self.pool = {"max": nn.MaxPool2d(2), "avg": nn.AvgPool2d(2), "none": nn.Identity()}[spec.pool]
            self.side = SIZE // (1 if spec.pool == "none" else 2)
            self.layouts |= dict.fromkeys(("conv1", "norm1", "conv2", "act1", "act2", "pool"), ("nchw", 0))
            if spec.residual:
                self.conv3 = nn.Conv2d(b, b, 3, padding=1)
                self.layouts["conv3"] = ("nchw", 0)
            if spec.body == "nhwc":
                self.last_norm, self.last_linear = nn.LayerNorm(b), nn.Linear(b, b)
                self.layouts |= {"last_norm": ("nhwc", 0), "last_linear": ("nhwc", 0)}
            self.pooled = nn.AdaptiveAvgPool2d(1)
            self.out = b if spec.head in ("mean", "pool") else b * self.side**2
        else:
            self.prefix = spec.seed % 3
            self.patch = nn.Conv2d(3, b, 2, 2)
            self.layouts["patch"] = ("nchw", 0)
            self.extra = nn.Parameter(torch.randn(1, self.prefix, b))
            self.before = nn.LayerNorm(b)
            self.layouts["before"] = ("tokens", self.prefix)
            if spec.body == "tokens":
                self.attention = nn.MultiheadAttention(b, 2, batch_first=True)
            else:
                self.qkv, self.proj = nn.Linear(b, 3 * b), nn.Linear(b, b)
                self.layouts |= {"qkv": ("tokens", self.prefix), "proj": ("tokens", self.prefix)}
            self.after = nn.LayerNorm(b)
            self.layouts["after"] = ("tokens", self.prefix)
            self.out = b
        coupled = spec.fault == "coupled"  # without weights, so that the others are the same in the healthy network
        self.lost = nn.BatchNorm1d(self.out, affine=False, track_running_stats=False) if coupled else None

    def forward(self, x: Tensor) -> Tensor:
        if self.spec.fault == "rounded":
            x = (x * 16).round() / 16
        if self.spec.fault == "no_grad":
            with torch.no_grad():
                return self.body(x)
        h = self.body(x)
        if self.spec.fault == "detach":
            h = h.detach()
        if self.spec.fault == "numpy":
            h = torch.from_numpy(np.tanh(h.detach().cpu().numpy()))
        if self.spec.fault == "dropout":
            h = F.dropout(h, 0.4)
        if self.spec.fault == "coupled_mean":
            h = h - 0.5 * h.mean(dim=0, keepdim=True)
        return h if self.lost is None else self.lost(h)

    def body(self, x: Tensor) -> Tensor:
        return self.convolved(x) if self.spec.body in ("conv", "nhwc") else self.attended(x)

    def convolved(self, x: Tensor) -> Tensor:
        h = self.act1(self.norm1(self.conv1(x)))
        h = self.pool(self.act2(self.conv2(h)))
        if self.spec.residual:
            h = h + torch.tanh(self.conv3(h))
        if self.spec.body == "nhwc":
            h = h.permute(0, 2, 3, 1)
            h = (h + self.last_linear(self.last_norm(h))).permute(0, 3, 1, 2)
        if self.spec.head == "mean":
            return h.mean(dim=(2, 3))
        if self.spec.head == "pool":
            return self.pooled(h).flatten(1)
        return h.view(-1, self.out) if self.spec.head == "view" else h.reshape(len(h), self.out)

    def attended(self, x: Tensor) -> Tensor:
        t = self.patch(x).flatten(2).transpose(1, 2)
        t = torch.cat([self.extra.expand(len(t), -1, -1), t], dim=1)
        h = self.before(t)
        if self.spec.body == "tokens":
            mixed = self.attention(h, h, h, need_weights=False)[0]
        else:
            n, count, width = h.shape
            q, k, v = self.qkv(h).reshape(n, count, 3, 2, width // 2).permute(2, 0, 3, 1, 4)
            weights = (q @ k.transpose(-2, -1) / (width // 2) ** 0.5).softmax(-1)
            mixed = self.proj((weights @ v).transpose(1, 2).reshape(n, count, width))
        t = self.after(t + mixed)
        return t[:, 0] if self.prefix else t.mean(dim=1)


class Drawn(nn.Module):
    """One or two images, or an image and a table → three classes."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        self.image = Encoder(spec)
        width = self.image.out
        if spec.inputs == "two":
            self.second = Encoder(replace(spec, fault=""))
            width += self.second.out
        elif spec.inputs == "table":
            self.second = nn.Sequential(nn.Linear(4, 5), nn.Tanh())
            width += 5
        self.hidden, self.head = nn.Linear(width, 8), nn.Linear(8, 3)
        self.temperature = 1.0

    def forward(self, image: Tensor, other: Tensor | None = None) -> Tensor:
        parts = [self.image(image)]
        if other is not None:
            second = self.second(other)
            parts.append(second * 0 if self.spec.fault == "unused" else second)
        y = self.head(torch.tanh(self.hidden(torch.cat(parts, dim=1)))) * self.temperature
        return y.softmax(dim=1) if self.spec.softmax else y


def network(spec: Spec) -> nn.Module:
    """The network of a spec, with the same weights as without its fault."""
    torch.manual_seed(spec.seed)
    net = Drawn(spec).eval()
    if spec.fault == "int8":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch: deprecated, and still what people have
            return torch.ao.quantization.quantize_dynamic(net, {nn.Linear}).eval()  # type: ignore[no-any-return]
    return net.to(getattr(torch, spec.dtype))


def change(net: nn.Module, seed: int) -> None:
    """What people do to a network after they have wrapped it."""
    dtype = next(net.parameters()).dtype
    torch.manual_seed(seed + 1)
    kind = seed % 3
    if kind == 0:
        net.temperature = 3.0
    elif kind == 1:
        net.head = nn.Sequential(nn.Linear(8, 3), nn.Tanh()).to(dtype).eval()
    else:
        with torch.no_grad():
            for parameter in net.hidden.parameters():
                parameter.mul_(-1.5)


def inputs(spec: Spec, n: int = 3) -> tuple[Any, ...]:
    """Images (n, 8, 8, 3) in [0, 1], and a second image or a table (n, 4)."""
    rng = np.random.default_rng([spec.seed, 5])
    dtype = np.dtype("float32" if spec.fault == "int8" else spec.dtype)
    image = rng.random((n, SIZE, SIZE, 3)).astype(dtype)
    if spec.inputs == "one":
        return (image,)
    other = rng.random((n, SIZE, SIZE, 3)) if spec.inputs == "two" else rng.normal(size=(n, 4))
    return image, other.astype(dtype)
