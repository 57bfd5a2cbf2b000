"""Does a gradient reach a layer, and is it right: one backward pass and eight copies with the layer's activation moved."""

from __future__ import annotations

import numpy as np

from crossxai.assumptions.companions import two
from crossxai.assumptions.fact import Fact, Verdict
from crossxai.assumptions.precision import rounding
from crossxai.assumptions.slopes import Rows, Score, slopes
from crossxai.model import Array, Inputs, Layered

HOW = "central differences of a random mixture of all outputs as the layer's activation moves, at two samples"


def at_layer(model: Layered, inputs: Inputs, layer: str) -> Fact:
    """Whether the outputs' gradient at a layer's activation is that of replacing the activation."""
    pair = two(inputs)
    name = f"gradient at layer {layer}"
    rng = np.random.default_rng(5)
    mixture: list[Array] = []

    def cotangent(outputs: Array) -> Array:
        if not mixture:
            mixture.append(rng.normal(size=outputs.shape[1:]))
        return np.broadcast_to(mixture[0], outputs.shape).astype(outputs.dtype)

    def score(copies: Array, rows: Rows) -> Array:
        outputs = model.replace(tuple(v[rows] for v in pair), layer, copies)
        return np.asarray((outputs.astype(np.float64) * mixture[0]).reshape(len(rows), -1).sum(axis=1))

    outputs, activation, gradient = model.layer_vjp(pair, cotangent, layer)
    cotangent(outputs)  # where the way is cut, nobody has asked for it yet
    if len(activation) != len(pair[0]) or not (np.isfinite(activation).all() and np.isfinite(gradient).all()):
        return Fact(name, "unknown", f"layer {layer!r} has no finite activation and gradient per sample", HOW)
    # Zeros behind a ReLU are tied in the next max-pool, where there is no one gradient: they stay.
    scale = (activation != 0) * (float(activation.std()) or 1.0)
    unit = rounding(model, outputs)
    if gradient.any():
        found = slopes(activation, gradient, scale, score, None, unit)
        if found.right is not False:
            verdict: Verdict = "holds" if found.right else "unknown"
            return Fact(name, verdict, f"the gradient at layer {layer!r} is right to {found.error:.1g}", HOW)
        what = f"its gradient differs by {found.error:.0%} from differences"
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


def _moves(activation: Array, scale: Array, score: Score, unit: float) -> bool:
    """Whether the score moves beyond rounding as the activation does by a tenth of what it varies by."""
    rows = np.arange(len(activation))
    signs = np.random.default_rng(13).choice([-1.0, 1.0], size=activation.shape)
    up, down = (score((activation + sign * 0.1 * scale * signs).astype(activation.dtype), rows) for sign in (1, -1))
    return bool((np.abs(up - down) > 64 * unit * np.maximum(np.abs(up), np.abs(down))).any())
