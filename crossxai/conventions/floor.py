"""The noise floor: how far one library's maps lie apart for reasons that are no convention."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property

import numpy as np

from crossxai.attribution import Explainer
from crossxai.conventions.agreement import ROUNDING, distance
from crossxai.errors import CrossXAIError
from crossxai.model import Array
from crossxai.question import Question

SEEDS = 4
"""How many seeds a sampled method is drawn with beside its own; 10 pairs."""
NUDGES = 2
"""How many times the inputs' last bits are drawn."""
MARGINS = {"rounding": 3, "batch": 3, "threads": 3, "precision": 2}
"""How many times each may two maps differ and count as equal: of the first three few are drawn; of two maps in float32, each may
be so far from the exact one."""
SUSPECT = 0.05
"""A relative L2 that rounding alone may reach; the floor is measured for differences below it."""


@dataclass(frozen=True, eq=False)
class Floor:
    """What a library's maps differ by from themselves, as the largest relative L2 of a sample.

    Each is measured when it is first looked at, since it costs as much as the maps themselves: a difference that is far above
    rounding needs no floor.

    question, maps: the maps (n, y, x, channels) and what they are of. draw: makes maps of a question again, with a seed so many
    places on. sampled: whether the method draws. like: the floor of the same explainer on a model that is the same function;
    its seeds stand for this one's.
    """

    question: Question
    maps: Array
    draw: Callable[[Question, int], Array]
    sampled: bool
    like: Floor | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        return f"Floor({', '.join(f'{name} {value:.2g}' for name, value in self.measured.items())})"

    @cached_property
    def seed(self) -> float:
        """Between seeds, the largest of all pairs; 0 for a method that draws nothing."""
        if self.like is not None:
            return self.like.seed
        if not self.sampled:
            return 0.0
        drawn = [self.maps, *(self.draw(self.question, 1000 + step) for step in range(1, SEEDS + 1))]
        return max(distance(a, b) for a, b in itertools.combinations(drawn, 2))

    @cached_property
    def batch(self) -> float:
        """In another batch size."""
        smaller = replace(self.question, batch_size=max(1, self.question.batch_size // 2 - 1))
        return distance(self.draw(smaller, 0), self.maps)

    @cached_property
    def rounding(self) -> float:
        """Where the inputs' last bits are drawn anew, which flips a ReLU or the tie of a max-pool here and there."""
        return max(distance(self.draw(nudged(self.question, nudge), 0), self.maps) for nudge in range(NUDGES))

    @cached_property
    def threads(self) -> float:
        """In another number of threads; NaN where the model's framework cannot change it once it runs, as TensorFlow."""
        if not hasattr(self.question.model, "other_threads"):
            return float("nan")
        with self.question.model.other_threads():
            return distance(self.draw(self.question, 0), self.maps)

    @cached_property
    def precision(self) -> float:
        """On a copy of the model in float64: what it costs to compute in float32, or less.

        NaN where there is no such copy, or the library does not take it, and for a method that draws, which draws others there.
        """
        exact = None if self.sampled else in_float64(self.question)
        if exact is None:
            return float("nan")
        try:
            return distance(self.draw(exact, 0), self.maps)
        except (CrossXAIError, MemoryError):  # its code may know float32 alone
            return float("nan")

    @property
    def seeds(self) -> float:
        """The distance up to which two maps differ by no more than two seeds do, with a tenth to spare."""
        return 1.1 * self.seed

    @property
    def tolerance(self) -> float:
        """The distance up to which two maps count as equal."""
        return self._covering(np.inf)

    def tolerance_for(self, gap: float) -> float:
        """The distance up to which maps count as equal, measured only as far as a gap between them makes it necessary."""
        if gap <= ROUNDING:
            return ROUNDING
        known = self.like.tolerance_for(gap) if self.like is not None else 0.0
        return known if gap <= known else self._covering(gap)

    def _covering(self, gap: float) -> float:
        """The largest of all that is measured with its margin, until a gap is covered."""
        known = ROUNDING
        for name, margin in MARGINS.items():
            if gap <= known:
                break
            known = max(known, np.nan_to_num(margin * getattr(self, name)))
        return float(known)

    @property
    def measured(self) -> Mapping[str, float]:
        """What was looked at, as far as it is known: "seed" and the names of `MARGINS`; NaN where it cannot be measured."""
        known = vars(self)
        return {name: known[name] for name in ("seed", *MARGINS) if name in known}


def floor(explainer: Explainer, question: Question, maps: Array, like: Floor | None = None) -> Floor:
    """The floor of an explainer whose maps of a question are known."""
    sampled = "seed" in {f.name for f in fields(explainer)}  # type: ignore[arg-type]

    def draw(asked: Question, step: int) -> Array:
        again = replace(explainer, seed=explainer.seed + step) if sampled else explainer  # type: ignore[attr-defined, type-var]
        return again(asked).values[0]

    return Floor(question, maps, draw, sampled, like)


def nudged(question: Question, draw: int) -> Question:
    """The question with every input value moved to a neighbouring number, up or down, or left."""
    rng = np.random.default_rng(draw)
    inputs = tuple(np.nextafter(v, v + rng.integers(-1, 2, v.shape).astype(v.dtype)) for v in question.inputs)
    bounded = tuple(
        v if m.range is None else np.clip(v, *(v.dtype.type(end) for end in m.range))
        for v, m in zip(inputs, question.model.modalities, strict=True)
    )
    return replace(question, inputs=bounded)


def in_float64(question: Question) -> Question | None:
    """The question to its model's copy in float64, unchecked, as the copy is no other model; None where there is none."""
    copy = question.model.exact() if hasattr(question.model, "exact") else None
    if copy is None:
        return None
    return replace(question, model=copy, inputs=tuple(v.astype(np.float64) for v in question.inputs), check="off")
