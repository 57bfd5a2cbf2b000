"""What a model is measured with: samples and altered copies of them, batches, its copy in float64, and allowed rounding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from crossxai.batching import batched
from crossxai.errors import CrossXAIError
from crossxai.model import Array, Cotangent, Differentiable, Inputs, Model


def two_samples(inputs: Inputs, seed: int = 0) -> Inputs:
    """Two samples that show something: the images that vary most, the first row of a table and the one farthest from it, a sample
    and a shuffled copy of it where there is no other."""
    if len(inputs[0]) == 1:
        return tuple(np.concatenate([values, shuffled(values, seed)]) for values in inputs)
    rows = telling(inputs)
    return tuple(values[rows] for values in inputs)


def telling(inputs: Inputs) -> npt.NDArray[np.intp]:
    """Which samples show something, two of them in their order, or the only one."""
    if len(inputs[0]) < 2:
        return np.arange(len(inputs[0]))
    images = [values for values in inputs if values.ndim > 2]
    if images:
        vivid = sum(v.reshape(len(v), -1).std(axis=1) / max(float(v.std()), 1e-12) for v in images)
        return np.sort(np.argsort(-np.round(vivid, 1), kind="stable")[:2])
    away = sum(np.abs(v - v[:1]).reshape(len(v), -1).sum(axis=1) for v in inputs)
    return np.array([0, max(1, int(np.argmax(away)))])


def shuffled(values: Array, seed: int = 0) -> Array:
    """Samples (n, *space, features) with the places of each in another order; tables as they are."""
    if values.ndim < 3:
        return values.copy()
    order = np.random.default_rng([seed, 7]).permutation(int(np.prod(values.shape[1:-1])))
    return np.ascontiguousarray(values.reshape(len(values), len(order), -1)[:, order].reshape(values.shape))


def flat(values: Array) -> Array:
    """Samples (n, *space, features) that show nothing: each feature's smallest value everywhere."""
    lowest = values.min(axis=tuple(range(values.ndim - 1)))
    return np.broadcast_to(lowest, values.shape).astype(values.dtype, copy=True)


def dimmed(values: Array) -> Array:
    """Samples half as strong: half-way to each feature's smallest value; tables as they are."""
    return values.copy() if values.ndim < 3 else ((values + flat(values)) / 2).astype(values.dtype)


AT_ONCE = 8
SMALL = 3 * 64 * 64
"""Samples of at most so many numbers go through a model all at once."""


def small(inputs: Inputs) -> bool:
    """Whether samples are so small that many copies cost little."""
    return bool(sum(v[0].size for v in inputs) <= SMALL)


def outputs_in_batches(model: Model, inputs: Inputs, size: int = 0) -> Array:
    """The model's outputs (n, *out), in batches of a size; of 8, or of 64 small samples, if not given."""
    size = size or _size(inputs)
    parts = batched(len(inputs[0]), size, lambda part: np.array(model.predict(tuple(v[part] for v in inputs))))
    return np.concatenate(parts)


def gradients_in_batches(model: Differentiable, inputs: Inputs, cotangent: Cotangent) -> tuple[Array, Inputs]:
    """Outputs (n, *out) and the gradient at each input."""
    parts = batched(len(inputs[0]), _size(inputs), lambda part: model.vjp(tuple(v[part] for v in inputs), cotangent))
    every, slopes = zip(*parts, strict=True)
    return np.concatenate(every), tuple(np.concatenate(column) for column in zip(*slopes, strict=True))


def _size(inputs: Inputs) -> int:
    return 8 * AT_ONCE if small(inputs) else AT_ONCE


def rounding(model: Any, outputs: Array) -> float:
    """The relative error of one operation in the precision that the model computes in, as far as it says."""
    precision = half(model, outputs.dtype)
    if precision is not None:
        return 2.0**-8 if precision == "bfloat16" else 2.0**-11
    return float(np.finfo(outputs.dtype).eps) if np.issubdtype(outputs.dtype, np.floating) else 1e-7


