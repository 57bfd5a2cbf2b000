"""A feed-forward network as data, between frameworks: channels last, weights in NumPy, every activation a node of its own.

`crossxai.porting` reads a graph from one framework and writes it in either. What follows is the whole vocabulary, which
`crossxai.porting.rule` adds to. Sequences are (n, x, c), images (n, y, x, c), volumes (n, z, y, x, c), tables (n, c); axes
count the sample axis, which is always the first. ?d is 1d, 2d or 3d, and sizes, strides and paddings have as many entries.
`padding` is ((before, after), ...), of images ((top, bottom), (left, right)). A `mask` is added to the scores of
attention, (t, s) or (heads, t, s).

| op | settings | weights |
|---|---|---|
| input | shape (without the sample axis) | |
| constant: the same for every sample of its input | trains (whether training changes it) | value (without the sample axis) |
| standardise | | mean, sd: (x - mean) / sd, each () or (c,); sd may be negative |
| affine: x * factor + term | factor, term: numbers | |
| scale: x * scale | trains | scale: () or (c,) |
| conv?d | strides, dilation, groups, padding (zeros) | kernel (*size, in / groups, out), bias (out,) or absent |
| conv_transpose?d | strides, crop of the full (m - 1) * stride + k; negative: bias only | kernel (*size, out, in), bias |
| dense (last axis) | | kernel (in, out), bias or absent |
| embedding (whole numbers to vectors) | | table (number, c) |
| multi_head_attention (query, key, value) | heads, dropout or absent | query, key, value, output (in, out); query_bias, …; mask |
| einsum (two inputs) | equation, the sample axis included | |
| batch_norm | eps, momentum (the new batch's share; 0.1 if absent) | mean, variance; gamma, beta or absent; each (c,) |
| layer_norm, rms_norm (last axes) | axes (how many), eps | gamma, beta (not of rms_norm), each of these axes, or absent |
| group_norm | groups, eps | gamma, beta, each (c,), or absent |
| unit_norm: divided by the Euclidean norm | axis | |
| relu, relu6, sigmoid, tanh, softplus, silu, hard_sigmoid, hard_silu, mish, selu, softsign | | |
| exp, log, sqrt, rsqrt, square, absolute, erf | | |
| leaky_relu | slope | |
| prelu | | alpha (without the sample axis, broadcasting) |
| elu | alpha | |
| gelu | approximate (the tanh formula) | |
| clip | low, high | |
| power | exponent | |
| softmax, log_softmax | axis, of softmax the last if absent | |
| max_pool?d | size, strides, padding (minus infinity) | |
| avg_pool?d | size, strides, padding (not counted in the means) | |
| adaptive_avg_pool?d, adaptive_max_pool?d | size (of the output) | |
| global_avg_pool, global_max_pool (over space) | keepdims | |
| mean, sum, max | axes, keepdims | |
| pad | padding of all axes but the first and the last (negative crops), or but the first; value | |
| upsample2d | factors (y, x), method: nearest or bilinear (half-pixel centres, edges repeated) | |
| resize (over space) | size, method (nearest, linear), places: one per axis, where each output pixel reads the input | |
| flatten | order: channels_first or channels_last, the layout in which an image is laid out in a row | |
| expand: (n, c) to (n, 1, 1, c) | | |
| reshape | shape of all axes but the first, which is what remains | |
| transpose | axes, 0 first | |
| slice | axis, start, stop, step | |
| take (entries along an axis) | axis, indices | |
| roll | axis, shift | |
| dropout (the identity, but in training) | rate, together: axes along which one draw stands for all | |
| tile | times, per axis but the first | |
| add, multiply, subtract, divide, maximum, minimum (broadcasting) | | |
| concatenate | axis | |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from crossxai.adapters.returned import leaves, path_of
from crossxai.errors import InvalidInput, UnknownName, Unsupported
from crossxai.model import Array, Inputs, Model

PLAIN_ACTIVATIONS = frozenset({
    "relu", "relu6", "sigmoid", "tanh", "softplus", "silu", "hard_sigmoid", "hard_silu", "mish", "selu", "softsign",
})  # fmt: skip
FUNCTIONS = frozenset({"exp", "log", "sqrt", "rsqrt", "square", "absolute", "erf"})
ACTIVATIONS = PLAIN_ACTIVATIONS | {"leaky_relu", "elu", "softmax", "log_softmax", "gelu", "prelu", "clip"}
BINARY = frozenset({"add", "multiply", "subtract", "divide", "maximum", "minimum"})
WINDOWS = ("conv", "conv_transpose", "max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool")
OPS = frozenset({
    *ACTIVATIONS, *FUNCTIONS, *BINARY, *(f"{kind}{n}d" for kind in WINDOWS for n in (1, 2, 3)),
    "input", "constant", "standardise", "affine", "scale", "dense", "embedding", "multi_head_attention", "einsum", "power",
    "batch_norm", "layer_norm", "rms_norm", "group_norm", "unit_norm", "global_avg_pool", "global_max_pool",
    "mean", "sum", "max", "pad", "upsample2d", "resize", "flatten", "expand", "reshape", "transpose", "slice", "take", "roll",
    "tile", "concatenate", "dropout",
})  # fmt: skip


ADDED: set[str] = set()
"""Ops that rules of others write, see `crossxai.porting.rule`."""
LINEAR = frozenset({
    *(f"{kind}{n}d" for kind in ("conv", "conv_transpose", "avg_pool", "adaptive_avg_pool") for n in (1, 2, 3)),
    "input", "standardise", "affine", "scale", "dense", "batch_norm", "global_avg_pool", "mean", "sum", "pad", "upsample2d",
    "resize", "flatten", "expand", "reshape", "transpose", "slice", "take", "roll", "tile", "add", "subtract", "concatenate",
})  # fmt: skip
"""Ops whose outputs are sums of their inputs, weighted by what no input changes, plus a constant."""


@dataclass(frozen=True, eq=False)
class Node:
    """One operation: its inputs are names of other nodes, settings and weights are those of the module's table. shares: the node
    whose weights these are, where one layer runs more than once."""

    name: str
    op: str
    inputs: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Array] = field(default_factory=dict)
    shares: str = ""

    def same_layer(self, other: Node) -> bool:
        """Whether both compute the same, whatever they read and are called."""
        if (self.op, self.settings, self.weights.keys()) != (other.op, other.settings, other.weights.keys()):
            return False
        return all(np.array_equal(values, other.weights[name]) for name, values in self.weights.items())

    def __post_init__(self) -> None:
        if self.op not in OPS | ADDED:
            raise UnknownName("op of a graph", self.op, OPS)


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in topological order.

    inputs: one input node per modality. output: the node that counts. returns: what the network returns, output included, as a
    nesting of dicts, lists and tuples of nodes; None where it is the output alone. layers: layer name of the original model,
    composite ones included -> the node whose output is that layer's. coarser: layers of the original that compute in less
    precision than their weights have, with what in; nodes compute in that of the weights. Raises `InvalidInput` if a node comes
    before what it reads.
    """

    inputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    output: str
    layers: Mapping[str, str] = field(default_factory=dict)
    coarser: Mapping[str, str] = field(default_factory=dict)
    returns: Any = None

    def __post_init__(self) -> None:
        known: set[str] = set()
        for node in self.nodes:
            missing = [name for name in node.inputs if name not in known]
            if missing or node.name in known:
                raise InvalidInput(f"graph: node {node.name!r} comes twice or before its inputs {missing}")
            known.add(node.name)
        for name in (*self.inputs, *self.ends, *self.layers.values()):
            if name not in known:
                raise UnknownName("node of the graph", name, known)

    @property
    def ends(self) -> tuple[str, ...]:
        """The nodes that the network returns, the one that counts first."""
        others = [] if self.returns is None else [name for _, name in leaves(self.returns) if name != self.output]
        return self.output, *others

    @property
    def path(self) -> str:
        """Where the node that counts is in what the network returns; "" where it returns nothing else."""
        return "" if self.returns is None else path_of(self.returns, self.output)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the weights; float32 without any."""
        dtypes = {values.dtype for node in self.nodes for values in node.weights.values()}
        return np.result_type(*dtypes) if dtypes else np.dtype(np.float32)


@runtime_checkable
class Traceable(Model, Protocol):
    """A model that can be written down as a graph, and so be rebuilt layer by layer in either framework."""

    def graph(self, inputs: Inputs, whole: bool = False) -> Graph:
        """The network for inputs of these sizes, standardisation included; raises `Unsupported` naming what has no place.

        whole: with every tensor that it returns, not with the one that counts alone.
        """
        ...


def without_weights(graph: Graph) -> Graph:
    """The graph with empty arrays, of their dtype, in place of the weights, which a built network has itself."""

    def emptied(node: Node) -> Node:
        return replace(node, weights={name: np.empty(0, values.dtype) for name, values in node.weights.items()})

    return replace(graph, nodes=tuple(map(emptied, graph.nodes)))


def without_dropout(graph: Graph) -> Graph:
    """The graph as it is in evaluation: layers that drop at random in training give what they read."""
    given: dict[str, str] = {}
    for node in graph.nodes:
        if node.op == "dropout":
            given[node.name] = given.get(node.inputs[0], node.inputs[0])
    if not given:
        return graph
    nodes = tuple(
        replace(node, inputs=tuple(given.get(name, name) for name in node.inputs))
        for node in graph.nodes
        if node.name not in given
    )
    layers = {layer: given.get(name, name) for layer, name in graph.layers.items()}
    return replace(graph, nodes=nodes, output=given.get(graph.output, graph.output), layers=layers)


def foldable_norms(graph: Graph) -> dict[str, str]:
    """Batch norm -> the convolution it can be folded into: the one whose output it reads, and nothing else does."""
    nodes = {node.name: node for node in graph.nodes}
    readers = Counter([*(name for node in graph.nodes for name in node.inputs), graph.output])
    return {
        node.name: node.inputs[0]
        for node in graph.nodes
        if node.op == "batch_norm" and nodes[node.inputs[0]].op in ("conv2d", "conv3d") and readers[node.inputs[0]] == 1
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
    scale = weights.get("gamma", 1.0) / np.sqrt(weights["variance"] + norm.settings["eps"])
    bias = (conv.weights.get("bias", 0.0) - weights["mean"]) * scale + weights.get("beta", 0.0)
    kernel = conv.weights["kernel"]
    return replace(conv, weights={"kernel": (kernel * scale).astype(kernel.dtype), "bias": bias.astype(kernel.dtype)})
