"""Scores: a metric's verdict on an attribution, per sample; Metric: whatever gives one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from crossxai.attribution import Attribution
from crossxai.errors import InvalidInput
from crossxai.model import Array
from crossxai.question import Question


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


class Metric(Protocol):
    """A frozen dataclass of parameters that judges an attribution; see `crossxai.evaluation`."""

    name: ClassVar[str]
    higher_is_better: ClassVar[bool]

    def __call__(self, question: Question, attribution: Attribution) -> Scores: ...
