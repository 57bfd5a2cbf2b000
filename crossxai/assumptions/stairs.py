"""Does a score move in steps that no gradient sees: something rounded, compared or picked on the way.

Between two inputs the gradient has to add up to the change of the score. Segment by segment, what is missing is compared with
what bends of the score could make of it, which the change of the gradient tells. What is more is searched for a step, by halves:
where a score bends, the missing part shrinks with the segment; where it steps, it stays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crossxai.model import Array

Rows = npt.NDArray[np.intp]
Look = Callable[[Rows, Array], tuple[Array, Array]]
"""(rows, shares of the way) → scores (m,) there and their slopes along the way, which is 1 long."""

SEGMENTS = 16
"""Of each of two ways between small inputs; half as many of one between large ones."""
SUM, EACH = 3.0, 2.0
"""Missing parts, added up or each by itself, as multiples of what one bend per segment makes of them: 1, and where very many
bend, up to 2.5 and 1.7."""
LEAST = 0.005
"""Missing shares of the score's way up and down below this are not looked into."""
WORST = 4
"""Segments in which a step is searched."""


@dataclass(frozen=True)
class Stairs:
    """found: whether there are steps. share: of the score's way up and down, what no gradient sees."""

    found: bool
    share: float


def stairs(scores: Array, slopes: Array, unit: float, closer: Look, finer: float) -> Stairs:
    """Judge scores (rows, segments + 1) and slopes at equally spaced places of each row's way, looking closer where in doubt.

    unit: the relative rounding of the scores; finer: that of the scores that `closer` gives.
    """
    if not (np.isfinite(scores).all() and np.isfinite(slopes).all()):
        return Stairs(False, 0.0)
    segments = scores.shape[1] - 1
    width = 1 / segments
    missing = _missing(scores[:, :-1], scores[:, 1:], slopes[:, :-1], slopes[:, 1:], width)
    bends = width * np.abs(np.diff(slopes, axis=1)) / np.sqrt(12)
    rounding = 16 * unit * np.abs(scores).max(axis=1)
    way = np.abs(np.diff(scores, axis=1)).sum(axis=1) + np.finfo(np.float64).tiny
    summed, each = np.abs(missing.sum(axis=1)), np.linalg.norm(missing, axis=1)
    lost, expected = np.maximum(summed, each), np.linalg.norm(bends, axis=1) + rounding
    doubtful = (lost > LEAST * way) & ((summed > SUM * expected) | (each > EACH * expected))
    if not doubtful.any():
        return Stairs(False, float((lost / way).max()))
    excess = np.where(doubtful[:, None], np.abs(missing) - bends - rounding[:, None], -np.inf)
    worst = np.argsort(-excess, axis=None)[:WORST]
    rows, places = np.unravel_index(worst[excess.ravel()[worst] > -np.inf], excess.shape)
    fine = finer * 16 * np.abs(scores).max(axis=1)
    steps = _steps(rows, places * width, width, np.abs(slopes).max(axis=1), closer, fine, way)
    share = float((lost / way)[rows].max())
    proven = steps > 0
    return Stairs(bool(2 * proven.sum() >= len(rows) or (steps > LEAST).any()), share)


def _missing(left: Array, right: Array, slope_left: Array, slope_right: Array, width: float) -> Array:
    return np.asarray(right - left - width * (slope_left + slope_right) / 2)


def _steps(rows: Rows, starts: Array, width: float, steepest: Array, look: Look, rounding: Array, way: Array) -> Array:
    """The height of the step in each segment, as a share of the score's way; 0 where there is none."""
    ends = [v.reshape(2, -1) for v in look(np.tile(rows, 2), np.concatenate([starts, starts + width]))]
    steepest = steepest[rows]
    # Down to a millionth of the way, or to where rounding is a tenth of what the score moves by in a segment as narrow.
    levels = int(np.clip(np.log2(width * 0.1 * np.min(way / (rounding + 1e-9 * way))), 3, 16))
    for _ in range(levels):
        width /= 2
        value, slope = look(rows, starts + width)
        steepest = np.maximum(steepest, np.abs(slope))
        halves = [
            _missing(ends[0][0], value, ends[1][0], slope, width),
            _missing(value, ends[0][1], slope, ends[1][1], width),
        ]
        right = np.abs(halves[1]) > np.abs(halves[0])
        starts = np.where(right, starts + width, starts)
        ends = [
            np.stack([np.where(right, new, old[0]), np.where(right, old[1], new)])
            for old, new in zip(ends, (value, slope), strict=True)
        ]
    height = np.abs(_missing(ends[0][0], ends[0][1], ends[1][0], ends[1][1], width))
    proven = height > 4 * rounding[rows] + 8 * width * steepest
    return np.asarray(np.where(proven & np.isfinite(height), height / way[rows], 0.0))
