"""A feed-forward network as data, between frameworks: channels last, weights in NumPy, every activation a node of its own.

`crossxai.porting` reads a graph from one framework and writes it in either. What follows is the whole vocabulary. Images
are (n, y, x, c), tables (n, c), tokens (n, t, c); axes count the sample axis. `padding` is ((top, bottom), (left, right)).

| op | settings | weights |
|---|---|---|
| input | shape (without the sample axis) | |
| standardise | | mean, sd: (x - mean) / sd, each () or (c,); sd may be negative |
| conv2d | strides, dilation (y, x), groups, padding (zeros) | kernel (y, x, in / groups, out), bias (out,) or absent |
| conv_transpose2d | strides, crop of the full (m - 1) * stride + k; negative: bias only | kernel (y, x, out, in), bias |
| dense | | kernel (in, out), bias or absent; on (n, c) and on (n, t, c) |
| batch_norm | eps | gamma, beta, mean, variance, each (c,) |
| relu, relu6, sigmoid, tanh, softplus, silu | | |
| leaky_relu | slope | |
| elu | alpha | |
| gelu | approximate (the tanh formula) | |
| softmax (last axis) | | |
| max_pool2d | size, strides, padding (minus infinity) | |
| avg_pool2d | size, strides | |
| global_avg_pool, global_max_pool (over y, x) | keepdims | |
| pad | padding (negative crops), value (0 or minus infinity) | |
| upsample2d | factors (y, x), method: nearest or bilinear (half-pixel centres, edges repeated) | |
| flatten | order: channels_first or channels_last, the layout in which an image is laid out in a row | |
| expand: (n, c) to (n, 1, 1, c) | | |
| add, multiply, subtract (broadcasting) | | |
| concatenate | axis | |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from crossxai.errors import InvalidInput, UnknownName, Unsupported
from crossxai.model import Array, Inputs, Model

ACTIVATIONS = frozenset(
    {"relu", "relu6", "leaky_relu", "elu", "sigmoid", "tanh", "softplus", "softmax", "gelu", "silu"},
)
OPS = ACTIVATIONS | {
    *("input", "standardise", "conv2d", "conv_transpose2d", "dense", "batch_norm", "pad", "flatten", "expand"),
    *("max_pool2d", "avg_pool2d", "global_avg_pool", "global_max_pool", "upsample2d"),
    *("add", "multiply", "subtract", "concatenate"),
}


@dataclass(frozen=True, eq=False)
class Node:
    """One operation: its inputs are names of other nodes, settings and weights are those of the module's table."""

    name: str
    op: str
    inputs: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.op not in OPS:
            raise UnknownName("op of a graph", self.op, OPS)


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in topological order.

    inputs: one input node per modality. layers: layer name of the original model, composite ones included -> the node
    whose output is that layer's. coarser: layers of the original that compute in less precision than their weights have, with
    what in; nodes compute in that of the weights. Raises `InvalidInput` if a node comes before what it reads.
    """

    inputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    output: str
    layers: Mapping[str, str] = field(default_factory=dict)
    coarser: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known: set[str] = set()
        for node in self.nodes:
            missing = [name for name in node.inputs if name not in known]
            if missing or node.name in known:
                raise InvalidInput(f"graph: node {node.name!r} comes twice or before its inputs {missing}")
            known.add(node.name)
        for name in (*self.inputs, self.output, *self.layers.values()):
            if name not in known:
                raise UnknownName("node of the graph", name, known)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the weights; float32 without any."""
        dtypes = {values.dtype for node in self.nodes for values in node.weights.values()}
        return np.result_type(*dtypes) if dtypes else np.dtype(np.float32)


@runtime_checkable
class Traceable(Model, Protocol):
    """A model that can be written down as a graph, and so be rebuilt layer by layer in either framework."""

    def graph(self, inputs: Inputs) -> Graph:
        """The network for inputs of these sizes, standardisation included; raises `Unsupported` naming what has no place."""
        ...


def foldable_norms(graph: Graph) -> dict[str, str]:
    """Batch norm -> the convolution it can be folded into: the one whose output it reads, and nothing else does."""
    nodes = {node.name: node for node in graph.nodes}
    readers = Counter([*(name for node in graph.nodes for name in node.inputs), graph.output])
    return {
        node.name: node.inputs[0]
        for node in graph.nodes
        if node.op == "batch_norm" and nodes[node.inputs[0]].op == "conv2d" and readers[node.inputs[0]] == 1
    }


def fold_batch_norms(graph: Graph) -> Graph:
    """The graph with those batch norms gone; layer names are not kept. Raises `Unsupported` if there are none."""
    folded = foldable_norms(graph)
    if not folded:
        raise Unsupported("no batch norm follows a convolution, so there is nothing to fold")
    nodes: dict[str, Node] = {}
    for node in graph.nodes:
        if node.name in folded:
            nodes[folded[node.name]] = _merged(nodes[folded[node.name]], node)
        else:
            nodes[node.name] = replace(node, inputs=tuple(folded.get(name, name) for name in node.inputs))
    return Graph(graph.inputs, tuple(nodes.values()), folded.get(graph.output, graph.output))


def _merged(conv: Node, norm: Node) -> Node:
    weights = {name: values.astype(np.float64) for name, values in norm.weights.items()}
    scale = weights["gamma"] / np.sqrt(weights["variance"] + norm.settings["eps"])
    bias = (conv.weights.get("bias", 0.0) - weights["mean"]) * scale + weights["beta"]
    kernel = conv.weights["kernel"]
    return replace(conv, weights={"kernel": (kernel * scale).astype(kernel.dtype), "bias": bias.astype(kernel.dtype)})
