"""Sufficiency and comprehensiveness: what is left of the score with only the most relevant units, and without them.

DeYoung et al. 2020 (ERASER, ACL; arXiv:1911.03429), eq. 1 and 2, averaged over several shares as in their section 4.2.
The sufficiency of Dasgupta et al. 2022 is another thing: how often *other* samples with a like map get a like prediction.
It depends on which samples come together, which no metric here may.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from crossxai.evaluation import baselines, ranking
from crossxai.evaluation.removal import Removal, first_of
from crossxai.evaluation.unit_metric import Found, UnitMetric
from crossxai.model import Array, Modality
from crossxai.question import Question, Rows


@dataclass(frozen=True, kw_only=True)
class _TopShares(UnitMetric):
    """shares: of the units, at least one unit each; equal numbers of units are scored once. fill: see `baselines`."""

    shares: tuple[float, ...] = (0.01, 0.05, 0.1, 0.2, 0.5)
    fill: baselines.FillLike = "zero"

    keeps: ClassVar[bool]
    source: ClassVar[str] = "DeYoung et al. 2020"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._list("shares", 1)
        object.__setattr__(self, "fill", baselines.resolve(self.fill))

    def passes(self, question: Question) -> int:
        return 1 + len(np.unique(self._tops(self._units(question))))

    def _tops(self, units: int) -> npt.NDArray[np.intp]:
        return np.asarray(np.maximum(1, np.rint(np.array(self.shares) * units)), dtype=np.intp)

    def _measure(self, question: Question, modality: Modality, relevance: Array, rows: Rows) -> Found:
        removal = Removal(question, (modality,), (self.fill,))
        tops, place = np.unique(self._tops(removal.units), return_inverse=True)

        def masks(row: int) -> npt.NDArray[np.bool_]:
            top = first_of(ranking.order(question, relevance[[row]], [row], self.seed)[0], tops)
            untouched = np.zeros((1, removal.units), dtype=bool)
            return np.concatenate([untouched, ~top if self.keeps else top])

        found = np.reshape(removal.scores(rows, [1 + len(tops)] * len(rows), masks), (len(rows), 1 + len(tops)))
        return Found((found[:, :1] - found[:, 1:])[:, place].mean(axis=1))


@dataclass(frozen=True, kw_only=True)
class Sufficiency(_TopShares):
    """Mean drop of the score when only the most relevant units are kept, over shares kept; lower is better."""

    name: ClassVar[str] = "sufficiency"
    higher_is_better: ClassVar[bool] = False
    keeps: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class Comprehensiveness(_TopShares):
    """Mean drop of the score when the most relevant units are removed, over shares removed; higher is better."""

    name: ClassVar[str] = "comprehensiveness"
    higher_is_better: ClassVar[bool] = True
    keeps: ClassVar[bool] = False
