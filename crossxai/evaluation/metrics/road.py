"""ROAD, remove and debias (Rong et al. 2022): how far the score moves as relevant pixels are imputed from their neighbours.

pytorch-grad-cam's thresholds have a trap: a map with many zeros, as behind a ReLU, loses the whole image. Ours rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from crossxai.attribution import Scores
from crossxai.errors import Unsupported
from crossxai.evaluation.curves import ranks
from crossxai.evaluation.curves.copies import Subsets
from crossxai.evaluation.curves.imputation import Imputations, NoisyLinear
from crossxai.evaluation.curves.masking import scores_without
from crossxai.evaluation.metrics.families import UnitMetric
from crossxai.evaluation.parameters import NotNegative, Percentages
from crossxai.model import Array, Modality
from crossxai.question import Question, Rows

End = Literal["morf", "lerf"]

_IMPUTATIONS = Imputations()


class Debiased(NoisyLinear):
    """Noisy linear imputation with one field of noise per sample, whatever the mask; an image with no pixel left is 0."""

    def impute(self, image: Array, hidden: npt.NDArray[np.bool_], rng: np.random.Generator) -> Array:
        """A copy of an image (height, width, channels) with its hidden pixels (height, width) imputed."""
        result = image.copy()
        if hidden.any():
            noise = self.noise * rng.standard_normal(image.shape)
            result[hidden] = (0.0 if hidden.all() else _IMPUTATIONS(hidden)(image)) + noise[hidden]
        return result


@dataclass(frozen=True, kw_only=True)
class _Road(UnitMetric):
    """A mean over percentiles of pixels, which are imputed from their neighbours.

    Parameters
    ----------
    percentiles : tuple of float
        Of the pixels that stay, in percent, between 0 and 100; ceil((pixels - 1) · p / 100) pixels, at least one, stay.
    noise : float
        Standard deviation of what is added to imputed pixels, in raw input units; one field per sample, from its name and the
        seed.
    cut : {"ranks", "thresholds"}
        "ranks" removes that many pixels whatever the ties; "thresholds" leaves pixels strictly below the percentile of the
        values, as pytorch-grad-cam does: the same without ties, while tied pixels all go at once.

    Notes
    -----
    A mask that leaves no pixel makes the image 0: black here, in raw units; pytorch-grad-cam's is 0 in the network's own.
    Images only.
    """

    percentiles: Percentages = (10, 20, 30, 40, 50, 60, 70, 80, 90)
    noise: NotNegative = 0.01
    cut: Literal["ranks", "thresholds"] = "ranks"

    ends: ClassVar[tuple[End, ...]]
    source: ClassVar[str] = "Rong et al. 2022"

    def passes(self, question: Question) -> int:
        # The difference of the two ends needs no untouched score.
        return len(self.ends) * len(self.percentiles) + (len(self.ends) == 1)

    def _measure(self, question: Question, modality: Modality, relevance: Array, rows: Rows) -> Scores:
        if modality.kind != "image":
            raise Unsupported(
                f"{self.name} imputes pixels of 2-D images; modality {modality.name!r} is a {modality.kind}: "
                "write 'aopc' or 'deletion'"
            )

        def subsets(row: int) -> Subsets:
            masks = [self.masks(question, relevance[row], row, end) for end in self.ends]
            return Subsets(np.concatenate(masks).reshape(-1, relevance[row].size))

        number = len(self.ends) * len(self.percentiles)
        counts = [*range(1, number + 1), 0][: self.passes(question)]
        fill = Debiased(self.noise)
        scores = scores_without(question, {modality: fill}, rows, subsets, counts, number + 1, seed=self.seed)
        return self.scores(self._value(scores))

    def _value(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray((scores[:, :-1] - scores[:, -1:]).mean(axis=1))

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
