"""Correlation over random subsets: does the relevance that a subset holds tell how far the score falls without it?

Bhatt et al. 2020 (IJCAI; arXiv:2005.00631, definition 3), Ancona et al. 2018 (ICLR; arXiv:1711.06104, section 4).

Infidelity: the mean squared error with which a map predicts how the score answers to perturbations.

Yeh et al. 2019 (NeurIPS; arXiv:1901.09392), definition 2.1: E over I of (I · map - (score(x) - score(x - I)))².
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from crossxai.attribution import Attribution, Range
from crossxai.errors import InvalidInput, Unsupported
from crossxai.evaluation.curves import fills, ranks
from crossxai.evaluation.curves.fills import filled
from crossxai.evaluation.curves.masking import Subsets, plain, scores_without
from crossxai.evaluation.metrics.families import Numbers, UnitMetric, UnitScores
from crossxai.evaluation.parameters import Count, FromTwo, Positive, Share, ShareOrAll, Shares
from crossxai.model import Array, Inputs, Modality
from crossxai.question import Question, Rows

Masks = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class _Subsets(UnitMetric):
    """A correlation over random subsets of the units.

    Parameters
    ----------
    subsets : int
        How many are drawn, 2 or more (per size).

    Notes
    -----
    A sample's subsets depend on its name and the seed alone, so they are the same for all its maps. NaN where either side
    does not vary: a constant map with subsets of one size, a score that no subset moves, a single unit.
    """

    subsets: FromTwo = 100
    fill: fills.FillLike = "zero"

    invariant_to: ClassVar[str] = "scale"
    range: ClassVar[Range] = (-1.0, 1.0)
    higher_is_better: ClassVar[bool] = True
    by_rank: ClassVar[bool] = False

    def passes(self, question: Question) -> int:
        return 1 + self.subsets * self._groups(self._units(question)) if self._units(question) > 1 else 0

    def masks(self, question: Question, row: int) -> Masks:
        """The subsets of one sample, (subsets × sizes, units), true where units are removed."""
        modality = self.modality_of(question)
        return self._draw(question.rng(row, self.seed), ranks.space_of(question, modality))

    def _groups(self, units: int) -> int:
        """How many sizes of subset there are, each with a correlation of its own."""
        return 1

    def _draw(self, rng: np.random.Generator, space: tuple[int, ...]) -> Masks:
        raise NotImplementedError

    def _measure(self, question: Question, modality: Modality, relevance: Array, rows: Rows) -> UnitScores:
        fill, units = plain(self.fill), int(np.prod(relevance.shape[1:]))
        if units == 1:
            return UnitScores(np.full(len(rows), np.nan))
        groups = self._groups(units)
        held: dict[int, Numbers] = {}

        def subsets(row: int) -> Subsets:
            drawn = self.masks(question, row)
            flat = relevance[row].reshape(-1).astype(np.float64)
            held[row] = np.array([flat[mask].sum() for mask in drawn])
            return Subsets(drawn)

        number = self.subsets * groups
        scored = scores_without(question, {modality: fill}, rows, subsets, np.arange(number + 1), number + 1)
        value = np.full(len(rows), np.nan)
        for i, (row, scores) in enumerate(zip(rows.tolist(), scored, strict=True)):
            drops, sums = (scores[0] - scores[1:]).reshape(groups, -1), held[row].reshape(groups, -1)
            each = [correlation(a, b, self.by_rank) for a, b in zip(sums, drops, strict=True)]
            value[i] = np.mean([c for c in each if not np.isnan(c)]) if not np.isnan(each).all() else np.nan
        return UnitScores(value)


@dataclass(frozen=True, kw_only=True)
class FaithfulnessCorrelation(_Subsets):
    """Pearson correlation of removed relevance and drop of the score, over random subsets of one size; higher is better.

    Parameters
    ----------
    share : float
        Of the units in each subset, between 0 and 1; at least one unit and not all.
    """

    share: Share = 0.2

    name: ClassVar[str] = "faithfulness_correlation"
    source: ClassVar[str] = "Bhatt et al. 2020"

    def _draw(self, rng: np.random.Generator, space: tuple[int, ...]) -> Masks:
        units = int(np.prod(space))
        return of_size(rng, self.subsets, units, min(max(1, round(self.share * units)), units - 1))


@dataclass(frozen=True, kw_only=True)
class MuFidelity(_Subsets):
    """Spearman correlation of removed relevance and drop of the score, over random patterns of a grid; higher is better.

    Parameters
    ----------
    share : float
        Probability with which each cell is removed, between 0 and 1.
    grid : int
        Cells along each side of the pattern that is stretched over the image; tables have a cell per column.

    Notes
    -----
    The variant of Bhatt et al. 2020 that Xplique calls MuFidelity. A correlation that is not defined is NaN
    (Xplique: 0).
    """

    share: Share = 0.2
    grid: Count = 9

    name: ClassVar[str] = "mu_fidelity"
    source: ClassVar[str] = "Bhatt et al. 2020"
    by_rank: ClassVar[bool] = True

    def _draw(self, rng: np.random.Generator, space: tuple[int, ...]) -> Masks:
        if len(space) == 1:
            return np.asarray(rng.random((self.subsets, *space)) <= self.share)
        cells = rng.random((self.subsets, *[self.grid] * len(space))) <= self.share
        for axis, length in enumerate(space):  # nearest, pixel centres on pixel centres
            cells = np.take(cells, ((np.arange(length) + 0.5) * self.grid / length).astype(np.intp), axis + 1)
        return np.asarray(cells.reshape(self.subsets, -1))


@dataclass(frozen=True, kw_only=True)
class SensitivityN(_Subsets):
    """Pearson correlation of removed relevance and drop of the score, averaged over sizes of subset; higher is better.

    Parameters
    ----------
    shares : tuple of float
        The sizes n as shares of the units, between 0 and 1 (1 to 80 % in the paper, which draws 100 subsets of each); a size
        that is undefined is left out.

    Notes
    -----
    A map that meets sensitivity-n for all n, as every complete map of a linear model does, has 1.
    """

    shares: Shares = (0.01, 0.03, 0.1, 0.3, 0.8)

    name: ClassVar[str] = "sensitivity_n"
    source: ClassVar[str] = "Ancona et al. 2018"

    def _groups(self, units: int) -> int:
        return len(self._sizes(units))

    def _sizes(self, units: int) -> list[int]:
        sizes = np.rint(np.array(self.shares) * units).astype(np.intp)
        return sorted(set(np.clip(sizes, 1, units - 1).tolist()))

    def _draw(self, rng: np.random.Generator, space: tuple[int, ...]) -> Masks:
        units = int(np.prod(space))
        return np.concatenate([of_size(rng, self.subsets, units, size) for size in self._sizes(units)])


def of_size(rng: np.random.Generator, subsets: int, units: int, size: int) -> Masks:
    """Random masks (subsets, units) with exactly `size` units each."""
    masks = np.zeros((subsets, units), dtype=bool)
    for mask in masks:
        mask[rng.choice(units, size, replace=False, shuffle=False)] = True
    return masks


def correlation(a: Numbers, b: Numbers, by_rank: bool = False) -> float:
    """Pearson's r of two vectors, or Spearman's; NaN where one of them varies by no more than rounding."""
    for values in (a, b):
        if np.ptp(values) <= 1e-12 * np.abs(values).max():
            return float("nan")
    if by_rank:
        a, b = rankdata(a), rankdata(b)
    a, b = (v / np.abs(v).max() for v in (a - a.mean(), b - b.mean()))
    return float(np.clip((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()), -1, 1))


Perturbation = Literal["square", "subset", "noise"]
Reading = Literal["contributions", "gradients"]
Normalise = Literal["positive", "signed", "none"]


@dataclass(frozen=True, kw_only=True)
class Infidelity(UnitMetric):
    """Mean squared error of the score's change that a map predicts for random perturbations; lower is better.

    Parameters
    ----------
    samples : int
        Perturbations per sample.
    perturbation : {"square", "subset", "noise"}
        "square" removes one square of pixels, its side drawn from 1 to `share` of the shorter side and its place from all
        places; "subset" removes each unit with probability `share`; "noise" subtracts Gaussian noise of standard deviation `sd`.
    share : float
        Above 0, at most 1; see `perturbation`.
    sd : float
        Of the noise, in raw input units.
    reading : {"contributions", "gradients"}
        "contributions" for maps in units of the score (integrated gradients, input × gradient, Shapley values), where I counts
        which units go; "gradients" for maps in score per input (saliency), where I is the change of the input itself, channel
        by channel: such a map needs all channels. Noise needs gradients.
    normalise : {"positive", "signed", "none"}
        "positive" first multiplies the map by the number of at least 0 that suits it best, so that maps in other units than the
        score's can be compared; "signed" by the best number of all (Yeh et al., their code; Captum's `normalize`), which
        forgives a map that is upside down; "none" takes the map as it is, which only means something in the score's units.

    Notes
    -----
    The mean of (I · map - (score(x) - score(x - I)))² over perturbations I. A map that predicts nothing, such as zero, gets the
    mean square of the changes.
    """

    samples: Count = 64
    perturbation: Perturbation = "square"
    share: ShareOrAll = 0.5
    sd: Positive = 0.1
    fill: fills.FillLike = "zero"
    reading: Reading = "contributions"
    normalise: Normalise = "positive"

    name: ClassVar[str] = "infidelity"
    higher_is_better: ClassVar[bool] = False
    invariant_to: ClassVar[str] = "scale"
    range: ClassVar[Range] = (0.0, None)
    source: ClassVar[str] = "Yeh et al. 2019"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.normalise == "none":
            object.__setattr__(self, "invariant_to", "nothing")
        if self.perturbation == "noise" and self.reading == "contributions":
            raise InvalidInput(
                f"{self.name}: noise changes inputs by amounts, which a map of contributions says nothing of: "
                "write reading='gradients', or perturbation='subset'"
            )

    def passes(self, question: Question) -> int:
        return 1 + self.samples

    def units_of(self, question: Question, attribution: Attribution, modality: Modality) -> Array:
        relevance = super().units_of(question, attribution, modality)
        if self.reading == "contributions":
            return relevance
        values = attribution.of(modality.name)
        if values.shape[-1] != len(modality.features):
            raise Unsupported(
                f"{self.name}: reading='gradients' needs one value per channel, {attribution.explainer} gives one per "
                "pixel: use the explainer's native profile, or write reading='contributions'"
            )
        return np.broadcast_to(values, question.only(modality.name).values[0].shape)

    def _measure(self, question: Question, modality: Modality, relevance: Array, rows: Rows) -> UnitScores:
        fill = plain(self.fill)
        if self.perturbation == "square" and modality.kind != "image":
            raise Unsupported(
                f"{self.name} cuts squares out of 2-D images; modality {modality.name!r} is a {modality.kind}: "
                "write perturbation='subset'"
            )
        predicted: dict[int, Numbers] = {}
        if self.perturbation == "noise":
            scores = self._scores_of_noise(question, relevance, rows, predicted)
        else:

            def subsets(row: int) -> Subsets:
                masks, flat = self.masks(question, row), relevance[row].reshape(-1).astype(np.float64)
                if self.reading == "contributions":
                    predicted[row] = np.array([flat[mask].sum() for mask in masks])
                else:
                    own = question.values[0][row].astype(np.float64)
                    change = (own - filled(fill, modality, question.values[0][row : row + 1])[0]).reshape(
                        len(masks[0]), -1
                    )
                    predicted[row] = np.array([(change * mask[:, None]).reshape(-1) @ flat for mask in masks])
                return Subsets(masks)

            counts = np.arange(self.samples + 1)
            scores = scores_without(question, {modality: fill}, rows, subsets, counts, self.samples + 1)
        value = [self._error(predicted[row], s[0] - s[1:]) for row, s in zip(rows.tolist(), scores, strict=True)]
        return UnitScores(np.array(value, dtype=np.float64))

    def _scores_of_noise(
        self, question: Question, relevance: Array, rows: Rows, predicted: dict[int, Numbers]
    ) -> npt.NDArray[np.float64]:
        """Scores (m, 1 + samples) of samples and of what is left of them less each noise; fills in what the maps predict."""
        held: dict[int, Numbers] = {}
        each = np.repeat(rows, 1 + self.samples)

        def make(part: Rows) -> Inputs:
            copies = question.values[0][each[part]]
            for copy, row, number in zip(
                copies, each[part].tolist(), (part % (1 + self.samples)).tolist(), strict=True
            ):
                if row not in held:
                    held.clear()  # so that two samples' noise never exists at once
                    held[row] = self.noise(question, row)
                    predicted[row] = held[row].reshape(self.samples, -1) @ relevance[row].reshape(-1).astype(np.float64)
                if number:
                    copy -= held[row][number - 1].astype(copy.dtype)
            return (copies,)

        scores = question.score_stream(each, make).astype(np.float64)
        return scores.reshape(len(rows), 1 + self.samples)

    def _error(self, predicted: Numbers, drops: Numbers) -> float:
        if self.normalise != "none":
            square = float((predicted**2).sum())
            best = float((predicted * drops).sum()) / square if square > 0 else 0.0
            predicted = predicted * (max(best, 0.0) if self.normalise == "positive" else best)
        return float(((predicted - drops) ** 2).mean())

    def masks(self, question: Question, row: int) -> npt.NDArray[np.bool_]:
        """What "square" and "subset" remove of one sample, (samples, units)."""
        modality = question.modalities[0]
        space, rng = ranks.space_of(question, modality), question.rng(row, self.seed)
        if self.perturbation == "subset":
            return np.asarray(rng.random((self.samples, int(np.prod(space)))) < self.share)
        masks = np.zeros((self.samples, *space), dtype=bool)
        largest = max(1, round(self.share * min(space)))
        for mask in masks:
            side = int(rng.integers(1, largest, endpoint=True))
            top, left = (int(rng.integers(0, length - side, endpoint=True)) for length in space)
            mask[top : top + side, left : left + side] = True
        return masks.reshape(self.samples, -1)

    def noise(self, question: Question, row: int) -> Numbers:
        """What "noise" subtracts from one sample, (samples, *axes)."""
        shape = question.values[0].shape[1:]
        return np.asarray(self.sd * question.rng(row, self.seed).standard_normal((self.samples, *shape)))
