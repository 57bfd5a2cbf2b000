"""For methods that fit a model to the scores of copies: scores that are not finite are a refusal in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from crossxai.errors import Unsupported
from crossxai.model import Array, Inputs
from crossxai.question import Question, Rows


@dataclass(frozen=True)
class FiniteQuestion(Question):
    """The same question; raises `Unsupported` where the score of a copy is NaN or infinite. who: the explainer that asks."""

    who: str = ""

    def score_stream(
        self, rows: npt.ArrayLike, make: Callable[[Rows], Inputs], progress: Callable[[int], object] | None = None
    ) -> Array:
        """As of a `Question`."""
        scores = super().score_stream(rows, make, progress)
        bad = ~np.isfinite(scores)
        if bad.any():
            own = np.asarray(rows) == (row := np.asarray(rows)[bad][0])
            raise Unsupported(
                f"{self.who} fits the scores of perturbed copies, and the model's score is NaN or infinite on "
                f"{(bad & own).sum()} of {own.sum()} of them, made of sample {self.ids[row]!r}: give another fill or baseline, "
                "or mend the model (does it divide by a deviation, or take a logarithm, that can be 0?)"
            )
        return scores


def finite(question: Question, who: str) -> Question:
    """The question for a method that fits."""
    return FiniteQuestion(**{field.name: getattr(question, field.name) for field in fields(Question)}, who=who)
