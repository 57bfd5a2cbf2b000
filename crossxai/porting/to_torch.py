"""A graph as a torch module made of the layers that explainer libraries hook, each used once unless told, and none in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from crossxai.adapters.returned import mapped
from crossxai.errors import UnknownName
from crossxai.porting import layout, rules
from crossxai.porting.graph import Graph, Node, without_weights
from crossxai.porting.layout import Order
from crossxai.porting.to_torch_layers import IMAGES, MAKERS, PLAIN
from crossxai.porting.to_torch_windows import Value
from crossxai.porting.torch_layers import Permute


class TorchGraph(nn.Module):
    """The network of a graph, in evaluation mode: one positional tensor per modality, channels first (but tables).
    `submodules` maps a node's name to that of its own submodule, `crossxai_layers` a layer of the original to its
    submodule here, which an adapter shows as the layers of this network. `ends` are the steps that it returns, in the nesting
    `returns` if there are several."""

    def __init__(self, graph: Graph, dtype: torch.dtype, sharing: bool = False, sized: bool = False) -> None:
        super().__init__()
        self.graph, self.inputs = without_weights(graph), graph.inputs
        shapes = {node.name: node.settings["shape"] for node in graph.nodes if node.op == "input" and sized}
        self.sizes = {name: tuple(shape[:-1]) for name, shape in shapes.items() if len(shape) > 1}
        self.steps: list[tuple[str, str, tuple[str, ...]]] = []
        self.submodules: dict[str, str] = {}
        shown: dict[str, Value] = {}  # two samples of nothing, which tell the sizes at every node
        named = set(graph.layers.values())
        orders: dict[str, list[Order]] = {}  # where each module that may run again wants the axes of what it gets
        last = {name: place for place, node in enumerate(graph.nodes) for name in node.inputs}
        last |= dict.fromkeys(graph.ends, len(graph.nodes))
        for place, node in enumerate(graph.nodes):
            for name in [
                name for name in shown if last.get(name, 0) < place
            ]:  # read by nothing that follows: large networks
                shown[name] = replace(shown[name], example=torch.empty(0))
            if node.op == "input":
                zeros = torch.zeros((2, *node.settings["shape"]), dtype=dtype).movedim(-1, 1)
                shown[node.name] = Value(zeros, layout.channels_first(zeros.ndim))
                if node.name not in named:  # a module that does nothing stops libraries that want a rule for each
                    continue
                self._append(node.name, nn.Identity(), (node.name,))
                continue
            given = self._laid(node, [shown[i] for i in node.inputs])
            first = self.submodules.get(node.shares, "") if sharing else ""
            if first and [v.order for _, v in given] == orders[node.shares]:
                with torch.no_grad():
                    result = self.get_submodule(first)(*(value.example for _, value in given))
                shown[node.name] = Value(result, shown[node.shares].order)
                self.submodules[node.name] = first
                self.steps.append((node.name, first, tuple(name for name, _ in given)))
                continue
            orders[node.name] = [v.order for _, v in given]
            weights = {name: torch.from_numpy(values.copy()).to(dtype) for name, values in node.weights.items()}
            module, order = _made(node, weights, [value for _, value in given])
            module = module.to(dtype).eval().requires_grad_(False)
            with torch.no_grad():
                result = module(*(value.example for _, value in given))
            shown[node.name] = Value(result, order)
            self._append(node.name, module, tuple(name for name, _ in given))
        named_ends = {node: self._end(node, shown[node], node == graph.output) for node in graph.ends}
        self.ends = tuple(named_ends.values())
        self.returns = None if graph.returns is None else mapped(graph.returns, named_ends.__getitem__)
        self.crossxai_layers = {layer: self.submodules[node] for layer, node in graph.layers.items()}
        self.eval()

    def _end(self, node: str, value: Value, counts: bool) -> str:
        """The step that gives what a node gives with channels first; tokens, unless they count, stay tokens."""
        rank = value.example.ndim
        wanted = layout.channels_first(rank)
        if value.order == wanted or (rank == 3 and not counts and value.order == layout.plain(rank)):
            return node
        self._append(f"{node} with channels first", _turned(value, wanted), (node,))
        return f"{node} with channels first"

    def _append(self, name: str, module: nn.Module, sources: tuple[str, ...]) -> None:
        attribute = "".join(c if c.isalnum() or c in "-_" else "_" for c in name)
        while hasattr(self, attribute):
            attribute += "_"
        self.add_module(attribute, module)
        self.submodules[name] = attribute
        self.steps.append((name, attribute, sources))

    def _laid(self, node: Node, given: Sequence[Value]) -> list[tuple[str, Value]]:
        """The inputs of a node with their axes where its module wants them, each with the name of its step."""
        orders = _wanted(node, given)
        laid = []
        for i, (name, value, order) in enumerate(zip(node.inputs, given, orders, strict=True)):
            if value.order != order:
                turned = _turned(value, order)
                name = f"{node.name}.permute{i or ''}"
                value = Value(turned(value.example), order)
                self._append(name, turned, (node.inputs[i],))
            laid.append((name, value))
        return laid

    def layer(self, name: str) -> nn.Module:
        """The submodule of a node; inputs have none, unless a layer of the original gave its input unchanged."""
        if name not in self.submodules:
            raise UnknownName("node of the graph", name, self.submodules)
        return self.get_submodule(self.submodules[name])

    def forward(self, *inputs: Tensor, **named: Tensor) -> Any:
        values = {**dict(zip(self.inputs, inputs, strict=not named)), **named}
        for name, size in self.sizes.items():
            if tuple(values[name].shape[2:]) != size:
                raise ValueError(f"this network takes inputs of {size}, got {tuple(values[name].shape[2:])}")
        for name, attribute, sources in self.steps:
            values[name] = self._modules[attribute](*(values[i] for i in sources))  # type: ignore[misc]
        return values[self.ends[0]] if self.returns is None else mapped(self.returns, values.__getitem__)


def build(graph: Graph, dtype: str | None = None, sharing: bool = False, sized: bool = False) -> TorchGraph:
    """The module of a graph, in the dtype of its weights unless told. sharing: what runs more than once is one module. sized: it
    refuses inputs of other sizes than the graph's."""
    return TorchGraph(graph, getattr(torch, dtype or str(graph.dtype)), sharing, sized)


def _made(node: Node, weights: dict[str, Tensor], given: list[Value]) -> tuple[nn.Module, Order]:
    """The module of a node and where its result has its axes."""
    own = rules.writer("torch", node.op)
    made: Any = MAKERS[node.op](node.settings, weights, given) if own is None else own(node)
    return made if isinstance(made, tuple) else (made, given[0].order)


def _turned(value: Value, order: Order) -> nn.Module:
    """What moves the axes of torch's tensor so that the node's axes are these of its axes."""
    return Permute(*(value.order[order.index(axis)] for axis in range(len(order))))


def _wanted(node: Node, given: Sequence[Value]) -> list[Order]:
    """Where a module wants the axes of what it gets; in most cases they may stay, if they lie alike."""
    if node.op in IMAGES:
        return [layout.channels_first(value.example.ndim) for value in given]
    if node.op in PLAIN:
        return [layout.plain(value.example.ndim) for value in given]
    if node.op == "flatten":  # the layout says in which order
        (value,) = given
        first, last = layout.channels_first(value.example.ndim), layout.plain(value.example.ndim)
        return [first if node.settings["order"] == "channels_first" or value.order == first else last]
    largest = max(given, key=lambda value: value.example.numel())
    return [
        largest.order if len(largest.order) == len(value.order) and node.op != "einsum" else value.order
        for value in given
    ]
