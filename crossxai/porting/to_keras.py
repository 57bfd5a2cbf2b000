"""A graph as a flat functional Keras model of ordinary layers, which `clone_model` copies and Xplique's ReLU override
finds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras

from crossxai.adapters.returned import mapped
from crossxai.porting import rules
from crossxai.porting.graph import Graph, Node
from crossxai.porting.to_keras_layers import MAKERS, Step

HARMLESS = frozenset({
    "__init__", "__new__", "__repr__", "__str__", "__reduce__", "build", "quantize", "get_config", "from_config",
    "get_build_config", "build_from_config", "compute_output_shape", "compute_output_spec", "save_own_variables",
    "load_own_variables", "count_params", "summary", "get_weights", "set_weights",
})  # fmt: skip


def build(graph: Graph, dtype: str | None = None, sharing: bool = False) -> tuple[Any, dict[str, str]]:
    """(the keras.Model, node name -> layer name), in the dtype of the weights unless told.

    Takes one channels-last tensor per modality, a list if several, and gives what the graph returns. A node that needs two
    layers gives its name to the last. sharing: what runs more than once is one layer, else each run is a layer of its own, as
    hooks need it. The model's `crossxai_layers` (layer of the original → its own) are what `KerasModel` then shows as its layers.
    """
    dtype = dtype or graph.dtype.name
    tensors: dict[str, Any] = {}
    names: dict[str, str] = {}
    made: dict[str, list[Run]] = {}
    for node in graph.nodes:
        first = node.shares if sharing else ""
        name = names[first] if first in made else _name(node.name, set(names.values()))
        names[node.name] = name
        if node.op == "input":
            tensors[node.name] = keras.Input(node.settings["shape"], dtype=dtype, name=name)
            continue
        given = [tensors[i] for i in node.inputs]
        again = [(run, None) for run in made.get(first, ())]
        value, made[node.name] = given[0] if len(given) == 1 else given, []
        for run, weights in again or _layers(node, name, given, dtype):
            value = _called(run, value)
            if weights is not None:
                run[0].set_weights(weights)
            made[node.name].append(run)
        tensors[node.name] = value
    inputs = [tensors[name] for name in graph.inputs]
    outputs = graph.output if graph.returns is None else graph.returns
    model = keras.Model(inputs[0] if len(inputs) == 1 else inputs, mapped(outputs, tensors.__getitem__))
    model.crossxai_layers = {layer: names[node] for layer, node in graph.layers.items()}
    return model, names


Run = tuple[Any, tuple[int, ...], Mapping[str, Any]]
"""A layer, which of the node's inputs it is called with one by one (all of them in a list if empty), and what else."""


def _layers(node: Node, name: str, given: list[Any], dtype: str) -> Iterator[tuple[Run, Sequence[Any] | None]]:
    """The layers of a node, each with its weights; the last of them has its name."""
    own = rules.writer("keras", node.op)
    if own is not None:
        made = own(node, dtype=dtype, name=name)
        layer, weights = made if isinstance(made, tuple) else (made, None)
        yield (layer, (), {}), weights
        return
    steps: list[Step] = MAKERS[node.op](node, node.settings, node.weights, given)
    for i, step in enumerate(steps):
        last = i == len(steps) - 1
        layer = step.make(dtype=dtype, name=name if last else f"{name}_before{i or ''}")
        yield (layer, step.arguments, step.named), list(step.weights) or None


def _called(run: Run, value: Any) -> Any:
    layer, arguments, named = run
    return layer(*(value[i] for i in arguments), **named) if arguments else layer(value)


def _name(node: str, taken: set[str]) -> str:
    name = re.sub(r"[^A-Za-z0-9_-]", "_", node)  # TensorFlow's scopes know no other letters
    while name in taken:
        name += "_"
    return name
