"""Batch norms folded into the convolutions before them: the same function of the inputs in fewer passes over memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from crossxai.errors import Unsupported
from crossxai.model import Array, Inputs, Model
from crossxai.porting.certificate import difference, probes
from crossxai.porting.graph import Graph, Node

TOLERANCE = {"float32": 3e-4, "float64": 1e-10}
"""Largest difference of an output, as a share of how far outputs vary, at which a folded network still counts as the same."""


def pairs(graph: Graph) -> dict[str, str]:
    """Batch norm -> the convolution it can be folded into: the one whose output it reads, and nothing else does."""
    nodes = {node.name: node for node in graph.nodes}
    readers = Counter([*(name for node in graph.nodes for name in node.inputs), graph.output])
    return {
        node.name: node.inputs[0]
        for node in graph.nodes
        if node.op == "batch_norm" and nodes[node.inputs[0]].op == "conv2d" and readers[node.inputs[0]] == 1
    }


def folded(graph: Graph) -> Graph:
    """The graph with those batch norms gone; layer names are not kept. Raises `Unsupported` if there are none."""
    found = pairs(graph)
    if not found:
        raise Unsupported("no batch norm follows a convolution, so there is nothing to fold")
    made: dict[str, Node] = {}
    for node in graph.nodes:
        if node.name in found:
            made[found[node.name]] = _merged(made[found[node.name]], node)
        else:
            made[node.name] = replace(node, inputs=tuple(found.get(name, name) for name in node.inputs))
    return Graph(graph.inputs, tuple(made.values()), found.get(graph.output, graph.output))


def verify(model: Model, faster: Model, inputs: Inputs) -> None:
    """Raise `Unsupported` unless the folded copy gives the model's outputs on these inputs, shuffled, and on noise."""
    given = probes(inputs, model.modalities)
    one, other = (np.concatenate([m.predict(values) for values in given]) for m in (model, faster))
    check(one, other, model.name)


def check(one: Array, other: Array, model: str) -> None:
    """Raise `Unsupported` unless the outputs of a folded network are those of the network itself to `TOLERANCE`."""
    limit = TOLERANCE["float64" if one.dtype == np.float64 else "float32"]
    if one.shape != other.shape:
        raise Unsupported(f"model {model!r} with its batch norms folded gives {other.shape}, not {one.shape}")
    gap = difference(one, other)
    if not gap <= limit:  # NaN included
        raise Unsupported(
            f"model {model!r} with its batch norms folded differs by {gap:.1e} of how far its outputs vary, more than {limit:.0e}"
        )


def _merged(conv: Node, norm: Node) -> Node:
    weights = {name: values.astype(np.float64) for name, values in norm.weights.items()}
    scale = weights["gamma"] / np.sqrt(weights["variance"] + norm.settings["eps"])
    bias = (conv.weights.get("bias", 0.0) - weights["mean"]) * scale + weights["beta"]
    kernel = conv.weights["kernel"]
    return replace(conv, weights={"kernel": (kernel * scale).astype(kernel.dtype), "bias": bias.astype(kernel.dtype)})