def half(model: Any, otherwise: Any = "") -> str | None:
    """The name of the half precision that a model, or else its outputs, are computed in; None for any other."""
    stated = str(getattr(model, "computes", "") or getattr(model, "dtype", otherwise))
    return "bfloat16" if "bfloat16" in stated else "float16" if "float16" in stated or "half" in stated else None


def allowance(model: Any, outputs: Array) -> Array:
    """The largest difference, per output (…, *out), that order of summation explains; (n, *out) → an array that broadcasts.

    Rounding is a share of the outputs' size, and more where large numbers cancel inside, which shows in how they vary.
    """
    rows = outputs.reshape(len(outputs), -1).astype(np.float64)
    finite = np.where(np.isfinite(rows), rows, 0.0)
    size, spread = np.abs(finite).max(initial=0.0), np.ptp(finite, axis=0).max(initial=0.0)
    unit = rounding(model, outputs)
    return np.asarray(256 * unit * size + 2048 * unit * spread + np.finfo(np.float64).tiny)


def differ(one: Array, other: Array, allowed: Array) -> bool:
    """Whether two arrays differ by more than allowed anywhere; NaN equals NaN."""
    with np.errstate(invalid="ignore"):
        beyond = np.abs(one.astype(np.float64) - other.astype(np.float64)) > allowed
    return bool((beyond | (np.isnan(one) != np.isnan(other))).any())


OUTPUTS, GRADIENTS = 1e-3, 0.25
"""A copy whose outputs, or gradients, are further from the model's than this share of them is another network. Where values are
tied, as in a flat sky before a max-pool, rounding picks another: gradients of torchvision's networks then differ by 2 to 10 %,
else by a millionth."""


Result = tuple[Array, Inputs]
"""A model's outputs, and the arrays that were computed beside them: gradients, a layer's activation."""


@dataclass(frozen=True)
class AtPrecision:
    """A model to measure with, inputs in its precision, and its relative rounding."""

    model: Differentiable
    inputs: Inputs
    unit: float


def finest(own: AtPrecision, result: Result, measure: Callable[[AtPrecision], Result]) -> tuple[AtPrecision, Result]:
    """A model's copy in float64 and its result, where there is one that computes the same; else the model and its own result."""
    copy = own.model.exact() if own.unit > 1e-12 and hasattr(own.model, "exact") else None
    if copy is None:
        return own, result
    twin = AtPrecision(copy, tuple(v.astype(np.float64) for v in own.inputs), float(np.finfo(np.float64).eps))
    try:
        outputs, arrays = measure(twin)
    except (CrossXAIError, MemoryError):  # its code may know float32 alone
        return own, result
    loose = max(1.0, rounding(own.model, result[0]) / 1e-5)
    alike = _same(result[0], outputs, min(OUTPUTS * loose, 0.05)) and all(
        _same(one, other, GRADIENTS) for one, other in zip(result[1], arrays, strict=True)
    )
    return (twin, (outputs, arrays)) if alike else (own, result)


def _same(own: Array, exact: Array, tolerance: float) -> bool:
    """Whether an array of the model is that of its copy, up to a share of its size."""
    if own.shape != exact.shape or not (np.isfinite(own).all() and np.isfinite(exact).all()):
        return False
    distance = float(np.linalg.norm(own.astype(np.float64) - exact))
    return bool(distance <= tolerance * float(np.linalg.norm(exact)))


SIDE = 64
"""Pixels a side of images of noise, for a model that says no size."""


def noise(model: Model, size: int | None = None, n: int = 2) -> tuple[Array, ...]:
    """Images, volumes or rows of noise in each input's range, as large as the model takes them."""
    side, rng = size or SIDE, np.random.default_rng(0)
    sides = getattr(getattr(model, "recognised", None), "size", None) or (side, side)
    inputs = []
    for modality in model.modalities:
        low, high = modality.range or (-1.0, 1.0)
        space = sides if len(modality.axes) == len(sides) + 1 else (side,) * (len(modality.axes) - 1)
        inputs.append(rng.uniform(low, high, (n, *space, len(modality.features))).astype(np.float32))
    return tuple(inputs)
