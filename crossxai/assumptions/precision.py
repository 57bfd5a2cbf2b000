"""How far apart numbers may be that a model gives for the same question."""

from __future__ import annotations

from typing import Any

import numpy as np

from crossxai.model import Array


def rounding(model: Any, outputs: Array) -> float:
    """The relative error of one operation in the precision that the model computes in, as far as it says."""
    stated = _stated(model, outputs.dtype)
    if "bfloat16" in stated:
        return 2.0**-8
    if "float16" in stated or "half" in stated:
        return 2.0**-11
    return float(np.finfo(outputs.dtype).eps) if np.issubdtype(outputs.dtype, np.floating) else 1e-7


def half(model: Any) -> str | None:
    """The name of the half precision that a model computes in; None for any other."""
    stated = _stated(model)
    return "bfloat16" if "bfloat16" in stated else "float16" if "float16" in stated else None


def _stated(model: Any, otherwise: Any = "") -> str:
    return str(getattr(model, "computes", getattr(model, "dtype", otherwise)))


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
    """Whether two arrays are further apart than allowed anywhere; NaN equals NaN."""
    with np.errstate(invalid="ignore"):
        apart = np.abs(one.astype(np.float64) - other.astype(np.float64)) > allowed
    return bool((apart | (np.isnan(one) != np.isnan(other))).any())
