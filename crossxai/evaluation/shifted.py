"""Shifted: a model of inputs moved by a constant, which the model moves back, so that it computes the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from crossxai.model import Array, Inputs, Model
from crossxai.porting.graph import Graph, Node


class Shifted:
    """f'(x) = f(x - shift) on one modality, with all the verbs that f has (Kindermans et al. 2019, section 2).

    Gradients at the inputs, layers and attention are those of f, since a shift has derivative one.
    """

    VERBS = ("vjp", "activations", "layer_vjp", "read", "replace", "attention_vjp")
    SAME = ("streams", "output_axes")

    def __init__(self, inner: Model, modality: str, shift: float) -> None:
        self.inner, self.shift = inner, shift
        self.name = inner.name
        self.place = [m.name for m in inner.modalities].index(modality)
        moved = [
            replace(m, range=(m.range[0] + shift, m.range[1] + shift)) if m.name == modality and m.range else m
            for m in inner.modalities
        ]
        self.modalities = tuple(moved)
        # Set on the object, and only where the inner model has them: a protocol is recognised by its verbs.
        for verb in self.VERBS:
            if hasattr(inner, verb):
                setattr(self, verb, self._on_original(getattr(inner, verb)))
        for name in self.SAME:
            if hasattr(inner, name):
                setattr(self, name, getattr(inner, name))
        if hasattr(inner, "graph"):
            self.graph = self._written(inner.graph)

    def moved(self, inputs: Inputs) -> Inputs:
        """The inputs as this model takes them."""
        return self._by(inputs, self.shift)

    def predict(self, inputs: Inputs) -> Array:
        """Outputs of the inner model for the inputs moved back."""
        return self.inner.predict(self._by(inputs, -self.shift))

    def _by(self, inputs: Inputs, shift: float) -> Inputs:
        return tuple(v + v.dtype.type(shift) if i == self.place else v for i, v in enumerate(inputs))

    def _on_original(self, verb: Callable[..., Any]) -> Callable[..., Any]:
        def called(inputs: Inputs, *arguments: Any) -> Any:
            return verb(self._by(inputs, -self.shift), *arguments)

        return called

    def _written(self, verb: Callable[[Inputs], Graph]) -> Callable[[Inputs], Graph]:
        def graph(inputs: Inputs) -> Graph:
            """The inner graph with the shift taken off right behind the input."""
            inner = verb(self._by(inputs, -self.shift))
            source = inner.inputs[self.place]
            name = f"{source}_shifted"
            constants = {"mean": np.asarray(self.shift, inner.dtype), "sd": np.asarray(1, inner.dtype)}
            nodes: list[Node] = []
            for node in inner.nodes:
                nodes.append(replace(node, inputs=tuple(name if x == source else x for x in node.inputs)))
                if node.name == source:
                    nodes.append(Node(name, "standardise", (source,), {}, constants))
            output = name if inner.output == source else inner.output
            return Graph(inner.inputs, tuple(nodes), output, inner.layers)

        return graph
