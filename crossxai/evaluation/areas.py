"""One number from a curve, in the ways that libraries take it."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.integrate import trapezoid

from crossxai.model import Array

Area = Literal["fractions", "trapezoid", "mean", "over_len", "raw"]


def area(curve: Array, fractions: Array, how: Area = "fractions") -> npt.NDArray[np.float64]:
    """Areas (n,) under curves (n, points) over fractions (points,) or (n, points), in [0, 1].

    "fractions": trapezoids over the true fractions. "trapezoid": over equal intervals, summing to 1 (RISE, Xplique).
    "mean": of the points (InterpretDL, pnpxai, ROAD). "over_len": trapezoids of width 1 / points (latec). "raw": of width 1
    (Quantus). For n equal intervals from s0 to sn with T = "trapezoid" and M = "mean": "raw" = n·T,
    "over_len" = n / (n + 1)·T, M - T = ((s0 + sn) / 2 - M) / n. NaN where trapezoids have fewer than two points.
    """
    points = curve.shape[1]
    if how == "mean":
        return np.asarray(curve.mean(axis=1) if points else np.full(len(curve), np.nan))
    if points < 2:
        return np.full(len(curve), np.nan)
    if how == "fractions":
        return np.asarray(trapezoid(curve, fractions, axis=1))
    width = {"trapezoid": 1 / (points - 1), "over_len": 1 / points, "raw": 1.0}[how]
    return np.asarray(trapezoid(curve, dx=width, axis=1))
