"""Facts on inputs and targets: values against their declared range, missing values, and scores that cannot move."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crossxai.assumptions.facts import Fact, hints_of
from crossxai.errors import CrossXAIError, InvalidInput
from crossxai.measures import Measure
from crossxai.model import Array, Differentiable, Inputs, Modality, Model
from crossxai.outputs import check_target
from crossxai.question import Question

NARROW = 0.05
"""Values that fill less than this share of their range were scaled twice, or not at all."""


def value_facts(model: Model, modality: Modality, values: Array) -> list[Fact]:
    """One fact on the range and one on missing values, where there is something to say."""
    name = f"values of {modality.name}"
    try:
        modality.check(values)
    except InvalidInput as error:
        return [Fact(name, "broken", str(error), "axes, dtype and range of the inputs", "every answer")]
    facts = [_range(model, modality, values, name)]
    for missing in missing_values(values, modality):
        facts.append(
            Fact(name, "note", missing.words, "values far from the rest of their column that many samples share",
                 "a missing value is explained as if it were measured", "an imputed value, or leave these samples out")
        )  # fmt: skip
    return facts


def _range(model: Model, modality: Modality, values: Array, name: str) -> Fact:
    low, high = float(values.min()), float(values.max())
    how = "smallest and largest value of these samples, against the declaration"
    hints = hints_of(model)
    if modality.range is None:
        return Fact(name, "holds", f"from {low:g} to {high:g}; no range is declared", how)
    width = modality.range[1] - modality.range[0]
    limits = f"from {low:g} to {high:g} of {modality.range}"
    scale = float(hints["rescaling"]) if np.isscalar(hints.get("rescaling")) else 1.0
    if modality.spatial and 0 < abs(scale) < 0.05 and width <= 1:
        return Fact(
            name, "note", f"{limits}, and the network itself multiplies by {scale:.4g}: it expects 0 to 255", how,
            "the network sees nearly black images", "Modality.image(range=(0, 255)) and images of 0 to 255",
        )  # fmt: skip
    if 0 < high - low < NARROW * width:
        return Fact(
            name, "note", f"{limits}: {(high - low) / width:.1%} of the range", how, "fills and noise are shares of the range",
            "the range that the values have, or values that were not divided twice",
        )  # fmt: skip
    return Fact(name, "holds", limits, how)


SENTINELS = (-1.0, *(sign * (10.0**digits - 1) for digits in range(1, 7) for sign in (1, -1)))
"""-1, ±9, ±99 … ±999999: what forms, registries and spreadsheets write where nothing is known."""

FEWEST_VALUES = 3
"""A column of fewer different values beside the suspect is a code, such as -1 and 1, and not measured."""


@dataclass(frozen=True)
class Missing:
    """A column of a table that seems to lack values. value: what stands there instead, NaN or a sentinel; count: in how many
    of `of` samples; words: a sentence for users."""

    column: str
    value: float
    count: int
    of: int

    @property
    def words(self) -> str:
        """What was seen, and what to do."""
        if np.isnan(self.value):
            return f"{self.column}: NaN in {self.count} of {self.of} samples; fill them in, or leave these samples out"
        return (
            f"{self.column}: {self.value:g} in {self.count} of {self.of} samples, far from the others: if it stands for a "
            "missing value, fill it in and add a column that says so, or leave these samples out; models and explanations take "
            "it as a number"
        )


def missing_values(values: Array, modality: Modality) -> tuple[Missing, ...]:
    """What seems to be missing in a table (n, features), column by column; nothing for images and volumes.

    A sentinel is one of `SENTINELS` that at least two samples and 1 % of them share, that is the smallest or largest value of
    its column, and whose distance from the next one is more than ten times the median distance between neighbouring values;
    -1 is one, too, where it is the only negative value. A suspicion, since a few real columns look like that.
    """
    if modality.spatial:
        return ()
    missing = []
    for name, column in zip(modality.features, np.asarray(values, np.float64).T, strict=True):
        absent = int(np.isnan(column).sum())
        if absent:
            missing.append(Missing(name, float("nan"), absent, len(column)))
        missing += [Missing(name, v, count, len(column)) for v, count in _sentinels(column[np.isfinite(column)])]
    return tuple(missing)


def _sentinels(column: npt.NDArray[np.float64]) -> list[tuple[float, int]]:
    """(value, how often) at either end of a column; several, such as 98 and 99, are taken off one by one."""
    sentinels: list[tuple[float, int]] = []
    different, counts = np.unique(column, return_counts=True)
    for end, next_to in ((-1, -2), (0, 1)):
        if len(different) <= FEWEST_VALUES:
            break
        value, count = float(different[end]), int(counts[end])
        rest = np.delete(different, end)
        gap, usual = abs(value - float(different[next_to])), float(np.median(np.diff(rest)))
        far = gap > 10 * usual or (value == -1 and rest[0] >= 0)
        if value in SENTINELS and count >= max(2, 0.01 * len(column)) and far:
            sentinels.append((value, count))
            different, counts = rest, np.delete(counts, end)
    return sentinels


SAMPLES = 16
"""At most so many are looked at."""
NEARLY = 1e-3


def target_fact(model: Model, inputs: Inputs, target: Measure) -> Fact:
    """Whether the target's score can move on these samples, and has a gradient there; raises `InvalidInput` for a link that the
    outputs have been through already, or may have been."""
    check_target(model, inputs, target)
    rows = np.arange(min(SAMPLES, len(target)))
    name, how = "target", f"scores and gradients of {len(rows)} samples"
    question = Question(model, tuple(v[rows] for v in inputs), target[rows], check="off")
    try:
        if isinstance(model, Differentiable):
            scores, gradients = question.score_and_grad()
            size = np.max([np.abs(g).reshape(len(g), -1).max(axis=1) for g in gradients], axis=0)
        else:
            scores, size = question.score(), np.ones(len(rows))
    except CrossXAIError as error:
        return Fact(name, "unknown", str(error), how)
    bounded = target.link in ("softmax", "sigmoid")
    saturated = int((np.minimum(scores, 1 - scores) < NEARLY).sum()) if bounded else 0
    dead = int((size == 0).sum())
    scored = f"scores from {scores.min():.3g} to {scores.max():.3g}"
    if dead:
        return Fact(
            name, "note", f"{scored}; {dead} of {len(rows)} samples have no gradient at all", how, "their gradient maps are zero",
            "a target that moves there, or an explainer that asks for scores: occlusion, RISE, LIME, KernelSHAP",
        )  # fmt: skip
    if saturated:
        return Fact(
            name, "note", f"{scored}; {saturated} of {len(rows)} are within {NEARLY} of 0 or 1", how,
            "their gradients are tiny, and a curve hardly moves until it drops", 'the logit: link="identity"',
        )  # fmt: skip
    return Fact(name, "holds", scored, how)
