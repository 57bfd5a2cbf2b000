"""PathMethod: what integrated gradients share, whichever library walks the path."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crossxai.errors import InvalidInput
from crossxai.explainers.method import Method, Passes
from crossxai.model import Array
from crossxai.question import Question


@dataclass(frozen=True, kw_only=True)
class PathMethod(Method):
    """steps: points on the path. baseline: one value for every input entry, in raw input space (0 is black)."""

    steps: int = 50
    baseline: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 2:
            raise InvalidInput(f"{self.name}: steps must be at least 2, got {self.steps}")

    @property
    def copies(self) -> int:
        return self.steps

    def passes(self, question: Question) -> Passes:
        return self.steps + 2, self.steps  # two more for the completeness gap

    def completeness_gap(self, question: Question, total: Array) -> Array:
        """total (n,), the sum of each map, minus score(input) - score(baseline): 0 for an exact integral."""
        start = tuple(np.full_like(v, self.baseline) for v in question.values)
        return np.asarray(total - (question.score() - question.score(start, np.arange(len(question)))))
