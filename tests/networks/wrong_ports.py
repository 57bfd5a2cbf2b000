"""Random small networks of either framework, and the mistakes that ports make, planted in the graph that one is written from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import torch
from torch import Tensor, nn

from crossxai.porting.from_torch_windows import resized
from crossxai.porting.graph import Graph, Node

from .to_port import lively, lively_keras

SIZE = 8
"""Pixels a side of the networks' images."""
Rng = np.random.Generator


@dataclass(frozen=True)
class Plan:
    """What a network is made of. blocks: kernel sizes of residual blocks; corners: of the upsampling, torch's alone."""

    width: int
    kernel: int
    stride: int
    eps: float
    momentum: float
    acts: tuple[str, ...]
    blocks: tuple[int, ...]
    grouped: bool
    pool: str
    corners: bool
    joined: bool

    @classmethod
    def drawn(cls, rng: Rng) -> Plan:
        return cls(
            width=int(rng.choice([4, 6])),
            kernel=int(rng.choice([3, 5])),
            stride=int(rng.choice([1, 2])),
            eps=float(rng.choice([1e-5, 1e-4, 1e-3])),
            momentum=float(rng.choice([0.01, 0.1, 0.3])),
            acts=tuple(str(act) for act in rng.choice(["relu", "relu6", "leaky", "silu", "gelu"], 3)),
            blocks=tuple(int(k) for k in rng.choice([1, 3], rng.integers(1, 3))),
            grouped=bool(rng.integers(2)),
            pool=str(rng.choice(["max", "overlapping", "avg"])),
            corners=bool(rng.integers(2)),
            joined=bool(rng.integers(2)),
        )


ACTS: Mapping[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky": lambda: nn.LeakyReLU(0.2),
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}


class Residual(nn.Module):
    def __init__(self, width: int, kernel: int, plan: Plan) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, width, kernel, padding=kernel // 2) for _ in range(2))
        self.norm1 = nn.BatchNorm2d(width, plan.eps, plan.momentum)
        self.norm2 = nn.GroupNorm(2, width) if plan.grouped else nn.BatchNorm2d(width, plan.eps, plan.momentum)
        self.act1, self.act2 = nn.ReLU(), ACTS[plan.acts[1]]()

    def forward(self, x: Tensor) -> Tensor:
        return self.act2(x + self.norm2(self.conv2(self.act1(self.norm1(self.conv1(x))))))


