"""Whether a network is the same for other sizes of images, so that its port may leave them open."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from crossxai.errors import CrossXAIError
from crossxai.model import Inputs, Modality
from crossxai.porting.graph import ACTIVATIONS, BINARY, FUNCTIONS, Graph, Node, Traceable

STEP = 32
"""By how many pixels other images are larger. Most networks halve an image no more than five times, so that both have the
same paddings; other steps may not, in which case the original itself pads otherwise."""
ANYWHERE = ACTIVATIONS | FUNCTIONS | BINARY | {
    "input", "standardise", "affine", "scale", "dropout", "power", "batch_norm", "group_norm", "dense", "concatenate", "pad",
    "conv2d", "conv_transpose2d", "max_pool2d", "avg_pool2d", "upsample2d", "transpose",
}  # fmt: skip
"""Ops that both frameworks write without the sizes of an image. A rule of somebody's own is none of them."""
COLLAPSING = frozenset({"global_avg_pool", "global_max_pool"})
"""Ops after which nothing has a size."""
IN_TORCH = frozenset({"adaptive_avg_pool2d", "adaptive_max_pool2d"})
"""The same, which Keras has for images of one size only."""


def larger(inputs: Inputs, modalities: tuple[Modality, ...]) -> Inputs | None:
    """The inputs with their images grown by `STEP` pixels along either axis, repeated; None if they hold no images."""
    if not any(_image(m) for m in modalities):
        return None
    grown = ((0, 0), (0, STEP), (0, STEP), (0, 0))
    return tuple(np.pad(v, grown, "wrap") if _image(m) else v for v, m in zip(inputs, modalities, strict=True))


def is_open(model: Traceable, graph: Graph, inputs: Inputs, framework: Literal["torch", "keras"]) -> bool:
    """Whether the graph for larger images is this one, and the framework writes it without a size."""
    two = tuple(v[:2] for v in inputs)
    others = larger(two, model.modalities)
    if others is None or any(m.spatial and not _image(m) for m in model.modalities) or not _sizeless(graph, framework):
        return False
    try:
        other = model.graph(others, whole=True)
    except CrossXAIError:  # it takes images of one size only
        return False
    return len(other.nodes) == len(graph.nodes) and all(map(_same, graph.nodes, other.nodes))


def opened(graph: Graph) -> Graph:
    """The graph whose images have no size."""
    return replace(graph, nodes=tuple(_unsized(node) for node in graph.nodes))


def _image(modality: Modality) -> bool:
    return modality.spatial and len(modality.axes) == 3


def _unsized(node: Node) -> Node:
    if node.op != "input" or len(node.settings["shape"]) != 3:
        return node
    return replace(node, settings={"shape": (None, None, node.settings["shape"][-1])})


def _sizeless(graph: Graph, framework: str) -> bool:
    collapsing = COLLAPSING | IN_TORCH if framework == "torch" else COLLAPSING
    if framework == "torch" and any(node.op == "global_max_pool" for node in graph.nodes):
        return False  # written as max-pooling of that size, for which explainers have rules
    sized: set[str] = set()  # nodes whose values have the size of an image, or a part of it
    for node in graph.nodes:
        image = node.op == "input" and len(node.settings["shape"]) == 3
        if not image and not sized.intersection(node.inputs):
            continue
        if node.op in collapsing or _collapses(node):
            continue
        # In float64 it is written by matrices of that size.
        exact = node.op == "upsample2d" and node.settings["method"] == "bilinear"
        whole = node.op == "layer_norm" and node.settings["axes"] == 1
        if (node.op not in ANYWHERE and not whole) or exact:
            return False
        sized.add(node.name)
    return True


def _collapses(node: Node) -> bool:
    return node.op in ("mean", "sum", "max") and {1, 2} <= set(node.settings["axes"])


def _same(one: Node, other: Node) -> bool:
    if (one.name, one.op, one.inputs, one.shares) != (other.name, other.op, other.inputs, other.shares):
        return False
    return one.op == "input" or one.same_layer(other)
