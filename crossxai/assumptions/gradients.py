"""Does a gradient reach every modality, and is it right; and where none arrives, is there none or was the way cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from crossxai.assumptions import passes
from crossxai.assumptions.companions import shuffled, two
from crossxai.assumptions.fact import Fact
from crossxai.assumptions.precision import allowance, rounding
from crossxai.assumptions.slopes import slopes
from crossxai.errors import ModelFailed
from crossxai.model import Array, Differentiable, Inputs, Modality
from crossxai.model_checks import WITHOUT_GRADIENTS

HOW = "two central differences of a random mixture of all outputs, at two samples, against its gradient"
POINTS = 8
"""Between two samples, where the gradient is looked for before it is called cut."""


def gradients(model: Differentiable, inputs: Inputs) -> dict[str, Fact]:
    """By modality: whether the outputs' gradient at it exists and is right; one backward pass and eight copies each.

    Features (columns, channels) whose gradient is zero are given other observed values, never new ones: if the outputs move, the
    gradient is looked for on the way between; if it is zero there, too, the way is cut, and if not, it is flat at these samples.
    """
    pair = two(inputs)
    probe = _Probe(model, pair)
    return {m.name: probe.fact(i, m) for i, m in enumerate(model.modalities)}


@dataclass
class _Probe:
    """A random mixture of all outputs of a model, around two samples."""

    model: Differentiable
    pair: Inputs

    def __post_init__(self) -> None:
        self.weights = np.zeros(0)
        self.outputs, self.gradients = passes.gradients(self.model, self.pair, self._cotangent)
        self._cotangent(self.outputs)  # where the way is cut, nobody has asked for it yet
        self.unit = rounding(self.model, self.outputs)

    def fact(self, at: int, modality: Modality) -> Fact:
        name = f"gradient at {modality.name}"
        gradient = self.gradients[at]
        if not np.isfinite(gradient).all():
            return Fact(name, "unknown", f"the gradient at modality {modality.name!r} holds NaN or infinity", HOW)
        features = np.abs(gradient).reshape(-1, gradient.shape[-1]).max(axis=0) > 0
        dead = self._dead(at, modality, ~features) if not features.all() else None
        if dead is not None and (dead.verdict == "broken" or not features.any()):
            return dead
        scale = self._scale(at, modality) * features
        found = slopes(self.pair[at], gradient, scale, self._score(at), self._gradient(at), self.unit)
        if found.right is None:
            return Fact(name, "unknown", f"the outputs beside these samples hold NaN: modality {modality.name!r}", HOW)
        if not found.right:
            return self._broken(
                name,
                modality,
                f"the gradient of model {self.model.name!r} at modality {modality.name!r} differs by up to {found.error:.0%} "
                f"from central differences of its outputs: a part of the way is cut ({self._cut()}), or a hook or a backward "
                "function changes gradients",
            )
        return dead or Fact(
            name, "holds", f"the gradient at modality {modality.name!r} is right to {found.error:.1g}", HOW
        )

    def _dead(self, at: int, modality: Modality, dead: Any) -> Fact | None:
        """Features without a gradient: None where the outputs move with them and a gradient is found elsewhere."""
        name = f"gradient at {modality.name}"
        which = modality.name if dead.all() else f"{modality.name} ({', '.join(np.array(modality.features)[dead][:5])})"
        own = self.pair[at]
        # Other observed values; where there are none, those on the way to 0, the baseline that explainers start from.
        others = [v for v in (own[::-1], shuffled(own)) if not np.array_equal(v[..., dead], own[..., dead])]
        moved = [np.where(dead, v, own) for v in others or [own * own.dtype.type(0), own / 2]]
        rows = np.tile(np.arange(2), 1 + len(moved))
        try:
            scores = self._score(at)(np.concatenate([own, *moved]).astype(own.dtype), rows).astype(np.float64)
        except ModelFailed as error:
            return Fact(name, "unknown", f"{which}: no gradient, and no other value could be tried: {error}", HOW)
        table = scores.reshape(-1, 2)
        allowed = float(np.max(allowance(self.model, self.outputs))) * max(1.0, float(np.linalg.norm(self.weights)))
        change = np.abs(table - table[:1]).max(axis=1)
        if not (change > allowed).any():
            how = "other observed values there, and shuffled ones"
            found = (
                f"at the samples looked at, model {self.model.name!r} does not depend on {which}: its gradient and its relevance "
                "are zero there"
            )
            return Fact(name, "note", found, how, "maps there are zero")
        end = moved[int(change[1:].argmax())]
        shares = (np.arange(POINTS) + 0.5) / POINTS
        between = np.concatenate([own + (share * (end - own)).astype(own.dtype) for share in shares])
        found_on_way = self._gradient(at)(between, np.tile(np.arange(2), POINTS))
        if (np.abs(found_on_way) * dead).any():
            return None if not dead.all() else Fact(
                name, "note", f"the outputs of model {self.model.name!r} are flat at these samples: no gradient at {which}", HOW,
                "gradient maps of such samples are zero",
            )  # fmt: skip
        return self._broken(
            name,
            modality,
            f"the outputs of model {self.model.name!r} move with {which}, by {change.max():.2g}, and no gradient reaches it: the "
            f"way is cut {self._cut()}",
        )

    def _broken(self, name: str, modality: Modality, found: str) -> Fact:
        rest = [m.name for m in self.model.modalities if m.name != modality.name]
        alone = f"; the rest can be explained by question.only({', '.join(map(repr, rest))})" if rest else ""
        breaks = "maps that use gradients would be wrong"
        return Fact(name, "broken", found, HOW, breaks, f"a model whose gradients arrive; {WITHOUT_GRADIENTS}{alone}")

    def _cut(self) -> str:
        if not hasattr(self.model, "cut"):
            return "on the way (stop_gradient, no_grad, whole numbers, a quantised layer, a detour through NumPy)"
        return str(self.model.cut(self.pair))

    def _cotangent(self, outputs: Array) -> Array:
        if not self.weights.size:
            self.weights = np.random.default_rng(5).normal(size=outputs.shape[1:])
        return np.broadcast_to(self.weights, outputs.shape).astype(outputs.dtype)

    def _full(self, at: int, copies: Array, rows: Array) -> Inputs:
        return tuple(copies if i == at else v[rows] for i, v in enumerate(self.pair))

    def _score(self, at: int) -> Any:
        def score(copies: Array, rows: Array) -> Array:
            outputs = passes.outputs(self.model, self._full(at, copies, rows)).astype(np.float64)
            return np.asarray((outputs * self.weights).reshape(len(outputs), -1).sum(axis=1))

        return score

    def _gradient(self, at: int) -> Any:
        return lambda copies, rows: passes.gradients(self.model, self._full(at, copies, rows), self._cotangent)[1][at]

    def _scale(self, at: int, modality: Modality) -> Array:
        """What each feature varies by: the declared range, else what these samples show."""
        values = self.pair[at]
        if modality.range is not None:
            return np.full(values.shape[-1], modality.range[1] - modality.range[0])
        rows = values.reshape(-1, values.shape[-1]).astype(np.float64)
        spread = np.ptp(rows, axis=0)
        return np.asarray(np.where(spread > 0, spread, np.maximum(np.abs(rows).max(axis=0), 1.0)))
