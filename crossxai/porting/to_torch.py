"""A graph as a torch module made of the layers that explainer libraries hook, each used once and none in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from crossxai.errors import UnknownName
from crossxai.porting.building import widened
from crossxai.porting.graph import Graph


class TorchGraph(nn.Module):
    """The network of a graph, in evaluation mode: one positional tensor per modality, images channels first.
    `submodules` maps a node's name to that of its own submodule, `crossxai_layers` a layer of the original to its
    submodule here, which an adapter shows as the layers of this network."""

    def __init__(self, graph: Graph, dtype: torch.dtype) -> None:
        super().__init__()
        self._inputs = graph.inputs
        self._output = graph.output
        self._steps: list[tuple[str, str, tuple[str, ...]]] = []
        self.submodules: dict[str, str] = {}
        shown: dict[str, Tensor] = {}  # two samples of nothing, which tell the sizes at every node
        named = set(graph.layers.values())
        for node in graph.nodes:
            if node.op == "input":
                shape = (2, *node.settings["shape"])
                zeros = torch.zeros(shape, dtype=dtype)
                shown[node.name] = zeros.movedim(-1, 1) if len(shape) == 4 else zeros
                if node.name not in named:  # a module that does nothing stops libraries that want a rule for each
                    continue
                module: nn.Module = nn.Identity()
            else:
                weights = {name: torch.from_numpy(np.array(values)) for name, values in node.weights.items()}
                module = _MAKERS[node.op](node.settings, weights, [shown[i] for i in node.inputs])
                module = module.to(dtype).eval().requires_grad_(False)
                with torch.no_grad():
                    shown[node.name] = module(*(shown[i] for i in node.inputs))
            attribute = node.name.replace(".", "_").replace("/", "_")
            while hasattr(self, attribute):
                attribute += "_"
            self.add_module(attribute, module)
            self.submodules[node.name] = attribute
            self._steps.append((node.name, attribute, node.inputs))
        self.crossxai_layers = {layer: self.submodules[node] for layer, node in graph.layers.items()}
        self.eval()

    def layer(self, name: str) -> nn.Module:
        """The submodule of a node; inputs have none, unless a layer of the original gave its input unchanged."""
        if name not in self.submodules:
            raise UnknownName("node of the graph", name, self.submodules)
        return self.get_submodule(self.submodules[name])

    def forward(self, *inputs: Tensor) -> Tensor:
        values = dict(zip(self._inputs, inputs, strict=True))
        for name, attribute, sources in self._steps:
            given = (values[name],) if name in self._inputs else tuple(values[i] for i in sources)
            values[name] = self._modules[attribute](*given)  # type: ignore[misc]
        return values[self._output]


def build(graph: Graph, dtype: str | None = None) -> TorchGraph:
    """The module of a graph, in the dtype of its weights unless told."""
    return TorchGraph(graph, getattr(torch, dtype or str(graph.dtype)))


class Standardise(nn.Module):
    """(x - mean) / sd, by buffers of the shape that x needs."""

    mean: Tensor
    sd: Tensor

    def __init__(self, mean: Tensor, sd: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("sd", sd)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.sd


class Add(nn.Module):
    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return left + right


class Subtract(nn.Module):
    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return left - right


class Multiply(nn.Module):
    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return left * right


class Concatenate(nn.Module):
    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, *tensors: Tensor) -> Tensor:
        return torch.cat(tensors, self.axis)


class FlattenChannelsLast(nn.Module):
    """An image in a row as channels-last frameworks lay it out, which is what the dense layer after it was trained on."""

    def forward(self, x: Tensor) -> Tensor:
        return x.movedim(1, -1).flatten(1)


def _pads(padding: Any) -> tuple[int, int, int, int]:
    (top, bottom), (left, right) = padding
    return left, right, top, bottom


def _conv(s: Mapping[str, Any], w: Mapping[str, Tensor], _x: list[Tensor]) -> nn.Module:
    kernel = w["kernel"].permute(3, 2, 0, 1).contiguous()
    out, per_group, high, wide = kernel.shape
    (top, bottom), (left, right) = s["padding"]
    even = top == bottom and left == right
    conv = nn.Conv2d(
        per_group * s["groups"],
        out,
        (high, wide),
        s["strides"],
        (top, left) if even else 0,
        s["dilation"],
        s["groups"],
        bias="bias" in w,
    )
    _give(conv, weight=kernel, bias=w.get("bias"))
    return conv if even else nn.Sequential(nn.ZeroPad2d(_pads(s["padding"])), conv)


def _conv_transpose(s: Mapping[str, Any], w: Mapping[str, Tensor], x: list[Tensor]) -> nn.Module:
    (top, bottom), (left, right) = crop = s["crop"]
    # torch cuts the same on both sides, but for an output_padding smaller than the stride; the rest is cut afterwards.
    more = (top - bottom, left - right)
    fits = all(0 <= m < stride for m, stride in zip(more, s["strides"], strict=True))
    padding, extra = ((top, left), more) if fits else ((0, 0), (0, 0))
    values, crop = (w["kernel"].numpy(), crop) if fits else widened(w["kernel"].numpy(), crop)
    kernel = torch.from_numpy(values).permute(3, 2, 0, 1).contiguous()
    inside, out, high, wide = kernel.shape
    module = nn.ConvTranspose2d(inside, out, (high, wide), s["strides"], padding, extra, bias="bias" in w)
    _give(module, weight=kernel, bias=w.get("bias"))
    return module if fits else nn.Sequential(module, nn.ZeroPad2d(_pads([[-a, -b] for a, b in crop])))


def _dense(s: Mapping[str, Any], w: Mapping[str, Tensor], _x: list[Tensor]) -> nn.Module:
    module = nn.Linear(w["kernel"].shape[0], w["kernel"].shape[1], bias="bias" in w)
    _give(module, weight=w["kernel"].T.contiguous(), bias=w.get("bias"))
    return module


def _batch_norm(s: Mapping[str, Any], w: Mapping[str, Tensor], x: list[Tensor]) -> nn.Module:
    module = (nn.BatchNorm2d if x[0].ndim == 4 else nn.BatchNorm1d)(len(w["mean"]), eps=s["eps"])
    _give(module, weight=w["gamma"], bias=w["beta"])
    module.running_mean, module.running_var = w["mean"], w["variance"]
    return module


def _give(module: nn.Module, **parameters: Tensor | None) -> None:
    for name, values in parameters.items():
        if values is not None:
            setattr(module, name, nn.Parameter(values, requires_grad=False))


def _standardise(_s: Mapping[str, Any], w: Mapping[str, Tensor], x: list[Tensor]) -> nn.Module:
    space = [1] * (x[0].ndim - 2) if x[0].ndim == 4 else []
    mean, sd = (v.reshape(-1, *space) if v.ndim else v for v in (w["mean"], w["sd"]))
    return Standardise(mean, sd)


def _max_pool(s: Mapping[str, Any], _w: Mapping[str, Tensor], x: list[Tensor]) -> nn.Module:
    """The pool's own padding wherever it can: libraries that replace pools would meet minus infinity otherwise."""
    (top, _), (left, _) = s["padding"]
    if top <= s["size"][0] // 2 and left <= s["size"][1] // 2:
        wanted = tuple(
            (n + a + b - k) // stride + 1
            for n, (a, b), k, stride in zip(x[0].shape[2:], s["padding"], s["size"], s["strides"], strict=True)
        )
        for ceil_mode in (False, True):
            pool = nn.MaxPool2d(s["size"], s["strides"], (top, left), ceil_mode=ceil_mode)
            if tuple(pool(x[0]).shape[2:]) == wanted:
                return pool
    return nn.Sequential(nn.ConstantPad2d(_pads(s["padding"]), -np.inf), nn.MaxPool2d(s["size"], s["strides"]))


