"""Region perturbation: the mean drop of the score as the most relevant regions go, and against the least relevant going first.

Samek et al. 2017 (IEEE TNNLS 28, 11; arXiv:1509.06321), section III.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from crossxai.attribution import Attribution, Scores
from crossxai.evaluation import baselines, curves, ranking
from crossxai.evaluation.removal import Removal, counts, first_of
from crossxai.evaluation.unit_metric import Found, UnitMetric
from crossxai.model import Array, Modality
from crossxai.question import Question, Rows


@dataclass(frozen=True, kw_only=True)
class Aopc(UnitMetric):
    """Mean drop of the score over the steps in which the most relevant regions are removed; higher is better.

    AOPC = 1 / (L + 1) · sum over k = 0 … L of score(x0) - score(xk) (Samek et al. 2017, eq. 12), where xk lacks the k · share
    / L most relevant part of the regions. steps: L, at most one per region. share: of the regions, removed at the end.
    patch: side of the square regions in pixels (9 in the paper, which removed 100 of them with uniform noise); a region's
    relevance is the sum of its pixels'. Only with patch = 1 does the map's order alone decide. fill: see `baselines`.
    """

    steps: int = 24
    fill: baselines.FillLike = "zero"
    patch: int = 1
    share: float = 1.0

    name: ClassVar[str] = "aopc"
    higher_is_better: ClassVar[bool] = True
    source: ClassVar[str] = "Samek et al. 2017"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._whole("steps")
        self._whole("patch")
        self._share("share", whole=True)
        if self.patch > 1:
            object.__setattr__(self, "invariant_to", "scale")
        object.__setattr__(self, "fill", baselines.resolve(self.fill))

    def passes(self, question: Question) -> int:
        modality = ranking.modality_of(question, self.modality, self.name)
        return len(self._counts(patches(ranking.space_of(question, modality), self._side(modality))))

    def _measure(self, question: Question, modality: Modality, relevance: Array, rows: Rows) -> Found:
        labels = patches(relevance.shape[1:], self._side(modality))
        points = self._counts(labels)
        removal = Removal(question, (modality,), (self.fill,))

        def masks(row: int) -> npt.NDArray[np.bool_]:
            total: Array = np.bincount(labels, relevance[row].reshape(-1)).astype(np.float64)
            return first_of(ranking.order(question, total[None], [row], self.seed)[0], points)[:, labels]

        curve = np.reshape(removal.scores(rows, [len(points)] * len(rows), masks), (len(rows), len(points)))
        return Found((curve[:, :1] - curve).mean(axis=1), curve, points / (labels.max() + 1))

    def _counts(self, labels: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        return counts(max(1, round(self.share * (int(labels.max()) + 1))), self.steps)

    def _side(self, modality: Modality) -> int:
        return self.patch if modality.spatial else 1


@dataclass(frozen=True, kw_only=True)
class MorfLerf(UnitMetric):
    """Area between the curves of removing the least and the most relevant units first; higher is better.

    The area of "least relevant first" minus that of "most relevant first" (orders of Samek et al. 2017; the symmetric
    relevance gain of Blücher et al. 2024, TMLR), each a trapezoid over the fraction removed. Least relevant first, read
    backwards, is insertion with the same fill: so the value is `insertion` - `deletion`, in [-1, 1] for probabilities.
    extras "morf" and "lerf" are the two areas.
    """

    steps: int = 24
    fill: baselines.FillLike = "zero"

    name: ClassVar[str] = "morf_lerf"
    higher_is_better: ClassVar[bool] = True
    source: ClassVar[str] = "Samek et al. 2017"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._whole("steps")
        object.__setattr__(self, "fill", baselines.resolve(self.fill))

    def __call__(self, question: Question, attribution: Attribution) -> Scores:
        """One number per sample (n,); the two curves share their ends and one stream."""
        given: dict[str, Any] = {
            "steps": self.steps,
            "fill": self.fill,
            "reduction": self.reduction,
            "modality": self.modality,
            "seed": self.seed,
        }
        ((morf, lerf),) = curves.evaluate(
            question, [attribution], [curves.Deletion(**given), curves.Insertion(**given)]
        )
        extras = {**morf.extras, "morf": morf.value, "lerf": lerf.value}
        params = self._params(question, ranking.modality_of(question, self.modality, self.name))
        return Scores(self.name, lerf.value - morf.value, self.higher_is_better, extras=extras, params=params)

    def passes(self, question: Question) -> int:
        return 2 * (len(counts(self._units(question), self.steps)) - 1)


def patches(space: tuple[int, ...], side: int) -> npt.NDArray[np.intp]:
    """The number of the square patch that each unit of `space` lies in, (units,); patches at the far edges may be smaller."""
    numbers = np.zeros(space, dtype=np.intp)
    for axis, length in enumerate(space):
        along = np.arange(length) // side
        numbers = numbers * (int(along[-1]) + 1) + along.reshape(-1, *[1] * (len(space) - axis - 1))
    return numbers.reshape(-1)
