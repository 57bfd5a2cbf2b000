"""The noise floor: how far one library's maps lie apart for reasons that are no convention."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from crossxai.attribution import Explainer
from crossxai.conventions.agreement import ROUNDING, distance
from crossxai.question import Question

SEEDS = 8
"""How many seeds a sampled method is drawn with; 28 pairs."""
NUDGES = 2
"""How many times the inputs' last bits are drawn."""


@dataclass(frozen=True)
class Floor:
    """What a library's maps differ by from themselves, as the largest relative L2 of a sample.

    seed: between seeds, the largest of all pairs; 0 for a method that draws nothing. batch: in another batch size. rounding:
    where the inputs' last bits are drawn anew, which flips a ReLU or the tie of a max-pool here and there.
    """

    seed: float
    batch: float
    rounding: float

    @property
    def seeds(self) -> float:
        """The distance up to which two maps differ by no more than two seeds do, with a tenth to spare."""
        return 1.1 * self.seed

    @property
    def tolerance(self) -> float:
        """The distance up to which two maps count as equal."""
        return max(ROUNDING, 3 * self.batch, 3 * self.rounding)


def floor(explainer: Explainer, question: Question, maps: np.ndarray, seeds: bool = True) -> Floor:
    """The floor of an explainer whose maps of a question are known; seeds: whether to draw a sampled method anew."""
    other = replace(question, batch_size=max(1, question.batch_size // 2 - 1))
    batch = distance(explainer(other).values[0], maps)
    apart = (distance(explainer(nudged(question, draw)).values[0], maps) for draw in range(NUDGES))
    rounding = max(apart)
    drawn = [maps, *(e(question).values[0] for e in _reseeded(explainer))] if seeds else [maps]
    pairs = [distance(a, b) for place, a in enumerate(drawn) for b in drawn[:place]]
    return Floor(max(pairs, default=0.0), batch, rounding)


def nudged(question: Question, draw: int) -> Question:
    """The question with every input value moved to a neighbouring number, up or down, or left."""
    rng = np.random.default_rng(draw)
    inputs = tuple(np.nextafter(v, v + rng.integers(-1, 2, v.shape).astype(v.dtype)) for v in question.inputs)
    bounded = tuple(
        v if m.range is None else np.clip(v, *(v.dtype.type(end) for end in m.range))
        for v, m in zip(inputs, question.model.modalities, strict=True)
    )
    return replace(question, inputs=bounded)


def _reseeded(explainer: Explainer) -> Iterator[Any]:
    names = {field.name for field in fields(explainer)}  # type: ignore[arg-type]
    if "seed" not in names:
        return
    seed = int(getattr(explainer, "seed"))  # noqa: B009
    for step in range(1, SEEDS):
        yield replace(explainer, seed=seed + 1000 + step)  # type: ignore[type-var]