class Network(nn.Module):
    """A stem, residual blocks, a pool and its way back up, a flattened image, two dense layers."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        width, side = plan.width, SIZE // plan.stride
        self.stem = nn.Conv2d(3, width, plan.kernel, plan.stride, plan.kernel // 2)
        self.norm, self.act = nn.BatchNorm2d(width, plan.eps, plan.momentum), ACTS[plan.acts[0]]()
        self.blocks = nn.Sequential(*(Residual(width, kernel, plan) for kernel in plan.blocks))
        self.pool = {"max": nn.MaxPool2d(2), "overlapping": nn.MaxPool2d(3, 2, 1), "avg": nn.AvgPool2d(2)}[plan.pool]
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=plan.corners)
        self.joined = plan.joined
        self.mix = nn.Conv2d(width * (1 + plan.joined), 3, 1)
        self.flatten, self.hidden = nn.Flatten(), nn.Linear(3 * side**2, 6)
        self.last_norm, self.last_act = nn.LayerNorm(6), ACTS[plan.acts[2]]()
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.act(self.norm(self.stem(x))))
        y = self.up(self.pool(x))
        y = self.mix(torch.cat([x, y], dim=1) if self.joined else y)
        return self.head(self.last_act(self.last_norm(self.hidden(self.flatten(y)))))


def torch_network(seed: int) -> nn.Module:
    net = lively(Network(Plan.drawn(np.random.default_rng(seed))), seed, torch.float32)
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.GroupNorm | nn.LayerNorm):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.3, generator=generator)
    return net


def keras_network(seed: int) -> Any:
    """The same in Keras, with its own padding, its own order of a flattened image."""
    plan = Plan.drawn(np.random.default_rng(seed))
    layers = keras.layers

    def act(kind: str, name: str) -> Any:
        known = {"relu": layers.ReLU, "relu6": lambda name: layers.ReLU(6.0, name=name)}
        known["leaky"] = lambda name: layers.LeakyReLU(0.2, name=name)
        return known[kind](name=name) if kind in known else layers.Activation(kind, name=name)

    def norm(name: str) -> Any:
        return layers.BatchNormalization(momentum=1 - plan.momentum, epsilon=plan.eps, name=name)

    def conv(kernel: int, stride: int, name: str, width: int = plan.width) -> Any:
        return layers.Conv2D(width, kernel, stride, "same", name=name)

    image = keras.Input((SIZE, SIZE, 3))
    x = act(plan.acts[0], "act")(norm("norm")(conv(plan.kernel, plan.stride, "stem")(image)))
    for i, kernel in enumerate(plan.blocks):
        y = layers.ReLU(name=f"block{i}_act1")(norm(f"block{i}_norm1")(conv(kernel, 1, f"block{i}_conv1")(x)))
        y = conv(kernel, 1, f"block{i}_conv2")(y)
        y = layers.GroupNormalization(2, name=f"block{i}_norm2")(y) if plan.grouped else norm(f"block{i}_norm2")(y)
        x = act(plan.acts[1], f"block{i}_act2")(layers.Add(name=f"block{i}_sum")([x, y]))
    if plan.pool == "avg":
        y = layers.AveragePooling2D(2, name="pool")(x)
    else:
        y = layers.MaxPooling2D(2 if plan.pool == "max" else 3, 2, "same", name="pool")(x)
    y = layers.UpSampling2D(2, interpolation="bilinear", name="up")(y)
    y = conv(1, 1, "mix", 3)(layers.Concatenate(name="join")([x, y]) if plan.joined else y)
    y = layers.Dense(6, name="hidden")(layers.Flatten(name="flatten")(y))
    y = act(plan.acts[2], "last_act")(layers.LayerNormalization(epsilon=1e-5, name="last_norm")(y))
    return lively_keras(keras.Model(image, layers.Dense(4, name="head")(y)), seed)


Planted = tuple[tuple[Node, ...], frozenset[str]]
"""The nodes with the mistake in them, and the nodes that a certificate may name."""
Peaks = Mapping[str, float]
"""The largest activation at a node."""


def _changed(graph: Graph, *nodes: Node) -> Planted:
    """Nodes in place of those of their names; the first of them in order of execution is where networks part."""
    by_name = {node.name: node for node in nodes}
    first = next(node.name for node in graph.nodes if node.name in by_name)
    return tuple(by_name.get(node.name, node) for node in graph.nodes), frozenset({first})


def _weighted(node: Node, **weights: Any) -> Node:
    given = {name: np.asarray(w, node.weights[name].dtype) for name, w in weights.items()}
    return replace(node, weights={**node.weights, **given})


def _set(node: Node, **settings: Any) -> Node:
    return replace(node, settings={**node.settings, **settings})


def epsilon(graph: Graph, peaks: Peaks, rng: Rng) -> Iterator[Planted]:
    for node in graph.nodes:
        if "eps" in node.settings:
            yield _changed(graph, _set(node, eps=1e-5 if node.settings["eps"] > 5e-4 else 1e-3))


def padding(graph: Graph, peaks: Peaks, rng: Rng) -> Iterator[Planted]:
    """As many pixels, on the other side: what "same" is in the other framework."""
    for node in graph.nodes:
        sides = node.settings.get("padding", ())
        if any(map(any, sides)):
            moved = tuple((a - 1, b + 1) if a else (a + 1, b - 1) if b else (a, b) for a, b in sides)
            yield _changed(graph, _set(node, padding=moved))


def transposed_kernel(graph: Graph, peaks: Peaks, rng: Rng) -> Iterator[Planted]:
    for node in graph.nodes:
        kernel = node.weights.get("kernel", np.zeros(()))
        if node.op == "conv2d" and kernel.shape[0] > 1:
            yield _changed(graph, _weighted(node, kernel=kernel.swapaxes(0, 1)))
        if kernel.ndim and kernel.shape[-1] == kernel.shape[-2]:
            yield _changed(graph, _weighted(node, kernel=kernel.swapaxes(-1, -2)))


def _shapes(node: Node) -> Any:
    return node.op, {name: w.shape for name, w in node.weights.items()}


def swapped_layers(graph: Graph, peaks: Peaks, rng: Rng) -> Iterator[Planted]:
    """The weights of two layers; a norm and the activation after it: where both give other values, either is right."""
    for i, node in enumerate(graph.nodes):
        for other in graph.nodes[i + 1 :]:
            if node.weights and _shapes(node) == _shapes(other):
                yield _changed(graph, replace(node, weights=other.weights), replace(other, weights=node.weights))
    for norm, act in zip(graph.nodes, graph.nodes[1:], strict=False):
        if norm.op == "batch_norm" and act.inputs == (norm.name,):
            names = {norm.name: act.name, act.name: norm.name}
            turned = [replace(act, inputs=norm.inputs), replace(norm, inputs=(act.name,))]
            nodes: list[Node] = []
            for node in graph.nodes:
                if node is norm:
                    nodes += turned
                elif node is not act:
                    nodes.append(replace(node, inputs=tuple(names.get(name, name) for name in node.inputs)))
            yield tuple(nodes), frozenset(names)


def momentum(graph: Graph, peaks: Peaks, rng: Rng) -> Iterator[Planted]:
    """torch's number given to Keras."""
    for node in graph.nodes:
        if "momentum" in node.settings:
            yield _changed(graph, _set(node, momentum=1 - node.settings["momentum"]))


