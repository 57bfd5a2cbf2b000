"""Step rules, after how many units a curve has its points, and areas, one number from a curve: as libraries take them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt
from scipy.integrate import trapezoid

from crossxai.errors import InvalidInput, UnknownName
from crossxai.model import Array

Counts = npt.NDArray[np.intp]


class Rule(Protocol):
    """How many of a map's units are changed at each point, never falling; `reads = False` in a class: by their number alone."""

    def counts(self, relevance: Array) -> Counts:
        """Numbers (points,) for the relevance (units,) of one map."""
        ...


StepsLike = int | str | Mapping[str, Any] | Rule
"""A number of equal intervals, or a rule by name and value: {"pixels": 224}, {"linspace": 10}, {"ceil": 20}, {"floor": 10},
{"percentiles": [90, 50, 10]}; with more parameters, {"pixels": {"units": 10, "most": 50}}. "auto", or {"auto": {"of": 100,
"points": 12, "precision": 0.003}}: the area of that many equal steps, estimated from a few of its points."""


def counts(units: int, steps: int) -> Counts:
    """Numbers of units removed at each point: 0 … units, evenly spaced, distinct, at most steps + 1 of them."""
    return np.unique(np.rint(np.linspace(0, units, steps + 1)).astype(np.intp))


@dataclass(frozen=True)
class Fractions:
    """n equal intervals from nothing to everything, rounded to whole units; fewer if there are fewer units. Ours."""

    intervals: int
    reads: ClassVar[bool] = False

    def counts(self, relevance: Array) -> Counts:
        return counts(len(relevance), self.intervals)


