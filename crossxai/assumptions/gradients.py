"""Does a gradient reach every modality, or a layer, and is it right; where none arrives, is there none or was the way cut."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from crossxai.adapters.checks import WITHOUT_GRADIENTS
from crossxai.assumptions import probes
from crossxai.assumptions.facts import Fact, Verdict
from crossxai.assumptions.probes import AtPrecision, Result
from crossxai.assumptions.slopes import SEGMENTS, Rows, Score, Stairs, slopes, stairs
from crossxai.errors import ModelFailed
from crossxai.model import Array, Differentiable, Inputs, Layered, Modality

HOW = (
    "central differences of a random mixture of all outputs, at two samples, against its gradient; in float64 where the model "
    "can be copied; and its gradient added up between samples, against its change"
)
BREAKS = "maps that use gradients would be wrong"
POINTS = 8
"""Between two samples, where the gradient is looked for before it is called cut."""
LOUDER = 1024.0
"""By which outputs are multiplied to see whether a gradient underflows."""


def gradients(model: Differentiable, inputs: Inputs) -> dict[str, Fact]:
    """By modality: whether the outputs' gradient at it exists and is right; three backward passes, and up to twelve copies each.

    Features (columns, channels) whose gradient is zero are given other observed values, never new ones: if the outputs move, the
    gradient is looked for on the way between; if it is zero there, too, the way is cut, and if not, it is flat at these samples.
    """
    probe = _Probe(model, probes.two_samples(inputs))
    return {m.name: probe.fact(i, m) for i, m in enumerate(model.modalities)}


class _Mixture:
    """A random mixture of all outputs of a model, a cotangent that is drawn when it is first called; and its scores."""

    def __init__(self) -> None:
        self.weights = np.zeros(0)

    def __call__(self, outputs: Array) -> Array:
        if not self.weights.size:
            self.weights = np.random.default_rng(5).normal(size=outputs.shape[1:])
        return np.broadcast_to(self.weights, outputs.shape).astype(outputs.dtype)

    def scores(self, outputs: Array) -> Array:
        return np.asarray((outputs.astype(np.float64) * self.weights).reshape(len(outputs), -1).sum(axis=1))


def _inserted(inputs: Inputs, at: int, copies: Array, rows: Rows) -> Inputs:
    """The samples `rows` of the inputs, with copies in place of those of modality `at`."""
    return tuple(copies if i == at else v[rows] for i, v in enumerate(inputs))


@dataclass
class _Probe:
    """A mixture of a model's outputs, around two samples."""

    model: Differentiable
    pair: Inputs

    def __post_init__(self) -> None:
        self.mixture = _Mixture()
        self.outputs, self.gradients = probes.gradients_in_batches(self.model, self.pair, self.mixture)
        self.mixture(self.outputs)  # where the way is cut, it has not been called yet
        self.own = self.used = AtPrecision(self.model, self.pair, probes.rounding(self.model, self.outputs))
        self.slopes = self.gradients
        if any(g.any() for g in self.gradients):  # where there is none at all, no copy is made
            self.used, (_, self.slopes) = probes.finest(
                self.own,
                (self.outputs, self.gradients),
                lambda at: probes.gradients_in_batches(at.model, at.inputs, self.mixture),
            )
        self.live = [np.abs(g).reshape(-1, g.shape[-1]).max(axis=0) > 0 for g in self.gradients]
        finite = all(np.isfinite(g).all() for g in self.gradients)
        self.stepped = finite and any(v.any() for v in self.live) and self._stairs(self.live).stepped

    def fact(self, at: int, modality: Modality) -> Fact:
        name = f"gradient at {modality.name}"
        gradient, features = self.gradients[at], self.live[at]
        if not np.isfinite(gradient).all():
            return Fact(name, "unknown", f"the gradient at modality {modality.name!r} holds NaN or infinity", HOW)
        dead = self._dead(at, modality, ~features) if not features.all() else None
        if dead is not None and (dead.verdict == "broken" or not features.any()):
            return dead
        used, scale = self.used, self._scale(at, modality) * features
        score, gradient_at = partial(self._score, used, at), partial(self._gradient, at)
        compared = slopes(used.inputs[at], self.slopes[at], scale, score, gradient_at, used.unit)
        if compared.right is None:
            return Fact(name, "unknown", f"the outputs beside these samples hold NaN: modality {modality.name!r}", HOW)
        if not compared.right:
            return self._underflow(at, modality, ~np.zeros_like(features)) or self._broken(
                modality,
                f"the gradient of model {self.model.name!r} at modality {modality.name!r} differs by up to {compared.error:.1%} "
                f"from central differences of its outputs: a part of the way is cut ({self._cut()}), or a hook or a "
                "backward function changes gradients",
            )
        if self.stepped:
            alone = self._stairs([live & (i == at) for i, live in enumerate(self.live)])
            if alone.stepped:
                return self._broken(
                    modality,
                    f"the outputs of model {self.model.name!r} move with {modality.name} in steps that no gradient sees, "
                    f"{alone.share:.0%} of what they move by between samples: a part of the way is rounded, compared, or picks "
                    "the largest",
                )
        right = f"the gradient at modality {modality.name!r} is right to {compared.error:.1g}"
        return dead or Fact(name, "holds", right, HOW)

    def _stairs(self, moving: list[Any]) -> Stairs:
        """Steps of the score on the way to another observed value of the features that are to move."""
        deltas = []
        for values, moves in zip(self.pair, moving, strict=True):
            other = np.stack([values[1], probes.shuffled(values[1:])[0]])
            other[1] = other[1] if (other[1] != values[1]).any() else values[1] / 2
            deltas.append(((other - values) * moves).astype(np.float64))
        ways, segments = (2, SEGMENTS) if probes.small(self.pair) else (1, SEGMENTS // 2)

        def look(used: AtPrecision, rows: Rows, shares: Array) -> tuple[Array, Array]:
            inputs = tuple(
                (v[rows] + shares.reshape(-1, *[1] * (v.ndim - 1)) * d[rows]).astype(v.dtype)
                for v, d in zip(used.inputs, deltas, strict=True)
            )
            outputs, gradients = probes.gradients_in_batches(used.model, inputs, self.mixture)
            slopes = [(g * d[rows]).reshape(len(rows), -1).sum(axis=1) for g, d in zip(gradients, deltas, strict=True)]
            return self.mixture.scores(outputs), np.sum(slopes, axis=0)

        rows, shares = np.repeat(np.arange(ways), segments + 1), np.tile(np.linspace(0, 1, segments + 1), ways)
        try:
            scores, along = (v.reshape(ways, -1) for v in look(self.own, rows, shares))
            return stairs(scores, along, self.own.unit, partial(look, self.used), self.used.unit)
        except ModelFailed:  # what lies between samples may be nothing to a model, codes for one
            return Stairs(False, 0.0)

    def _underflow(self, at: int, modality: Modality, where: Any) -> Fact | None:
        """In half precision: whether a gradient that is wrong, or none, arrives when outputs are multiplied first."""
        precision = probes.half(self.model)
        if precision is None:
            return None
        _, louder_ones = probes.gradients_in_batches(self.model, self.pair, lambda y: self.mixture(y) * LOUDER)
        louder, own = (v.astype(np.float64) * where for v in (louder_ones[at] / LOUDER, self.gradients[at]))
        if not np.isfinite(louder).all() or np.linalg.norm(louder - own) <= 0.1 * np.linalg.norm(louder):
            return None
        lost = 1 - float((own != 0).sum()) / max(float((louder != 0).sum()), 1.0)
        return Fact(
            f"gradient at {modality.name}", "broken",
            f"the gradient of model {self.model.name!r} at modality {modality.name!r} underflows in {precision}: "
            f"{max(lost, 0):.0%} of what arrives when outputs are multiplied by {LOUDER:.0f} is rounded to 0",
            "the gradient of outputs as they are and of outputs multiplied", BREAKS,
            f"a copy in float32 (module.float(), autocast off; in Keras dtype policies without float16); {WITHOUT_GRADIENTS}",
        )  # fmt: skip

    def _dead(self, at: int, modality: Modality, dead: Any) -> Fact | None:
        """Features without a gradient: None where the outputs move with them and a gradient is found elsewhere."""
        name = f"gradient at {modality.name}"
        which = modality.name if dead.all() else f"{modality.name} ({', '.join(np.array(modality.features)[dead][:5])})"
        own = self.pair[at]
        # Other observed values; where there are none, those on the way to 0, the baseline that explainers start from.
        others = [v for v in (own[::-1], probes.shuffled(own)) if not np.array_equal(v[..., dead], own[..., dead])]
        moved = [np.where(dead, v, own) for v in others or [own * own.dtype.type(0), own / 2]]
        rows = np.tile(np.arange(2), 1 + len(moved))
        try:
            scores = self._score(self.own, at, np.concatenate([own, *moved]).astype(own.dtype), rows)
        except ModelFailed as error:
            return Fact(name, "unknown", f"{which}: no gradient, and no other value could be tried: {error}", HOW)
        table = scores.reshape(-1, 2)
        size = max(1.0, float(np.linalg.norm(self.mixture.weights)))
        allowed = float(np.max(probes.allowance(self.model, self.outputs))) * size
        change = np.abs(table - table[:1]).max(axis=1)
        if not (change > allowed).any():
            if (lost := self._underflow(at, modality, dead)) is not None:
                return lost
            return Fact(
                name, "note", f"at the samples looked at, model {self.model.name!r} does not depend on {which}: its gradient and "
                "its relevance are zero there", "other observed values there, and shuffled ones", "maps there are zero",
            )  # fmt: skip
        end = moved[int(change[1:].argmax())]
        shares = (np.arange(POINTS) + 0.5) / POINTS
        between = np.concatenate([own + (share * (end - own)).astype(own.dtype) for share in shares])
        on_way = _inserted(self.pair, at, between, np.tile(np.arange(2), POINTS))
        if (np.abs(probes.gradients_in_batches(self.model, on_way, self.mixture)[1][at]) * dead).any():
            return None if not dead.all() else Fact(
                name, "note", f"the outputs of model {self.model.name!r} are flat at these samples: no gradient at {which}", HOW,
                "gradient maps of such samples are zero",
            )  # fmt: skip
        return self._underflow(at, modality, dead) or self._broken(
            modality,
            f"the outputs of model {self.model.name!r} move with {which}, by {change.max():.2g}, and no gradient reaches it: the "
            f"way is cut {self._cut()}",
        )

    def _broken(self, modality: Modality, reason: str) -> Fact:
        rest = [m.name for m in self.model.modalities if m.name != modality.name]
        alone = f"; the rest can be explained by question.only({', '.join(map(repr, rest))})" if rest else ""
        write = f"a model whose gradients arrive; {WITHOUT_GRADIENTS}{alone}"
        return Fact(f"gradient at {modality.name}", "broken", reason, HOW, BREAKS, write)

    def _cut(self) -> str:
        if not hasattr(self.model, "cut"):
            return "on the way (stop_gradient, no_grad, whole numbers, a quantised layer, a detour through NumPy)"
        return str(self.model.cut(self.pair))

    def _score(self, used: AtPrecision, at: int, copies: Array, rows: Rows) -> Array:
        return self.mixture.scores(probes.outputs_in_batches(used.model, _inserted(used.inputs, at, copies, rows)))

    def _gradient(self, at: int, copies: Array, rows: Rows) -> Array:
        inputs = _inserted(self.used.inputs, at, copies, rows)
        return probes.gradients_in_batches(self.used.model, inputs, self.mixture)[1][at]

    def _scale(self, at: int, modality: Modality) -> Array:
        """What each feature varies by: the declared range, else what these samples show."""
        values = self.pair[at]
        if modality.range is not None:
            return np.full(values.shape[-1], modality.range[1] - modality.range[0])
        rows = values.reshape(-1, values.shape[-1]).astype(np.float64)
        spread = np.ptp(rows, axis=0)
        return np.asarray(np.where(spread > 0, spread, np.maximum(np.abs(rows).max(axis=0), 1.0)))


HOW_AT_LAYERS = "central differences of a random mixture of all outputs as the layer's activation moves, at two samples"


def gradient_at_layer(model: Layered, inputs: Inputs, layer: str) -> Fact:
    """Whether the outputs' gradient at a layer's activation is that of replacing the activation."""
    pair = tuple(_untied(v) for v in probes.two_samples(inputs))
    name = f"gradient at layer {layer}"
    mixture = _Mixture()

    def score(copies: Array, rows: Rows) -> Array:
        outputs = used.model.replace(tuple(v[rows] for v in used.inputs), layer, copies)  # type: ignore[attr-defined]
        return mixture.scores(outputs)

    def at_precision(at: AtPrecision) -> Result:
        outputs, *arrays = at.model.layer_vjp(at.inputs, mixture, layer)  # type: ignore[attr-defined]
        return outputs, tuple(arrays)

    outputs, activation, gradient = model.layer_vjp(pair, mixture, layer)
    mixture(outputs)  # where the way is cut, it has not been called yet
    used = AtPrecision(model, pair, probes.rounding(model, outputs))
    if gradient.any():
        used, (_, (activation, gradient)) = probes.finest(used, (outputs, (activation, gradient)), at_precision)
    if len(activation) != len(pair[0]) or not (np.isfinite(activation).all() and np.isfinite(gradient).all()):
        return Fact(name, "unknown", f"layer {layer!r} has no finite activation and gradient per sample", HOW_AT_LAYERS)
    # Zeros behind a ReLU, and what overlapping pools repeat, are tied in the next max-pool, where there is no one gradient: they
    # stay. Where nearly all is repeated, as after an enlargement, only zeros do.
    moves = activation != 0
    free = moves & _once(activation)
    tied = bool(free.sum() < 0.1 * moves.sum())
    scale = (moves if tied else free) * (float(activation.std()) or 1.0)
    unit = used.unit
    if gradient.any():
        compared = slopes(activation, gradient, scale, score, None, unit, tied)
        if compared.right is not False:
            verdict: Verdict = "holds" if compared.right else "unknown"
            right = f"the gradient at layer {layer!r} is right to {compared.error:.1g}"
            return Fact(name, verdict, right, HOW_AT_LAYERS)
        difference = f"its gradient differs by {compared.error:.1%} from differences"
    elif not _moves(activation, scale, score, unit):
        found_none = f"the outputs of model {model.name!r} do not move with layer {layer!r} at these samples"
        return Fact(name, "note", found_none, HOW_AT_LAYERS, "maps there are zero")
    else:
        difference = "no gradient reaches it"
    return Fact(
        name, "broken",
        f"the outputs of model {model.name!r} move with layer {layer!r}, and {difference}: the way between them is cut, or a "
        "hook or a backward function changes gradients", HOW_AT_LAYERS, "maps at this layer that use gradients would be wrong",
        "layer=… with a later layer, or take gradcam.eigencam, gradcam.scorecam or gradcam.ablationcam, which need no gradient",
    )  # fmt: skip


def _untied(values: Array) -> Array:
    """Images with so little noise that no two neighbours are the same: at ties of a later max-pool there is no one gradient."""
    if values.ndim < 3:
        return values
    noise = np.random.default_rng(19).uniform(values.min(), values.max(), values.shape)
    return np.asarray(values + 1e-3 * (noise - values), dtype=values.dtype)


def _once(activation: Array) -> Array:
    """Which values a sample holds once."""
    unique = []
    for values in activation.reshape(len(activation), -1):
        _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
        unique.append(counts[where] == 1)
    return np.asarray(unique).reshape(activation.shape)


def _moves(activation: Array, scale: Array, score: Score, unit: float) -> bool:
    """Whether the score moves beyond rounding as the activation does by a tenth of what it varies by."""
    rows = np.arange(len(activation))
    signs = np.random.default_rng(13).choice([-1.0, 1.0], size=activation.shape)
    up, down = (score((activation + sign * 0.1 * scale * signs).astype(activation.dtype), rows) for sign in (1, -1))
    return bool((np.abs(up - down) > 64 * unit * np.maximum(np.abs(up), np.abs(down))).any())
