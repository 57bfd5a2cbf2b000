"""Is a gradient the gradient, and does the score move in steps that no gradient sees: `slopes` and `stairs`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from crossxai.model import Array

Rows = npt.NDArray[np.intp]

Score = Callable[[Array, Rows], Array]
"""(copies, rows) → scores (m,) of a random mixture of all outputs."""
Gradient = Callable[[Array, Rows], Array]
"""(copies, rows) → the gradients of those scores at the copies."""

POINTS = 16
"""At which the gradient is taken along a step, for the second look."""
BESIDE = 3
"""Points beside a sample, off its ties, at which float64 looks again."""
ROUGHLY = 0.4
"""Differences over a short step bend by up to 0.3 at layers before many ReLUs; a way that is cut makes 0.7 and more."""
SEEN = 0.1
"""A slope below this share of that along a random direction says little: something close to it may be so by chance."""
DIRECTIONS = 4
"""More of them, in float64, where a gradient cannot be had elsewhere."""


class Slopes(NamedTuple):
    """right: whether the gradient is that of the score; None if it is unclear. error: the largest relative difference."""

    right: bool | None
    error: float


class _Steps(NamedTuple):
    """Two steps and one that shows rounding, as shares of the scale; what differences may be off by, as shares of the slope
    itself and of the slope along a random direction."""

    first: float
    second: float
    tiny: float
    of_slope: float
    of_typical: float


def _steps(unit: float) -> _Steps:
    if unit < 1e-12:
        return _Steps(2e-6, 5e-7, 1e-7, 1e-6, 1e-3)
    return _Steps(1e-2, 2.5e-3, 1e-5, 0.03, 0.03) if unit < 1e-5 else _Steps(5e-2, 2.5e-2, 1e-3, 0.1, 0.1)


class _Compared(NamedTuple):
    """By point: the slope that the gradient says, its difference from differences, whether it is wrong, whether that is clear."""

    relative: Array
    wrong: npt.NDArray[np.bool_]
    clear: npt.NDArray[np.bool_]
    flat: npt.NDArray[np.bool_]
    unit: float


def slopes(
    at: Array, gradient: Array, scale: Array, score: Score, again: Gradient | None, unit: float, tied: bool = False
) -> Slopes:
    """Compare the gradient (n, *shape) at points `at` (n, *shape) with central differences of the score along a few directions.

    A step is small enough that little bends on the way and large enough that rounding does not show; a second, shorter one and a
    third that leaves only rounding measure both. What is unclear or seems wrong gets a second look: in float64 beside these
    points, off their ties; else at the mean gradient along the step, which has to add up to the change of the score.

    scale: what the values vary by, broadcast to `at`, 0 where they must stay. again: gives the gradient elsewhere, for a second
    look. unit: relative rounding of the model. tied: many values are the same: a later max-pool has no one gradient here.
    """
    direction = _direction(at, gradient, scale)
    steps = _steps(unit)
    if unit < 1e-12 and (error := _agrees(at, gradient, direction, score, steps)) is not None:
        return Slopes(True, error)
    compared = _compare(at, np.arange(len(at)), gradient, direction, score, steps, unit)
    if not np.isfinite(compared.relative).all():
        return Slopes(None, float("nan"))
    # Where nothing moves beyond rounding, no gradient says so.
    if not compared.wrong.any() and (compared.clear | compared.flat).all():
        return Slopes(True, float(compared.relative[compared.clear].max(initial=0.0)))
    if again is None and unit < 1e-12 and not tied:
        return _other_directions(at, gradient, scale, score, steps, unit)
    if again is None:
        return _more_directions(at, gradient, scale, score, steps.second, max(unit, compared.unit))
    if unit < 1e-12:
        beside = _beside(at, direction, scale, score, again, steps, unit)
        if beside.right is not None:
            return beside
        return _second_look(at, direction, 1e-2, score, again, max(unit, compared.unit))
    return _second_look(at, direction, steps.first, score, again, max(unit, compared.unit))


def _agrees(at: Array, gradient: Array, direction: Array, score: Score, steps: _Steps) -> float | None:
    """How well the shorter step alone agrees with a gradient in float64; None where it is not so close that nothing but a right
    gradient explains it: what rounding and bends do is measured then, by other steps."""
    ((up, down),) = _both_ways(at, np.arange(len(at)), [steps.second * direction], score)
    expected, typical = _along(gradient, direction), _typical(gradient, direction)
    error = np.abs((up - down) / (2 * steps.second) - expected)
    size = np.maximum(np.abs(expected), typical)
    if not ((error <= steps.of_typical * typical) & (np.abs(expected) >= SEEN * size) & (typical > 0)).all():
        return None
    return float((error / typical).max())


def _compare(
    at: Array, rows: Rows, gradient: Array, direction: Array, score: Score, steps: _Steps, unit: float
) -> _Compared:
    """Differences of the score of samples `rows` at points `at` beside the slope along a direction that the gradient says."""
    lengths = np.array([steps.first, steps.second, steps.tiny])
    table = _both_ways(at, rows, [step * direction for step in lengths], score)
    moves = table[:, 0] - table[:, 1]
    differences = moves / (2 * lengths[:, None])
    expected, typical = _along(gradient, direction), _typical(gradient, direction)
    size = np.maximum(np.maximum(np.abs(expected), np.abs(differences[1])), typical)
    largest = np.abs(table).max(axis=(0, 1))
    # How far a step that moves next to nothing is off: rounding, of parts in a lower precision as well.
    noise = np.maximum(16 * unit * largest, 4 * np.abs(moves[2] - 2 * steps.tiny * differences[1]))
    rounding = noise / steps.second
    unclear = np.abs(differences[0] - differences[1]) + rounding
    error = np.abs(differences[1] - expected)
    relative = error / np.maximum(typical if unit < 1e-12 else size, np.finfo(np.float64).tiny)
    tolerated = steps.of_slope * size + steps.of_typical * np.maximum(typical, 0 if unit < 1e-12 else size)
    return _Compared(
        relative,
        error > tolerated + 3 * unclear,
        unclear <= 0.25 * size,
        size <= rounding,
        float((noise / np.maximum(largest, np.finfo(np.float64).tiny)).max()) / 16,
    )


def _both_ways(at: Array, rows: Rows, moves: Sequence[Array], score: Score) -> Array:
    """Scores (moves, 2, n) of samples `rows` at points `at`, moved forth and back by each of the moves."""
    copies = np.concatenate([at + (sign * move).astype(at.dtype) for move in moves for sign in (1, -1)])
    return score(copies, np.tile(rows, 2 * len(moves))).astype(np.float64).reshape(len(moves), 2, len(at))


def _beside(
    at: Array, direction: Array, scale: Array, score: Score, again: Gradient, steps: _Steps, unit: float
) -> Slopes:
    """Whether the gradient is right at a point beside each sample, where no two values are tied; None if none tells."""
    rows, rng = np.arange(len(at)), np.random.default_rng(17)
    wrong, relative = np.ones(len(at), bool), np.zeros(len(at))
    for _ in range(BESIDE):
        moved = at + 1e-3 * scale * rng.uniform(-1, 1, at.shape)
        compared = _compare(moved, rows, again(moved, rows), direction, score, steps, unit)
        if not compared.wrong.any() and (compared.clear | compared.flat).all():
            return Slopes(True, float(compared.relative.max()))
        wrong, relative = wrong & compared.wrong, np.maximum(relative, compared.relative)
    # A fault shows wherever one looks, a kink within a step at one point of many.
    return Slopes(False, float(relative[wrong].max())) if wrong.any() else Slopes(None, float("nan"))


def _other_directions(at: Array, gradient: Array, scale: Array, score: Score, steps: _Steps, unit: float) -> Slopes:
    """Whether a gradient in float64 is right along any of a few more directions; wrong if it is right along none."""
    rows, wrong, relative = np.arange(len(at)), [], []
    for seed in range(12, 12 + DIRECTIONS):
        compared = _compare(at, rows, gradient, _direction(at, gradient, scale, seed), score, steps, unit)
        wrong.append(compared.wrong)
        relative.append(compared.relative)
    everywhere = np.all(wrong, axis=0)
    if everywhere.any():
        return Slopes(False, float(np.max(np.array(relative)[:, everywhere])))
    return Slopes(True, float(np.median(relative, axis=0).max()))


def _more_directions(at: Array, gradient: Array, scale: Array, score: Score, step: float, unit: float) -> Slopes:
    """Whether differences along eight more directions, taken together, are those that the gradient gives, roughly."""
    directions = [_direction(at, gradient, scale, seed) for seed in range(12, 20)]
    table = _both_ways(at, np.arange(len(at)), [step * d for d in directions], score)
    differences = (table[:, 0] - table[:, 1]) / (2 * step)
    expected = np.stack([_along(gradient, d) for d in directions])
    size = max(float(np.linalg.norm(differences)), float(np.linalg.norm(expected)))
    rounding = 16 * unit * float(np.abs(table).max()) / step * np.sqrt(differences.size)
    error = float(np.linalg.norm(differences - expected))
    if not np.isfinite(error) or rounding > 0.25 * size:
        return Slopes(None, float("nan"))
    return Slopes(error <= ROUGHLY * size, error / max(size, np.finfo(np.float64).tiny))


def _second_look(at: Array, direction: Array, step: float, score: Score, again: Gradient, unit: float) -> Slopes:
    n, rows = len(at), np.arange(len(at))
    places = step * (2 * (np.arange(POINTS) + 0.5) / POINTS - 1)
    up, down = (score(at + (sign * step * direction).astype(at.dtype), rows).astype(np.float64) for sign in (1, -1))
    copies = np.concatenate([at + (place * direction).astype(at.dtype) for place in places])
    along = _along(again(copies, np.tile(rows, POINTS)), np.concatenate([direction] * POINTS)).reshape(POINTS, n)
    expected = 2 * step * along.mean(axis=0)
    # What the halves of the points disagree by is what more points would still change.
    unsure = 2 * step * np.abs(along[::2].mean(axis=0) - along[1::2].mean(axis=0)) + 16 * unit * np.abs(up)
    size = np.maximum(np.abs(up - down), np.abs(expected))
    error = np.abs(up - down - expected)
    relative = error / np.maximum(size, np.finfo(np.float64).tiny)
    return Slopes(not (error > 0.1 * size + 2 * unsure).any(), float(relative.max()))


def _direction(at: Array, gradient: Array, scale: Array, seed: int = 11) -> Array:
    """A direction per sample, of about the size of the values: coarse random patterns, and the gradient's own, mixed with noise.

    Coarse patterns add up over many places where noise averages out. The gradient's own direction alone would hide what it lacks.
    """
    rng = np.random.default_rng(seed)
    size = np.abs(gradient).max(axis=tuple(range(1, gradient.ndim)), keepdims=True)
    own = np.divide(gradient, size, out=np.zeros(gradient.shape), where=size > 0)
    own = np.sign(own) * np.sqrt(np.abs(own)) + 0.5 * rng.normal(size=at.shape)
    return np.stack([own[i] if i % 2 else _coarse(at.shape[1:], rng) for i in range(len(at))]) * scale


def _coarse(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """A pattern of random signs on at most 4 cells along each axis of space, with a random size per feature."""
    cells = rng.choice([-1.0, 1.0], size=[min(4, s) for s in shape[:-1]] + [1]) * rng.uniform(0.5, 1.0, shape[-1])
    if len(shape) == 1:
        cells = cells * rng.choice([-1.0, 1.0], size=shape)
    for axis, size in enumerate(shape[:-1]):
        cells = np.take(cells, np.arange(size) * cells.shape[axis] // size, axis=axis)
    return np.asarray(cells)


def _along(gradient: Array, direction: Array) -> Array:
    """The slope along a direction, (n,), added up in float64."""
    return np.asarray((gradient.astype(np.float64) * direction).reshape(len(gradient), -1).sum(axis=1))


def _typical(gradient: Array, direction: Array) -> Array:
    """The size of the slope along a random direction of this length, (n,)."""
    g, d = (v.reshape(len(v), -1).astype(np.float64) for v in (gradient, direction))
    return np.asarray(np.linalg.norm(g, axis=1) * np.linalg.norm(d, axis=1) / np.sqrt(g.shape[1]))


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


class Stairs(NamedTuple):
    """stepped: whether there are steps. share: of the score's way up and down, what no gradient sees."""

    stepped: bool
    share: float


def stairs(scores: Array, slopes: Array, unit: float, closer: Look, finer: float) -> Stairs:
    """Look for steps in scores (rows, segments + 1), with slopes at equally spaced places of each row's way.

    The gradient has to add up to the change of the score. Segment by segment, the missing part is compared with what bends of the
    score could make of it, which the change of the gradient tells. A larger one is searched for a step, by halves: where a score
    bends, the missing part shrinks with the segment; where something is rounded, compared or picked, it stays.

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
    steps = _step_heights(rows, places * width, width, np.abs(slopes).max(axis=1), closer, fine, way)
    share = float((lost / way)[rows].max())
    proven = steps > 0
    return Stairs(bool(2 * proven.sum() >= len(rows) or (steps > LEAST).any()), share)


def _missing(left: Array, right: Array, slope_left: Array, slope_right: Array, width: float) -> Array:
    return np.asarray(right - left - width * (slope_left + slope_right) / 2)


def _step_heights(
    rows: Rows, starts: Array, width: float, steepest: Array, look: Look, rounding: Array, way: Array
) -> Array:
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