@dataclass(frozen=True)
class Pixels:
    """A fixed number of units a step, the last one the rest (RISE, Quantus, latec); most: of intervals, by larger steps."""

    units: int
    most: int = 0
    reads: ClassVar[bool] = False

    def counts(self, relevance: Array) -> Counts:
        total = len(relevance)
        step = max(self.units, -(-total // self.most) if self.most else 1)
        return np.append(np.arange(0, total, step), total)


@dataclass(frozen=True)
class Linspace:
    """n + 1 points of an integer linspace, cut and not rounded (Xplique); with fewer units than intervals, points repeat."""

    intervals: int
    reads: ClassVar[bool] = False

    def counts(self, relevance: Array) -> Counts:
        return np.linspace(0, len(relevance), self.intervals + 1, dtype=np.intp)


@dataclass(frozen=True)
class Ceil:
    """Steps of ceil(units / n), the last one shorter, so n intervals at most (torch-cam)."""

    intervals: int
    reads: ClassVar[bool] = False

    def counts(self, relevance: Array) -> Counts:
        return Pixels(-(-len(relevance) // self.intervals)).counts(relevance)


@dataclass(frozen=True)
class Floor:
    """n points with steps of floor(units / n), the last one taking the rest, more than two steps' worth (pnpxai)."""

    points: int
    reads: ClassVar[bool] = False

    def counts(self, relevance: Array) -> Counts:
        total = len(relevance)
        step = max(total // self.points, 1)
        inner = np.minimum(step * np.arange(self.points - 1), total)
        return np.unique(np.append(inner, total))


@dataclass(frozen=True)
class Percentiles:
    """What lies at or above (strict: above) percentiles of the map's *values* (ROAD in pytorch-grad-cam, InterpretDL), falling
    from 100; nothing and everything are added as end points. A map of ties makes large jumps."""

    levels: tuple[float, ...]
    strict: bool = False

    def __post_init__(self) -> None:
        levels = np.atleast_1d(np.asarray(self.levels, np.float64))
        if levels.ndim != 1 or not levels.size or not ((levels >= 0) & (levels <= 100)).all():
            raise InvalidInput(f"steps: percentiles are numbers from 0 to 100, got {self.levels!r}")
        if not isinstance(self.strict, bool):
            raise InvalidInput(f"steps: percentiles' strict is true or false, got {self.strict!r}")
        object.__setattr__(self, "levels", tuple(np.sort(levels)[::-1].tolist()))

    def counts(self, relevance: Array) -> Counts:
        thresholds = np.percentile(relevance, self.levels)[:, None]
        above = relevance > thresholds if self.strict else relevance >= thresholds
        return np.concatenate([[0], above.sum(axis=1), [len(relevance)]]).astype(np.intp)


@dataclass(frozen=True)
class Auto:
    """The area under `of` equal steps, estimated without bias from few of its points (see `auto.estimate`); no curve is kept.

    points: masked images per sample and curve to begin with, both ends among them, 4 or more. precision: the half-width of the
    95 % interval to reach, in the score's units, by a second round of up to max_points (None: the whole curve).
    """

    of: int = 100
    points: int = 12
    precision: float | None = None
    max_points: int | None = None
    reads: ClassVar[bool] = False

    def __post_init__(self) -> None:
        whole = {"of": (self.of, 1), "points": (self.points, 4)}
        if self.max_points is not None:
            whole["max_points"] = (self.max_points, self.points)
        for name, (number, least) in whole.items():
            if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < least:
                why = {"points": " (two ends, two draws)", "max_points": f", points = {self.points}"}.get(name, "")
                raise InvalidInput(
                    f'steps = "auto": {name} must be a whole number of at least {least}{why}, got {number!r}'
                )
        wish = self.precision
        if wish is not None and not (isinstance(wish, int | float) and math.isfinite(wish) and wish > 0):
            raise InvalidInput(
                f'steps = "auto": precision is the half-width of the interval to reach, above 0, got {wish!r}'
            )

    def counts(self, relevance: Array) -> Counts:
        """The points of the curve whose area is estimated."""
        return Fractions(self.of).counts(relevance)


_NAMED: dict[str, type[Any]] = {
    "fractions": Fractions,
    "pixels": Pixels,
    "linspace": Linspace,
    "ceil": Ceil,
    "floor": Floor,
    "percentiles": Percentiles,
    "auto": Auto,
}


def resolve(steps: StepsLike, metric: str) -> Rule:
    """The rule behind a number of steps, a name with its value, or itself; raises `InvalidInput` or `UnknownName`."""
    if isinstance(steps, str) and steps == "auto":
        return Auto()
    if isinstance(steps, int | np.integer | float | str):
        return Fractions(_whole(steps, metric))
    if hasattr(steps, "counts"):
        return _checked(steps, metric)
    if not isinstance(steps, Mapping) or len(steps) != 1:
        raise InvalidInput(
            f"{metric}: steps are a whole number, 'auto', or one rule, such as {{'pixels': 224}}; got {steps!r}"
        )
    name, value = next(iter(steps.items()))
    if name not in _NAMED:
        raise UnknownName("step rule", str(name), _NAMED)
    kind = _NAMED[name]
    known = [f.name for f in fields(kind)]
    values = value if isinstance(value, Mapping) else {known[0]: value}
    if not set(values) <= set(known):
        raise InvalidInput(f"{metric}: step rule {name!r} has {', '.join(sorted(known))}; got {dict(values)!r}")
    return _checked(kind(**values), metric)


def describe(rule: Any) -> Any:
    """Plain data that `resolve` turns back into the rule; for a rule of yours, its name."""
    if isinstance(rule, Fractions):
        return rule.intervals
    if type(rule) is Auto:
        return {"auto": {f.name: value for f in fields(rule) if (value := getattr(rule, f.name)) is not None}}
    for name, kind in _NAMED.items():
        if type(rule) is kind:
            values = {f.name: getattr(rule, f.name) for f in fields(kind) if getattr(rule, f.name) != f.default}
            plain = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
            return {name: plain if len(plain) > 1 else next(iter(plain.values()))}
    return type(rule).__qualname__


def _checked(rule: Any, metric: str) -> Rule:
    for name in ("intervals", "units", "points"):
        if hasattr(rule, name):
            _whole(getattr(rule, name), metric)
    if isinstance(rule, Floor) and rule.points < 2:
        raise InvalidInput(f"{metric}: steps: floor needs at least 2 points, got {rule.points}")
    if isinstance(rule, Pixels) and rule.most != 0:
        _whole(rule.most, metric)
    checked: Rule = rule
    return checked


def _whole(number: object, metric: str) -> int:
    if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 1:
        hint = ", or 'auto'" if isinstance(number, str) else ""
        raise InvalidInput(f"{metric}: steps must be a whole number of at least 1{hint}, got {number!r}")
    return int(number)


Area = Literal["fractions", "trapezoid", "mean", "over_len", "raw"]


def area(curve: Array, fractions: Array, how: Area = "fractions") -> npt.NDArray[np.float64]:
    """Areas (n,) under curves (n, points) over fractions (points,) or (n, points), in [0, 1].

    "fractions": trapezoids over the true fractions. "trapezoid": over n equal intervals (RISE, Xplique); "raw" is n times that
    (Quantus), "over_len" n / (n + 1) times (latec). "mean": of the points (InterpretDL, pnpxai, ROAD). NaN without two points.
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
