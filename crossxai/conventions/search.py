"""Which conventions turn one map into another: the smallest set that closes the gap, and each one's share of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from crossxai.conventions.agreement import ROUNDING, distance
from crossxai.conventions.convention import CONVENTIONS, Option, Setting
from crossxai.errors import Unsupported
from crossxai.model import Array

MOST = 3
"""How many conventions a blind search switches at once."""
BUDGET = 2000
"""How many settings that need passes through the model a blind search looks at."""


class Render(Protocol):
    """Makes the map of a setting; see `crossxai.conventions.recipes.Renderer`."""

    def __call__(self, setting: Setting) -> Array: ...

    def known(self, setting: Setting) -> bool:
        """Whether the map needs no pass through the model."""
        ...


@dataclass(frozen=True, order=True)
class Switch:
    """One convention set to another option."""

    convention: str
    option: Option

    def __str__(self) -> str:
        return f"{self.convention} = {self.option}"


@dataclass(frozen=True)
class Finding:
    """What closes a gap.

    closing: the smallest sets of switches that close it, the closest first; several where the maps cannot tell them apart; ((),)
    where there is no gap, () where none was found: the difference is unexplained. gap: the distance before. left: the distance
    that the first set leaves. shares: of each switch of the first set, its Shapley share of the gap. tried: settings compared;
    skipped: settings left out since they would have cost more passes through the model than allowed.
    """

    closing: tuple[tuple[Switch, ...], ...]
    gap: float
    left: float
    shares: dict[str, float]
    tried: int
    skipped: int = 0

    @property
    def explained(self) -> bool:
        """Whether a set closes the gap."""
        return bool(self.closing)

    @property
    def causes(self) -> str:
        """The switches of the closest set with their shares, the largest first; "unexplained" where no set closes the gap."""
        if not self.explained:
            return "unexplained"
        share = {switch: self.shares.get(str(switch), 1.0) for switch in self.closing[0]}
        return ", ".join(f"{s.convention}: {s.option} ({share[s]:.0%})" for s in sorted(share, key=lambda s: -share[s]))


def switches(setting: Setting, layers: Sequence[str] = ()) -> list[Switch]:
    """Every single change of a setting; layers: the others that the map may be drawn at."""
    return [
        Switch(name, option)
        for name, current in setting.items()
        if name in CONVENTIONS
        for option in CONVENTIONS[name].choices(setting)
        if option != current
    ] + [Switch("layer", layer) for layer in layers if layer != setting["layer"]]


def between(render: Render, start: Setting, end: Setting, wanted: Array, tolerance: float = ROUNDING) -> Finding:
    """Which of the conventions in which two settings differ turn the map of `start` into `wanted`."""
    return _search(render, start, [Switch(k, end[k]) for k in start if start[k] != end[k]], wanted, tolerance, None)


def blind(
    render: Render,
    start: Setting,
    wanted: Array,
    tolerance: float = ROUNDING,
    most: int = MOST,
    budget: int = BUDGET,
    holds: Callable[[Setting], bool] = lambda _setting: True,
    layers: Sequence[str] = (),
) -> Finding:
    """Which conventions, of all that the method has, turn the map of `start` into `wanted`.

    holds: whether a setting that does so does it for all samples, where `wanted` has some of them. layers: the others that the
    map may be drawn at, tried with conventions that need no second pass through the model.
    """
    return _search(render, start, switches(start, layers), wanted, tolerance, most, budget, holds)


def _search(
    render: Render,
    start: Setting,
    every: Sequence[Switch],
    wanted: Array,
    tolerance: float,
    most: int | None,
    budget: int = BUDGET,
    holds: Callable[[Setting], bool] = lambda _setting: True,
) -> Finding:
    gap, tried, skipped = _distance(render, start, wanted), 1, 0
    if gap <= tolerance:
        return Finding(((),), gap, gap, {}, tried)
    for size in range(1, min(len(every), most or len(every)) + 1):
        closing: list[tuple[float, tuple[Switch, ...]]] = []
        for some in _sets(every, size):
            setting = switched(start, some)
            if not render.known(setting):
                if size > 1 and any(switch.convention == "layer" for switch in some):
                    continue
                if not budget:
                    skipped += 1
                    continue
                budget -= 1
            tried += 1
            left = _distance(render, setting, wanted)
            if left <= tolerance and holds(setting):
                closing.append((left, some))
        if closing:
            closing.sort()
            closest = max(10 * closing[0][0], 1e-7)
            sets = tuple(some for left, some in closing if left <= closest)
            return Finding(sets, gap, closing[0][0], shares(render, start, sets[0], wanted), tried, skipped)
    return Finding((), gap, gap, {}, tried, skipped)


def _sets(every: Sequence[Switch], size: int) -> Iterator[tuple[Switch, ...]]:
    """Sets of switches of different conventions."""
    for some in itertools.combinations(every, size):
        if len({switch.convention for switch in some}) == size:
            yield some


def switched(setting: Setting, some: Sequence[Switch]) -> Setting:
    """The setting with some conventions switched."""
    return {**setting, **{switch.convention: switch.option for switch in some}}


def shares(render: Render, start: Setting, some: Sequence[Switch], wanted: Array) -> dict[str, float]:
    """Each switch's Shapley share of the gap that all of them close together; the shares add up to 1.

    The worth of a set is the gap without it less the gap with it (Shapley 1953), since conventions interact: a mean over channels
    and absolute values do not act apart. A set that no library can be asked for closes nothing.
    """
    count = len(some)
    left = {
        members: _distance(render, switched(start, [some[i] for i in members]), wanted)
        for size in range(count + 1)
        for members in itertools.combinations(range(count), size)
    }
    left = {members: value if np.isfinite(value) else left[()] for members, value in left.items()}
    whole = left[()] - left[tuple(range(count))]
    worth = dict.fromkeys((str(switch) for switch in some), 0.0)
    for place, switch in enumerate(some):
        others = [i for i in range(count) if i != place]
        for size in range(count):
            weight = 1 / (count * math.comb(count - 1, size))
            for members in itertools.combinations(others, size):
                worth[str(switch)] += weight * (left[members] - left[tuple(sorted((*members, place)))])
    return {name: value / whole if whole > 0 else float("nan") for name, value in worth.items()}


def _distance(render: Render, setting: Setting, wanted: Array) -> float:
    """The distance to what is wanted; infinite where the shapes differ or the model cannot be asked in that way."""
    try:
        maps = render(setting)
    except Unsupported:
        return float("inf")
    if maps.shape[:-1] != wanted.shape[:-1] or not np.isfinite(maps).all():
        return float("inf")
    apart = distance(maps, wanted)
    return apart if maps.shape == wanted.shape else max(apart, 2 * ROUNDING)
