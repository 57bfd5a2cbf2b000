"""Counting: a model that counts the samples passing through it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crossxai.model import Array, Inputs, Model


class Counting:
    """A model with all the verbs of another, and how many samples went through it forwards and backwards.

    Reading layers (`activations`) and writing down the graph (`graph`) explain nothing and count for nothing; nor does the
    pass that certifies a twin, which is the first `predict` after `graph`.
    """

    BOTH = ("vjp", "layer_vjp", "attention_vjp")
    FORWARD = ("read", "replace")
    FREE = ("activations", "streams", "output_axes")

    def __init__(self, inner: Model) -> None:
        self.inner = inner
        self.name, self.modalities = inner.name, inner.modalities
        self.forward = self.backward = 0
        self._certifying = False
        # Set on the object, and only where the inner model has them: a protocol is recognised by its verbs.
        for verb in self.BOTH:
            if hasattr(inner, verb):
                setattr(self, verb, self._both(getattr(inner, verb)))
        for name in self.FREE:
            if hasattr(inner, name):
                setattr(self, name, getattr(inner, name))
        if hasattr(inner, "graph"):
            self.graph = self._written(inner.graph)
        for verb in self.FORWARD:
            if hasattr(inner, verb):
                setattr(self, verb, self._once(getattr(inner, verb)))

    def predict(self, inputs: Inputs) -> Array:
        """Outputs of the inner model; one forward pass per sample."""
        self.forward += 0 if self._certifying else len(inputs[0])
        self._certifying = False
        return self.inner.predict(inputs)

    def _written(self, verb: Callable[..., Any]) -> Callable[..., Any]:
        def graph(inputs: Inputs) -> Any:
            self._certifying = True
            return verb(inputs)

        return graph

    def _once(self, verb: Callable[..., Any]) -> Callable[..., Any]:
        def counted(inputs: Inputs, *arguments: Any) -> Any:
            self.forward += len(inputs[0])
            return verb(inputs, *arguments)

        return counted

    def _both(self, verb: Callable[..., Any]) -> Callable[..., Any]:
        def counted(inputs: Inputs, cotangent: Any, *arguments: Any) -> Any:
            self.forward += len(inputs[0])
            self.backward += 0 if cotangent is None else len(inputs[0])  # attention can be read without a gradient
            return verb(inputs, cotangent, *arguments)

        return counted
