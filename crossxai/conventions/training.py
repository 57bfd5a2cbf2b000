"""Whether two networks train alike: what batch norms keep of one batch, and the gradients of the weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossxai.conventions.agreement import distance
from crossxai.conventions.certificate_result import Kind, LayerPair, Line
from crossxai.errors import CrossXAIError
from crossxai.model import Array
from crossxai.question import Question

Sides = tuple[Question, Question]
Statistics = Mapping[str, tuple[Array, Array]]
"""Batch norm -> its running mean and variance."""
Gradients = Mapping[str, Sequence[Array]]
"""Layer -> the gradient at each of its weights."""
NO_COPY = "a network has no copy in float64, and it is not trained itself"
REST = "weights of other layers"
NOTHING = 1e-9
"""Up to this share of the largest gradient, one is rounding: that of a bias before a softmax or a norm is zero in theory."""


Compared = tuple[tuple[LayerPair, ...], str]
"""Layers side by side, and why they cannot be."""


@dataclass(frozen=True)
class Measured:
    """Layers side by side, and the line of the largest distance; nothing of networks without such layers."""

    pairs: tuple[LayerPair, ...] = ()
    lines: tuple[Line, ...] = ()


@dataclass(frozen=True)
class Training:
    """The measurements, and the pairs of layers that they are the largest of: batch norms, and layers with weights."""

    lines: tuple[Line, ...] = ()
    norms: tuple[LayerPair, ...] = ()
    weights: tuple[LayerPair, ...] = ()


def trained(one: Question, other: Question, exact: Sides | None) -> Training:
    """How alike they train, on copies in float64, which are thrown away."""
    models: tuple[Any, Any] = (one.model, other.model)
    norms, weights = Measured(), Measured()
    if all(hasattr(model, "trained_statistics") and model.hints()["norms"] for model in models):
        norms = _measured("training", "running statistics after one batch", exact, _statistics)
    if all(hasattr(model, "weight_gradients") for model in models):
        weights = _measured("weights", "samples", exact, _gradients)
    return Training((*norms.lines, *weights.lines, *_made(models)), norms.pairs, weights.pairs)


def _made(models: tuple[Any, Any]) -> Iterator[Line]:
    """What no comparison of weights tells: that one network makes some of them of others, and trains these."""
    made, others = (model.hints().get("made weights", []) if hasattr(model, "hints") else [] for model in models)
    if made != others:
        why = (
            "compared are the kernels that weight or spectral norm makes of other weights; trained on, one network changes "
            "these, the other one the kernel itself"
        )
        yield Line(
            "weights", f"weights of {', '.join(dict.fromkeys(made + others))}", "float64", float("nan"), reason=why
        )


def _measured(kind: Kind, name: str, exact: Sides | None, compare: Callable[[Any, Any], Compared]) -> Measured:
    """The largest of the distances that a comparison of the copies gives, or why there are none."""
    pairs: tuple[LayerPair, ...] = ()
    why = NO_COPY
    if exact is not None:
        try:
            pairs, why = compare(*exact)
        except CrossXAIError as error:
            why = str(error)
    worst = max((pair.distance for pair in pairs), default=float("nan"))
    return Measured(pairs, (Line(kind, name, "float64", worst, reason=why),))


def _statistics(one: Any, other: Any) -> Compared:
    """What batch norms keep of one batch in training mode."""
    ours, theirs = (side.model.trained_statistics(side.inputs) for side in (one, other))
    pairs = _norms(ours, theirs)
    return pairs, "" if pairs else f"of {len(ours)} and {len(theirs)} batch norms nothing tells which belong together"


def _gradients(one: Any, other: Any) -> Compared:
    """The slope of the score at every weight, in evaluation mode, frozen or not."""
    ours, theirs = ({name: _sums(some) for name, some in _at_weights(side).items()} for side in (one, other))
    return _weighted(ours, theirs)


def _at_weights(question: Any) -> Gradients:
    """The slopes that are more than rounding, one array per layer: what nothing depends on has none."""
    rows = np.arange(len(question))
    found: Gradients = question.model.weight_gradients(
        question.inputs, lambda outputs: question.target.cotangent(outputs, rows)
    )
    least = NOTHING * max((abs(g).max() for some in found.values() for g in some if g.size), default=0.0)
    kept = {name: [g[abs(g) > least] for g in some] for name, some in found.items()}
    return {name: some for name, some in kept.items() if any(g.size for g in some)}


def _sums(gradients: Sequence[Array]) -> Array:
    """How many numbers, and sums over them that no layout of a weight changes: of g, |g|, g² and √|g|.

    Frameworks lay a kernel out in other orders, and keep in one array what others keep in three.
    """
    every = [g.astype(np.float64).ravel() for g in gradients]
    powers = [(len(g), g.sum(), abs(g).sum(), (g**2).sum(), (abs(g) ** 0.5).sum()) for g in every]
    return np.sum(powers, axis=0)  # type: ignore[no-any-return]


def _weighted(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> Compared:
    """Layers side by side. Those of no common name are taken together."""
    shared = named_alike(ours, theirs)
    left = [
        [values for name, values in side.items() if name not in names]
        for side, names in ((ours, shared), (theirs, set(shared.values())))
    ]
    pairs = [(a, b, ours[a], theirs[b]) for a, b in shared.items()]
    if any(left):
        zero = np.zeros(5)
        pairs.append((REST, REST, *(np.sum([zero, *values], axis=0) for values in left)))
    for a, _, x, y in pairs:
        if x[0] != y[0]:
            return (), f"{a}: the first network has {x[0]:.0f} weights there, the other one {y[0]:.0f}"
    total = np.sum([x for _, _, x, _ in pairs], axis=0)
    return tuple(LayerPair(a, b, _sums_apart(x, y, total)) for a, b, x, y in pairs), ""


def _sums_apart(x: Array, y: Array, total: Array) -> float:
    """The largest difference of two layers' sums, as a share of what their numbers sum to without their signs."""
    sizes = np.array([x[2], x[2], x[3], x[4]]) + NOTHING * np.array([total[2], total[2], total[3], total[4]])
    return float(np.max(abs(x[1:] - y[1:]) / np.maximum(sizes, np.finfo(float).tiny)))


def _norms(ours: Statistics, theirs: Statistics) -> tuple[LayerPair, ...]:
    """Batch norms side by side: by their names, else in order where there are as many; none where neither tells."""
    shared = named_alike(ours, theirs)
    if len(shared) < len(ours) and len(ours) == len(theirs):
        shared = dict(zip(ours, theirs, strict=True))
    return tuple(LayerPair(a, b, _statistics_apart(ours[a], theirs[b])) for a, b in shared.items())


def _statistics_apart(one: tuple[Array, Array], other: tuple[Array, Array]) -> float:
    """Relative L2 of means and standard deviations together: means alone may be nothing but rounding, as after another norm."""
    x, y = (np.concatenate([mean, np.sqrt(variance)])[None] for mean, variance in (one, other))
    return distance(x, y) if x.shape == y.shape else float("inf")


def named_alike(ours: Mapping[str, object], theirs: Mapping[str, object]) -> dict[str, str]:
    """The names of both that frameworks write differently: "layer1.0.conv1" and "layer1_0_conv1"."""
    named = {_letters(name): name for name in theirs}
    return {name: named[_letters(name)] for name in ours if _letters(name) in named}


def _letters(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "_", name).lower()
