"""Does a gradient reach a layer, and is it right: two backward passes, and up to twelve copies with it moved."""

from __future__ import annotations

import numpy as np

from crossxai.assumptions.companions import two
from crossxai.assumptions.exact import Answer, AtPrecision, finest
from crossxai.assumptions.fact import Fact, Verdict
from crossxai.assumptions.precision import rounding
from crossxai.assumptions.slopes import Rows, Score, slopes
from crossxai.model import Array, Inputs, Layered

HOW = "central differences of a random mixture of all outputs as the layer's activation moves, at two samples"


def at_layer(model: Layered, inputs: Inputs, layer: str) -> Fact:
    """Whether the outputs' gradient at a layer's activation is that of replacing the activation."""
    pair = tuple(_untied(v) for v in two(inputs))
    name = f"gradient at layer {layer}"
    rng = np.random.default_rng(5)
    mixture: list[Array] = []

    def cotangent(outputs: Array) -> Array:
        if not mixture:
            mixture.append(rng.normal(size=outputs.shape[1:]))
        return np.broadcast_to(mixture[0], outputs.shape).astype(outputs.dtype)

    def score(copies: Array, rows: Rows) -> Array:
        outputs = used.model.replace(tuple(v[rows] for v in used.inputs), layer, copies)  # type: ignore[attr-defined]
        return np.asarray((outputs.astype(np.float64) * mixture[0]).reshape(len(rows), -1).sum(axis=1))

    def ask(at: AtPrecision) -> Answer:
        outputs, *arrays = at.model.layer_vjp(at.inputs, cotangent, layer)  # type: ignore[attr-defined]
        return outputs, tuple(arrays)

    outputs, activation, gradient = model.layer_vjp(pair, cotangent, layer)
    cotangent(outputs)  # where the way is cut, nobody has asked for it yet
    used = AtPrecision(model, pair, rounding(model, outputs))
    if gradient.any():
        used, (_, (activation, gradient)) = finest(used, (outputs, (activation, gradient)), ask)
    if len(activation) != len(pair[0]) or not (np.isfinite(activation).all() and np.isfinite(gradient).all()):
        return Fact(name, "unknown", f"layer {layer!r} has no finite activation and gradient per sample", HOW)
    # Zeros behind a ReLU, and what overlapping pools repeat, are tied in the next max-pool, where there is no one gradient: they
    # stay. Where nearly all is repeated, as after an enlargement, only zeros do.
    moves = activation != 0
    free = moves & _once(activation)
    tied = bool(free.sum() < 0.1 * moves.sum())
    scale = (moves if tied else free) * (float(activation.std()) or 1.0)
    unit = used.unit
    if gradient.any():
        found = slopes(activation, gradient, scale, score, None, unit, tied)
        if found.right is not False:
            verdict: Verdict = "holds" if found.right else "unknown"
            return Fact(name, verdict, f"the gradient at layer {layer!r} is right to {found.error:.1g}", HOW)
        what = f"its gradient differs by {found.error:.1%} from differences"
    elif not _moves(activation, scale, score, unit):
        found_none = f"the outputs of model {model.name!r} do not move with layer {layer!r} at these samples"
        return Fact(name, "note", found_none, HOW, "maps there are zero")
    else:
        what = "no gradient reaches it"
    return Fact(
        name,
        "broken",
        f"the outputs of model {model.name!r} move with layer {layer!r}, and {what}: the way between them is cut, or a hook or a "
        "backward function changes gradients",
        HOW,
        "maps at this layer that use gradients would be wrong",
        "layer=… with a later layer, or take gradcam.eigencam, gradcam.scorecam or gradcam.ablationcam, which need no gradient",
    )


def _untied(values: Array) -> Array:
    """Images with so little noise that no two neighbours are the same: at ties of a later max-pool there is no one gradient."""
    if values.ndim < 3:
        return values
    noise = np.random.default_rng(19).uniform(values.min(), values.max(), values.shape)
    return np.asarray(values + 1e-3 * (noise - values), dtype=values.dtype)


def _once(activation: Array) -> Array:
    """Which values a sample holds once."""
    found = []
    for values in activation.reshape(len(activation), -1):
        _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
        found.append(counts[where] == 1)
    return np.asarray(found).reshape(activation.shape)


def _moves(activation: Array, scale: Array, score: Score, unit: float) -> bool:
    """Whether the score moves beyond rounding as the activation does by a tenth of what it varies by."""
    rows = np.arange(len(activation))
    signs = np.random.default_rng(13).choice([-1.0, 1.0], size=activation.shape)
    up, down = (score((activation + sign * 0.1 * scale * signs).astype(activation.dtype), rows) for sign in (1, -1))
    return bool((np.abs(up - down) > 64 * unit * np.maximum(np.abs(up), np.abs(down))).any())
