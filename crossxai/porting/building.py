"""What both readers share: nodes with names of their own, constants in arithmetic, and the graph made tidy at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from crossxai.adapters.checks import MeanSd, constants
from crossxai.adapters.returned import leaves
from crossxai.errors import Unsupported
from crossxai.model import Array, Modality
from crossxai.porting.graph import Graph, Node

Padding = tuple[tuple[int, int], ...]


def none(n: int) -> Padding:
    """No padding in n dimensions of space."""
    return ((0, 0),) * n


class Builder:
    """Collects the nodes of a graph, in order of execution. standardise: (mean, sd) per modality name, as the adapters
    take it. `start` holds what each modality enters the network as."""

    def __init__(
        self,
        modalities: tuple[Modality, ...],
        shapes: Sequence[tuple[int, ...]],
        standardise: Mapping[str, MeanSd] | None,
        dtype: str,
    ) -> None:
        self.nodes: dict[str, Node] = {}
        self.dtype = np.dtype(dtype)
        self.inputs = tuple(
            self.add(m.name, "input", (), shape=tuple(s)) for m, s in zip(modalities, shapes, strict=True)
        )
        self.start: list[str] = []
        for name, (mean, sd) in zip(self.inputs, constants(standardise, modalities), strict=True):
            plain = not mean.any() and (sd == 1).all()
            self.start.append(name if plain else self.standardise(f"{name}_standardised", name, mean, sd))

    def add(
        self, name: str, op: str, inputs: Sequence[str], weights: Mapping[str, Array] | None = None, **settings: Any
    ) -> str:
        """Add a node; returns its name, which gains a number if it is taken (a layer that runs twice)."""
        unique, runs = name, 1
        while unique in self.nodes:
            unique, runs = f"{name}_{runs}", runs + 1
        node = Node(unique, op, tuple(inputs), settings, dict(weights or {}))
        again = unique != name and bool(weights) and node.same_layer(self.nodes[name])
        self.nodes[unique] = replace(node, shares=name) if again else node
        return unique

    def standardise(self, name: str, source: str, mean: Any, sd: Any) -> str:
        """Add (x - mean) / sd."""
        mean, sd = (np.asarray(v, dtype=self.dtype) for v in (mean, sd))
        return self.add(name, "standardise", (source,), {"mean": mean, "sd": sd})

    def arithmetic(
        self, name: str, op: str, left: str | float | Array, right: str | float | Array, trains: bool = False
    ) -> str | None:
        """Add left op right, op being add, subtract, multiply or divide, one of them a node, the other one a number or an array,
        () or (c,). trains: training changes the array. Returns None if there is no such node, as for a division by
        an activation."""
        ahead = isinstance(left, str)
        source, value = (left, right) if ahead else (right, left)
        assert isinstance(source, str)
        assert not isinstance(value, str)
        if op == "divide" and not ahead:
            return None
        if not isinstance(value, np.ndarray):  # kept as it is written, whatever the dtype of the network
            factors = {"add": 1.0, "subtract": 1.0 if ahead else -1.0, "multiply": value}
            factor = 1 / value if op == "divide" and value else factors.get(op)
            if factor is None:
                return None
            term = {"add": value, "subtract": -value if ahead else value}.get(op, 0.0)
            return self.add(name, "affine", (source,), factor=float(factor), term=float(term))
        if op == "multiply":
            return self.add(name, "scale", (source,), {"scale": value}, trains=trains)
        if trains or (op == "divide" and not np.all(value)):
            return None
        if op == "divide":
            return self.standardise(name, source, np.zeros_like(value), value)
        if op == "subtract":  # c - x = (x - c) / -1
            return self.standardise(name, source, value, np.ones_like(value) if ahead else -np.ones_like(value))
        return self.standardise(name, source, -value, np.ones_like(value))

    def graph(self, output: str, layers: Mapping[str, str], returns: Any = None) -> Graph:
        """The graph, with paddings taken into the layers after them and without what never reaches an output."""
        nodes = {name: self._padded(node) for name, node in self.nodes.items()}
        needed, ahead = set(self.inputs), [output, *(name for _, name in leaves(returns) if name)]
        while ahead:
            name = ahead.pop()
            if name not in needed or name in self.inputs:
                needed.add(name)
                ahead += [i for i in nodes[name].inputs if i not in needed]
        needed_nodes = tuple(node for name, node in nodes.items() if name in needed)
        kept = {layer: node for layer, node in layers.items() if node in needed}
        return Graph(self.inputs, needed_nodes, output, kept, returns=returns)

    def _padded(self, node: Node) -> Node:
        """A convolution after zeros, or a maximum after minus infinity, pads by itself: the layer libraries know."""
        fitting = {"conv": 0.0, "max_pool": -np.inf}.get(node.op[:-2])
        before = self.nodes[node.inputs[0]] if node.inputs else None
        if fitting is None or before is None or before.op != "pad" or before.settings["value"] != fitting:
            return node
        if len(before.settings["padding"]) != len(node.settings["padding"]):  # it pads the channels, too
            return node
        outer, own = before.settings["padding"], node.settings["padding"]
        if min(p for side in outer for p in side) < 0:
            return node
        together = tuple((a + c, b + d) for (a, b), (c, d) in zip(outer, own, strict=True))
        return self._padded(replace(node, inputs=before.inputs, settings={**node.settings, "padding": together}))


@dataclass
class Operation:
    """One operation being translated: the name of its node, and the layer and kind that errors name."""

    builder: Builder
    name: str
    layer: str
    kind: str

    def fail(self, why: str) -> Unsupported:
        return untranslated(self.layer, self.kind, why)


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


def untranslated(layer: str, kind: str, why: str = "") -> Unsupported:
    """The error of a layer that no op of the graph stands for."""
    why = why or "add one by porting.rule (docs/porting.md), or write the layer with others"
    return Unsupported(f"layer {layer!r} ({kind}) has no translation: {why}")


def rest(share: float) -> float:
    """What is left of 1: Keras's momentum from torch's, and back, without the last bits that 1 - 0.9 leaves."""
    return round(1.0 - share, 12)


def same_padding(
    size: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int]
) -> Padding:
    """What TensorFlow's padding="same" adds to an image of this size: the odd one at the end of an axis."""
    sides = []
    for n, k, s, d in zip(size, kernel, strides, dilation, strict=True):
        total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        sides.append((total // 2, total - total // 2))
    return tuple(sides)


def causal(rows: int, columns: int) -> Array:
    """What is added to scores (rows, columns) so that no place looks at a later one."""
    return np.where(np.tri(rows, columns, dtype=bool), 0.0, -np.inf)


def widened(kernel: Array, crop: Padding) -> tuple[Array, Padding]:
    """A transposed convolution whose crop is nowhere negative: zeros at the kernel's end add what only the bias reaches."""
    wide = np.pad(kernel, [*((0, max(-after, 0)) for _, after in crop), (0, 0), (0, 0)])
    return wide, tuple((before, max(after, 0)) for before, after in crop)


def read_at(length: int, places: Sequence[float]) -> Array:
    """The matrix (places, length) that reads an axis of this length at these places, linearly between two entries."""
    place = np.asarray(places)
    below = np.minimum(place.astype(int), max(length - 2, 0))
    matrix, rows = np.zeros((len(place), length)), np.arange(len(place))
    matrix[rows, below] = 1 - (place - below)
    matrix[rows, np.minimum(below + 1, length - 1)] += place - below
    return matrix