def _global(pool: nn.Module, keepdims: bool) -> nn.Module:
    return pool if keepdims else nn.Sequential(pool, nn.Flatten())


def _pad(padding: Any, value: float) -> nn.Module:
    return nn.ZeroPad2d(_pads(padding)) if value == 0 else nn.ConstantPad2d(_pads(padding), value)


def _upsample(s: Mapping[str, Any], _w: Mapping[str, Tensor], _x: list[Tensor]) -> nn.Module:
    smooth = s["method"] == "bilinear"
    factors = tuple(float(f) for f in s["factors"])
    return nn.Upsample(
        scale_factor=factors, mode="bilinear" if smooth else "nearest", align_corners=False if smooth else None
    )


def _flatten(s: Mapping[str, Any], _w: Mapping[str, Tensor], x: list[Tensor]) -> nn.Module:
    row = s["order"] == "channels_first" or x[0].ndim < 4 or tuple(x[0].shape[2:]) == (1, 1)
    return nn.Flatten() if row else FlattenChannelsLast()


def _concatenate(s: Mapping[str, Any], _w: Mapping[str, Tensor], x: list[Tensor]) -> nn.Module:
    return Concatenate({1: 2, 2: 3, 3: 1}[s["axis"]] if x[0].ndim == 4 else s["axis"])


Maker = Callable[[Mapping[str, Any], Mapping[str, Tensor], list[Tensor]], nn.Module]
_MAKERS: dict[str, Maker] = {
    "conv2d": _conv,
    "conv_transpose2d": _conv_transpose,
    "dense": _dense,
    "batch_norm": _batch_norm,
    "standardise": _standardise,
    "relu": lambda s, w, x: nn.ReLU(),
    "relu6": lambda s, w, x: nn.ReLU6(),
    "leaky_relu": lambda s, w, x: nn.LeakyReLU(s["slope"]),
    "elu": lambda s, w, x: nn.ELU(s["alpha"]),
    "sigmoid": lambda s, w, x: nn.Sigmoid(),
    "tanh": lambda s, w, x: nn.Tanh(),
    "softplus": lambda s, w, x: nn.Softplus(threshold=30),  # above 20, torch's own, the identity is 2e-9 off
    "softmax": lambda s, w, x: nn.Softmax(1 if x[0].ndim == 4 else -1),
    "gelu": lambda s, w, x: nn.GELU("tanh" if s["approximate"] else "none"),
    "silu": lambda s, w, x: nn.SiLU(),
    "max_pool2d": _max_pool,
    "avg_pool2d": lambda s, w, x: nn.AvgPool2d(s["size"], s["strides"]),
    "global_avg_pool": lambda s, w, x: _global(nn.AdaptiveAvgPool2d(1), s["keepdims"]),
    # Not AdaptiveMaxPool2d, which no library has a rule for.
    "global_max_pool": lambda s, w, x: _global(nn.MaxPool2d(tuple(x[0].shape[2:])), s["keepdims"]),
    "pad": lambda s, w, x: _pad(s["padding"], s["value"]),
    "upsample2d": _upsample,
    "flatten": _flatten,
    "expand": lambda s, w, x: nn.Unflatten(1, (x[0].shape[1], 1, 1)),
    "add": lambda s, w, x: Add(),
    "subtract": lambda s, w, x: Subtract(),
    "multiply": lambda s, w, x: Multiply(),
    "concatenate": _concatenate,
}
