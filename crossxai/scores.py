"""Scores: a metric's verdict on an attribution, per sample; Metric: whatever gives one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, TypeGuard

import numpy as np

from crossxai.attribution import Attribution, Explainer
from crossxai.errors import InvalidInput
from crossxai.model import Array
from crossxai.question import Question

Axis = Literal["faithfulness", "localisation", "stability", "randomisation", "complexity", "axiomatic", "cross-modal"]
"""What a metric measures."""

Range = tuple[float | None, float | None]
"""The smallest and largest value of a metric, None for "any"."""


@dataclass(frozen=True)
class Scores:
    """value (n,): one number per sample, NaN where the metric is undefined for that sample.

    curve (n, points) over fractions (n, points) or (points,), for metrics that have one. extras: per-sample arrays (n,),
    such as the tie rate. params: the metric's parameters as used. higher_is_better: the direction of `value`.
    """

    metric: str
    value: Array
    higher_is_better: bool
    curve: Array | None = None
    fractions: Array | None = None
    extras: Mapping[str, Array] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.value.ndim != 1:
            raise InvalidInput(f"{self.metric}: scores must have shape (n,), got {self.value.shape}")
        if self.curve is not None and (self.fractions is None or self.curve.shape[-1] != self.fractions.shape[-1]):
            raise InvalidInput(f"{self.metric}: a curve needs fractions of the same length")

    def __repr__(self) -> str:
        known = self.value[np.isfinite(self.value)]
        mean = f"mean {known.mean():.3g} of {len(known)} samples" if len(known) else "no sample has a value"
        missing = f", {len(self.value) - len(known)} without a value" if 0 < len(known) < len(self.value) else ""
        better = "higher" if self.higher_is_better else "lower"
        return f"Scores({self.metric}, {better} is better: {mean}{missing})"


class Metric(Protocol):
    """A frozen dataclass of parameters that judges an attribution; see `crossxai.evaluation`."""

    name: ClassVar[str]
    higher_is_better: ClassVar[bool]

    def __call__(self, question: Question, attribution: Attribution) -> Scores: ...


class ExplainingMetric(Protocol):
    """A metric that has maps made again: of other inputs, another class, another model.

    asks: "explainer". It is called with the question as it was explained, the map, and the explainer that made it.
    """

    name: ClassVar[str]
    higher_is_better: ClassVar[bool]
    asks: ClassVar[str]

    def __call__(self, question: Question, attribution: Attribution, explainer: Explainer) -> Scores: ...

    def check(self, question: Question) -> None:
        """Raise `Unsupported` or `InvalidInput` for a question that it cannot judge, without asking the model."""
        ...

    def explanations(self, question: Question, explainer: Explainer) -> int:
        """How many times each sample is explained again."""
        ...

    def passes(self, question: Question) -> int:
        """Forward passes per sample of the metric's own, beside those of the explanations."""
        ...


def explains_again(metric: Metric | ExplainingMetric) -> TypeGuard[ExplainingMetric]:
    """Whether a metric is called with the explainer, too."""
    return getattr(metric, "asks", "") == "explainer"


def judge(
    metric: Metric | ExplainingMetric, question: Question, attribution: Attribution, explainer: Explainer
) -> Scores:
    """A metric's verdict on a map, whether or not it asks the explainer again."""
    if explains_again(metric):
        return metric(question, attribution, explainer)
    plain: Any = metric
    scores: Scores = plain(question, attribution)
    return scores