def relu6(graph: Graph, peaks: Peaks, rng: Rng) -> Iterator[Planted]:
    """Where activations reach 6, at samples ten times as large at the latest: below it, both are one function."""
    for node in graph.nodes:
        if node.op == "relu" and peaks[node.name] > 6.1:
            yield _changed(graph, replace(node, op="relu6"))
        if node.op == "relu6" and peaks[node.name] == 6:
            yield _changed(graph, replace(node, op="relu"))


def align_corners(graph: Graph, peaks: Peaks, rng: Rng) -> Iterator[Planted]:
    for node in graph.nodes:
        if node.op == "upsample2d":
            side = SIZE // 2 // graph.nodes[1].settings["strides"][0]  # the stem's
            places = [resized(side, 2 * side, "linear", True)] * 2
            settings = {"size": (2 * side, 2 * side), "method": "linear", "places": places}
            yield _changed(graph, replace(node, op="resize", settings=settings))
        if node.op == "resize":
            yield _changed(graph, replace(node, op="upsample2d", settings={"factors": (2, 2), "method": "bilinear"}))


def flatten_order(graph: Graph, peaks: Peaks, rng: Rng) -> Iterator[Planted]:
    for node in graph.nodes:
        if node.op == "flatten":
            other = {"channels_first": "channels_last", "channels_last": "channels_first"}[node.settings["order"]]
            yield _changed(graph, _set(node, order=other))


def missing_bias(graph: Graph, peaks: Peaks, rng: Rng) -> Iterator[Planted]:
    for node in graph.nodes:
        if "bias" in node.weights:
            yield _changed(graph, replace(node, weights={k: w for k, w in node.weights.items() if k != "bias"}))


def eps_inside_the_root(graph: Graph, peaks: Peaks, rng: Rng) -> Iterator[Planted]:
    """sqrt(variance) + eps: the variance whose root with eps inside is that."""
    for node in graph.nodes:
        if node.op == "batch_norm":
            eps = node.settings["eps"]
            variance = (np.sqrt(node.weights["variance"].astype(np.float64)) + eps) ** 2 - eps
            yield _changed(graph, _weighted(node, variance=variance))


def head_order(graph: Graph, peaks: Peaks, rng: Rng) -> Iterator[Planted]:
    head = next(node for node in graph.nodes if node.name == graph.output)
    order = rng.permutation(4)
    while (order == np.arange(4)).all():
        order = rng.permutation(4)
    yield _changed(graph, _weighted(head, **{name: w[..., order] for name, w in head.weights.items()}))


def stale_weight(graph: Graph, peaks: Peaks, rng: Rng) -> Iterator[Planted]:
    """One array as it was a few steps before: a thousandth off."""
    for node in graph.nodes:
        for name, weights in node.weights.items():
            older = weights * (1 + 1e-3 * rng.normal(size=weights.shape))
            yield _changed(graph, _weighted(node, **{name: older}))


MISTAKES: Mapping[str, Callable[[Graph, Peaks, Rng], Iterator[Planted]]] = {
    f.__name__: f
    for f in (
        epsilon, padding, transposed_kernel, swapped_layers, momentum, relu6, align_corners, flatten_order, missing_bias,
        eps_inside_the_root, head_order, stale_weight,
    )
}  # fmt: skip


def planted(kind: str, graph: Graph, peaks: Peaks, rng: Rng) -> tuple[Graph, set[str]] | None:
    """The graph with one mistake of this kind, and the original's layers that a certificate may name; None where the network
    has no place for it."""
    places = list(MISTAKES[kind](graph, peaks, rng))
    if not places:
        return None
    nodes, names = places[rng.integers(len(places))]
    return replace(graph, nodes=nodes), {layer for layer, node in graph.layers.items() if node in names}
