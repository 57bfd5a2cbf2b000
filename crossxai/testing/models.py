"""What every model promises."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from crossxai.errors import InvalidInput, Unsupported
from crossxai.model import Array, Differentiable, Inputs, Layered, Model
from crossxai.porting.graph import Traceable
from crossxai.testing.state import require, require_same, require_untouched, snapshot

STEP = 1e-6
"""Of the difference quotients, as a share of the largest input: rounding and curvature both stay below 1e-6."""


def check_model(model: Model, inputs: Inputs, *, tolerance: float = 0.0) -> tuple[str, ...]:
    """Hold a model to its contract on inputs of at least two samples.

    A batch is its rows one by one; the same inputs give the same outputs; inputs, network and process are left as they were;
    gradients equal difference quotients; a layer replaced by itself changes nothing, and its gradient is that of replacing it.

    Parameters
    ----------
    model : Model, with whatever verbs it has: gradients, layers, a graph
    inputs : tuple of arrays (n, *axes), one per modality, at least two samples
    tolerance : float, of values that should be equal, as a share of the largest; 0 stands for 1e-5, or 1e-9 in float64

    Returns
    -------
    tuple of str, what was not checked, and why, one sentence each: gradients need a model that computes in float64

    Raises
    ------
    AssertionError: with a sentence on what is broken
    """
    if len(inputs[0]) < 2:
        raise InvalidInput("the contract compares samples: give at least two")
    who = f"model {model.name!r}"
    for modality, values in zip(model.modalities, inputs, strict=True):
        modality.check(values, f"{who}, ")
    check = _Check(model, inputs, who, tolerance)
    given = tuple(values.copy() for values in inputs)
    before = snapshot(model)
    check.outputs()
    if isinstance(model, Differentiable):
        check.gradients(model)
    else:
        check.left_out.append("gradients: the model gives none")
    if isinstance(model, Layered):
        check.layers(model)
    else:
        check.left_out.append("layers: the model gives none")
    if isinstance(model, Traceable):
        check.graph(model)
    require_same(before, snapshot(model), who)
    require_untouched(given, inputs, who)
    return tuple(check.left_out)


class _Check:
    def __init__(self, model: Model, inputs: Inputs, who: str, tolerance: float) -> None:
        self.inputs, self.who = inputs, who
        self.expected = model.predict(inputs)
        self.exact = self.expected.dtype == np.float64
        self.tolerance = tolerance or (1e-9 if self.exact else 1e-5)
        self.left_out: list[str] = []
        self.rng = np.random.default_rng(0)
        self.predict = model.predict
        self.weights = self.rng.normal(size=self.expected.shape)

    def cotangent(self, outputs: Array) -> Array:
        """Of sum(weights · outputs²): it depends on the outputs, as that of a probability does."""
        return np.asarray(2 * self.weights.astype(outputs.dtype) * outputs)

    def score(self, outputs: Array) -> float:
        return float((self.weights * outputs**2).sum())

    def same(self, actual: Array, expected: Array, name: str) -> None:
        require(actual.shape == expected.shape, f"{self.who}: {name}: shape {actual.shape}, not {expected.shape}")
        gap, scale = float(np.abs(actual - expected).max()), float(np.abs(expected).max())
        require(gap <= self.tolerance * scale, f"{self.who}: {name}: the largest gap is {gap:.2g} of {scale:.2g}")

    def outputs(self) -> None:
        actual, n = self.expected, len(self.inputs[0])
        shape = getattr(actual, "shape", ())
        require(len(shape) >= 2 and len(actual) == n, f"{self.who} gives outputs of shape {shape} for {n} samples")
        require(np.issubdtype(actual.dtype, np.floating), f"{self.who} gives outputs of {actual.dtype}")
        require(np.isfinite(actual).all(), f"{self.who} gives NaN or infinity")
        self.same(self.predict(self.inputs), actual, "the same inputs give other outputs the second time")
        single = [self.predict(tuple(v[i : i + 1] for v in self.inputs)) for i in range(n)]
        self.same(np.concatenate(single), actual, "a batch is not its rows one by one")

    def gradients(self, model: Differentiable) -> None:
        outputs, gradients = model.vjp(self.inputs, self.cotangent)
        self.same(outputs, self.expected, "vjp gives other outputs than predict")
        require(len(gradients) == len(self.inputs), f"{self.who}: vjp gives {len(gradients)} gradients")
        for modality, gradient, values in zip(model.modalities, gradients, self.inputs, strict=True):
            name = f"vjp's gradient at {modality.name!r}"
            same_shape = gradient.shape == values.shape
            require(same_shape, f"{self.who}: {name} has shape {gradient.shape}, not {values.shape}")
        _, single = model.vjp(tuple(v[1:2] for v in self.inputs), lambda y: 2 * self.weights[1:2].astype(y.dtype) * y)
        for gradient, one in zip(gradients, single, strict=True):
            self.same(one, gradient[1:2], "vjp of a batch is not that of its rows")
        if not self.exact:
            self.left_out.append(
                f"vjp against difference quotients: outputs are {self.expected.dtype}, whose rounding is most of a quotient"
            )
            return
        for i, modality in enumerate(model.modalities):
            self._quotient(
                partial(self._predict_with, i), self.inputs[i], gradients[i], f"vjp's gradient at {modality.name!r}"
            )

    def _predict_with(self, place: int, values: Array) -> Array:
        return self.predict((*self.inputs[:place], values, *self.inputs[place + 1 :]))

    def _quotient(self, function: Any, values: Array, gradient: Array, name: str) -> None:
        """Along one random direction: the slope of the score against gradient · direction.

        Values that are exactly 0 stay: behind a ReLU they are ties of a max-pool, where there is no one slope.
        """
        direction = self.rng.normal(size=values.shape) * (values != 0)
        step = STEP * max(float(np.abs(values).max()), 1e-3)
        ends = [self.score(function(values + sign * step * direction)) for sign in (1, -1)]
        slope, product = (ends[0] - ends[1]) / (2 * step), float((gradient * direction).sum())
        scale = max(abs(slope), abs(self.score(self.expected)), 1e-12)
        require(
            abs(slope - product) <= 1e-4 * scale,
            f"{self.who}: {name} says {product:.6g} in a direction in which the score has slope {slope:.6g}",
        )

    def layers(self, model: Layered) -> None:
        activations = model.activations(self.inputs)
        require(activations, f"{self.who} names no layer")
        first = next(iter(activations))
        named = list(model.activations(self.inputs, [first]))
        require(named == [first], f"{self.who}: activations of {first!r} alone gives {', '.join(named) or 'nothing'}")
        for layer, activation in activations.items():
            self._layer(model, layer, activation)
        if not self.exact:
            self.left_out.append(
                f"layer_vjp against difference quotients: outputs are {self.expected.dtype}, whose rounding is most of a "
                "quotient"
            )

    def _layer(self, model: Layered, layer: str, activation: Array) -> None:
        name = f"layer {layer!r}"
        require(len(activation) == len(self.inputs[0]), f"{self.who}: {name} has shape {activation.shape}")
        try:
            outputs, again, gradient = model.layer_vjp(self.inputs, self.cotangent, layer)
            replaced = model.replace(self.inputs, layer, again)
            beside, read = model.read(self.inputs, layer)
        except Unsupported as refusal:
            require(str(refusal).strip(), f"{self.who}: {name} is refused without a reason")
            self.left_out.append(f"{name}: {refusal}")
            return
        self.same(outputs, self.expected, f"layer_vjp at {name} gives other outputs than predict")
        self.same(again, activation, f"layer_vjp at {name} gives another activation than activations")
        self.same(beside, self.expected, f"read at {name} gives other outputs than predict")
        self.same(read, activation, f"read at {name} gives another activation than activations")
        require(gradient.shape == again.shape, f"{self.who}: the gradient at {name} has shape {gradient.shape}")
        self.same(replaced, self.expected, f"{name} replaced by itself changes the outputs")
        if self.exact:
            self._quotient(partial(model.replace, self.inputs, layer), again, gradient, f"the gradient at {name}")

    def graph(self, model: Traceable) -> None:
        try:
            graph = model.graph(self.inputs)
        except Unsupported as refusal:
            require(str(refusal).strip(), f"{self.who}: its graph is refused without a reason")
            self.left_out.append(f"graph: {refusal}")
            return
        complete = len(graph.inputs) == len(self.inputs)
        require(complete, f"{self.who}: its graph has inputs {graph.inputs} for {len(self.inputs)} modalities")
