"""Counting: a model that counts the samples passing through it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crossxai.model import Array, Inputs, Model


class Counting:
    """A model with all the verbs of another, and how many samples went through it forwards and backwards.

    Reading layers (`activations`) and writing down the graph (`graph`) explain nothing and count for nothing; nor does what is
    found out about the model itself, such as a twin's certificate: it is asked of the model that this one watches. What a copy
    with other weights sees counts here, too.
    """

    BOTH = ("vjp", "layer_vjp", "attention_vjp")
    FORWARD = ("read", "replace")
    FREE = ("activations", "axes_of", "kind_of", "layer_axes", "weighted", "streams", "output_axes", "outputs")

    def __init__(self, inner: Model, around: Counting | None = None) -> None:
        self.inner, self.around = inner, around
        self.watches = inner  # what is found out about a model is found out about this one
        self.name, self.modalities = inner.name, inner.modalities
        self.forward = self.backward = 0
        # Set on the object, and only where the inner model has them: a protocol is recognised by its verbs.
        for verb in self.BOTH:
            if hasattr(inner, verb):
                setattr(self, verb, self._both(getattr(inner, verb)))
        for name in self.FREE:
            if hasattr(inner, name):
                setattr(self, name, getattr(inner, name))
        if hasattr(inner, "graph"):
            self.graph = inner.graph
        if hasattr(inner, "randomised"):
            self.randomised = lambda *arguments: Counting(inner.randomised(*arguments), self)
        if hasattr(inner, "folded"):  # the passes that check a folded copy happen inside, and count for nothing
            self.folded = lambda inputs: Counting(inner.folded(inputs), self)
        for verb in self.FORWARD:
            if hasattr(inner, verb):
                setattr(self, verb, self._once(getattr(inner, verb)))

    def predict(self, inputs: Inputs) -> Array:
        """Outputs of the inner model; one forward pass per sample."""
        self._count(len(inputs[0]))
        return self.inner.predict(inputs)

    def _count(self, forward: int, backward: int = 0) -> None:
        self.forward += forward
        self.backward += backward
        if self.around is not None:
            self.around._count(forward, backward)

    def _once(self, verb: Callable[..., Any]) -> Callable[..., Any]:
        def counted(inputs: Inputs, *arguments: Any) -> Any:
            self._count(len(inputs[0]))
            return verb(inputs, *arguments)

        return counted

    def _both(self, verb: Callable[..., Any]) -> Callable[..., Any]:
        def counted(inputs: Inputs, cotangent: Any, *arguments: Any) -> Any:
            # Attention can be read without a gradient.
            self._count(len(inputs[0]), 0 if cotangent is None else len(inputs[0]))
            return verb(inputs, cotangent, *arguments)

        return counted
