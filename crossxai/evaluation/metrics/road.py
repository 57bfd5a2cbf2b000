"""ROAD, remove and debias: how far the score moves as relevant pixels are imputed from their neighbours.

Rong et al. 2022 (ICML; arXiv:2202.00449). The numbers are those of pytorch-grad-cam's ROAD metrics, whose thresholds take a
trap: a map with more zeros than a percentile removes (any map behind a ReLU) loses the whole image there. Ours rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from crossxai.errors import InvalidInput, Unsupported
from crossxai.evaluation.curves import ranks
from crossxai.evaluation.curves.imputation import Imputations
from crossxai.evaluation.curves.removal import Maker, score_copies
from crossxai.evaluation.metrics.faithfulness import Found, UnitMetric
from crossxai.model import Array, Inputs, Modality
from crossxai.question import Question, Rows

Cut = Literal["ranks", "thresholds"]
End = Literal["morf", "lerf"]

_IMPUTATIONS = Imputations()


@dataclass(frozen=True, kw_only=True)
class _Road(UnitMetric):
    """percentiles: of the pixels, those kept, in percent; ceil((pixels - 1) · p / 100) pixels, at least one, stay.

    noise: standard deviation of what is added to imputed pixels, in raw input units; one field per sample, from its name and
    the seed. cut: "ranks" removes that many pixels whatever the ties; "thresholds" keeps pixels strictly below the
    percentile of the values, as pytorch-grad-cam does: the same without ties, while tied pixels all go at once. A mask that
    leaves no pixel makes the image 0: black here, in raw units; theirs is 0 in the network's own. Images only.
    """

    percentiles: tuple[float, ...] = (10, 20, 30, 40, 50, 60, 70, 80, 90)
    noise: float = 0.01
    cut: Cut = "ranks"

    ends: ClassVar[tuple[End, ...]]
    source: ClassVar[str] = "Rong et al. 2022"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._list("percentiles", 100)
        self._one_of("cut", ("ranks", "thresholds"))
        if isinstance(self.noise, bool) or not isinstance(self.noise, int | float) or not 0 <= self.noise < np.inf:
            raise InvalidInput(f"{self.name}: noise must be a number of at least 0, got {self.noise!r}")

    def passes(self, question: Question) -> int:
        # The difference of the two ends needs no untouched score.
        return len(self.ends) * len(self.percentiles) + (len(self.ends) == 1)

    def _measure(self, question: Question, modality: Modality, relevance: Array, rows: Rows) -> Found:
        if modality.kind != "image":
            raise Unsupported(
                f"{self.name} imputes pixels of 2-D images; modality {modality.name!r} is a {modality.kind}: "
                "write 'aopc' or 'deletion'"
            )
        copies = self.passes(question)
        found = score_copies(
            question, rows, [copies] * len(rows), lambda row: self._maker(question, relevance[row], row)
        )
        return Found(self._value(np.reshape(found, (len(rows), copies))))

    def _value(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray((scores[:, :-1] - scores[:, -1:]).mean(axis=1))

    def _maker(self, question: Question, relevance: Array, row: int) -> Maker:
        """Imputed copies of one sample, first end first, and the untouched one last."""
        (values,) = question.values
        image = values[row]
        noise = self.noise * question.rng(row, self.seed).standard_normal(image.shape)
        masks = [mask for end in self.ends for mask in self.masks(question, relevance, row, end)]

        def make(numbers: Rows) -> Inputs:
            copies = np.repeat(image[None], len(numbers), axis=0)
            for copy, number in zip(copies, numbers.tolist(), strict=True):
                if number == len(masks) or not masks[number].any():
                    continue
                removed = masks[number]
                imputed = 0.0 if removed.all() else _IMPUTATIONS(removed)(image)
                copy[removed] = imputed + noise[removed]
            return (copies,)

        return make

    def masks(self, question: Question, relevance: Array, row: int, end: End) -> npt.NDArray[np.bool_]:
        """The pixels that are imputed at each percentile, (percentiles, height, width), for a map (height, width)."""
        if self.cut == "thresholds":
            towards = relevance if end == "morf" else 1 - relevance
            return np.stack([~(towards < np.percentile(towards, p)) for p in self.percentiles])
        order = ranks.order(question, relevance[None], [row], self.seed)[0]
        masks = np.zeros((len(self.percentiles), relevance.size), dtype=bool)
        for mask, percentile in zip(masks, self.percentiles, strict=True):
            gone = relevance.size - max(1, int(np.ceil((relevance.size - 1) * percentile / 100 - 1e-9)))
            mask[order[:gone] if end == "morf" else order[relevance.size - gone :]] = True
        return masks.reshape(-1, *relevance.shape)


@dataclass(frozen=True, kw_only=True)
class RoadMorf(_Road):
    """Mean change of the score when the most relevant pixels are imputed, over percentiles; lower is better."""

    name: ClassVar[str] = "road_morf"
    higher_is_better: ClassVar[bool] = False
    ends: ClassVar[tuple[End, ...]] = ("morf",)


@dataclass(frozen=True, kw_only=True)
class RoadLerf(_Road):
    """Mean change of the score when the least relevant pixels are imputed, over percentiles; higher is better."""

    name: ClassVar[str] = "road_lerf"
    higher_is_better: ClassVar[bool] = True
    ends: ClassVar[tuple[End, ...]] = ("lerf",)


@dataclass(frozen=True, kw_only=True)
class Road(_Road):
    """Half the mean difference between imputing the least and the most relevant pixels, over percentiles; higher is better."""

    name: ClassVar[str] = "road"
    higher_is_better: ClassVar[bool] = True
    ends: ClassVar[tuple[End, ...]] = ("morf", "lerf")

    def _value(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        morf, lerf = np.split(scores, 2, axis=1)
        return np.asarray((lerf - morf).mean(axis=1) / 2)
