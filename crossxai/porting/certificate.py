"""Whether one network computes what another does: the difference of their outputs, as a share of how far outputs vary."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from crossxai.model import Array, Inputs, Modality

Predict = Callable[[Inputs], Array]


def probes(inputs: Inputs, modalities: tuple[Modality, ...]) -> tuple[Inputs, Inputs, Inputs]:
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
    """`difference` over the `probes` of the inputs; each network sees as many samples at once as the inputs hold."""
    pairs = [(np.asarray(model(given)), np.asarray(other(given))) for given in probes(inputs, modalities)]
    if any(one.shape != two.shape for one, two in pairs):
        return float("inf")
    # Noise may be beyond what a network is defined for; there both have to fail alike.
    kept = [pairs[0], *(p for p in pairs[1:] if np.isfinite(p[0]).all() or np.isfinite(p[1]).all())]
    one, two = (np.concatenate(column) for column in zip(*kept, strict=True))
    return difference(one, two)


def difference(one: Array, two: Array) -> float:
    """The largest |difference| of outputs (n, *out), as a share of how far those of that class vary.

    How far: the largest distance from their mean over samples. What the dtype of the outputs cannot hold is forgiven: 4 units
    in the last place of the class's largest output. NaN where outputs are not finite, infinity where shapes differ.
    """
    if one.shape != two.shape:
        return float("inf")
    eps = max(np.finfo(part.dtype).eps for part in (one, two))
    one, two = one.astype(np.float64), two.astype(np.float64)
    classes = (-1, one.shape[-1])
    spread = np.abs(one - one.mean(axis=0)).reshape(classes).max(axis=0)
    size = np.abs(one).reshape(classes).max(axis=0)
    beyond = np.abs(one - two).reshape(classes).max(axis=0) - 2 * eps * size - eps**2 * size.max()
    shares = np.maximum(beyond, 0) / np.maximum(spread, np.finfo(np.float64).tiny)  # NaN stays NaN
    return float(shares.max())
