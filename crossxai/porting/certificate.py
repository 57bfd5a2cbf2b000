"""Whether one network computes what another does: the difference of their outputs, as a share of how far outputs vary."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from crossxai.errors import Unsupported
from crossxai.model import Array, Inputs, Modality, Model

Predict = Callable[[Inputs], Array]
TOLERANCE = {"float32": 3e-4, "float64": 1e-10}
"""Largest difference of an output, as a share of how far outputs vary, at which a folded network still counts as the same."""


def probe_inputs(inputs: Inputs, modalities: tuple[Modality, ...]) -> tuple[Inputs, Inputs, Inputs]:
    """The inputs themselves, their pixels shuffled (of a table: its rows, feature by feature), and noise in their range,
    the declared one or each channel's own."""
    rng = np.random.default_rng(0)
    shuffled, noise = [], []
    for modality, values in zip(modalities, inputs, strict=True):
        if modality.spatial:
            pixels = values.reshape(len(values), -1, values.shape[-1])
            shuffled.append(rng.permuted(pixels, axis=1).reshape(values.shape))
        else:
            shuffled.append(rng.permuted(values, axis=0))
        if modality.range is not None:
            low, high = (np.full(values.shape[-1], bound) for bound in modality.range)
        else:
            flat = values.reshape(-1, values.shape[-1]).astype(np.float64)
            low, high = flat.min(axis=0), flat.max(axis=0)
            constant = low == high
            low, high = low - constant, high + constant
        noise.append(rng.uniform(low, high, values.shape).astype(values.dtype))
    return inputs, tuple(shuffled), tuple(noise)


def gap(model: Predict, other: Predict, inputs: Inputs, modalities: tuple[Modality, ...]) -> float:
    """`difference` over the `probe_inputs` of the inputs; each network sees as many samples at once as the inputs hold."""
    pairs = [(np.asarray(model(given)), np.asarray(other(given))) for given in probe_inputs(inputs, modalities)]
    if any(one.shape != two.shape for one, two in pairs):
        return float("inf")
    # Noise may be beyond what a network is defined for; there both have to fail alike.
    compared = [pairs[0], *(p for p in pairs[1:] if np.isfinite(p[0]).all() or np.isfinite(p[1]).all())]
    one, two = (np.concatenate(column) for column in zip(*compared, strict=True))
    return difference(one, two)


def difference(one: Array, two: Array) -> float:
    """The largest |difference| of outputs (n, *out), as a share of how far those of that class vary. How far: the
    largest distance from their mean over samples. What the dtype of the outputs cannot hold is forgiven: 4 units in the
    last place of the class's largest output. NaN where outputs are not finite, infinity where shapes differ."""
    if one.shape != two.shape:
        return float("inf")
    eps = max(np.finfo(part.dtype).eps for part in (one, two))
    one, two = one.astype(np.float64), two.astype(np.float64)
    classes = (-1, one.shape[-1])
    spread = np.abs(one - one.mean(axis=0)).reshape(classes).max(axis=0)
    size = np.abs(one).reshape(classes).max(axis=0)
    beyond = np.abs(one - two).reshape(classes).max(axis=0) - 2 * eps * size - eps**2 * size.max()
    with np.errstate(over="ignore"):  # of a class that never varies
        shares = np.maximum(beyond, 0) / np.maximum(spread, np.finfo(np.float64).tiny)  # NaN stays NaN
    return float(shares.max())


def require_same_outputs(model: Model, faster: Model, inputs: Inputs) -> None:
    """Raise `Unsupported` unless the folded copy gives the model's outputs on these inputs, shuffled, and on noise."""
    given = probe_inputs(inputs, model.modalities)
    one, other = (np.concatenate([m.predict(values) for values in given]) for m in (model, faster))
    check_folded(one, other, model.name)


def check_folded(one: Array, other: Array, model: str) -> None:
    """Raise `Unsupported` unless the outputs of a folded network are those of the network itself to `TOLERANCE`."""
    limit = TOLERANCE["float64" if one.dtype == np.float64 else "float32"]
    if one.shape != other.shape:
        raise Unsupported(f"model {model!r} with its batch norms folded gives {other.shape}, not {one.shape}")
    largest = difference(one, other)
    if not largest <= limit:  # NaN included
        raise Unsupported(
            f"model {model!r} with its batch norms folded differs by {largest:.1e} of how far its outputs vary, more than "
            f"{limit:.0e}"
        )
