"""How well the relevance of random subsets predicts the change of the score: by correlation, or by squared error (infidelity)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from crossxai.attribution import Attribution, Range, Scores
from crossxai.errors import InvalidInput, Unsupported
from crossxai.evaluation.curves import fills, ranks
from crossxai.evaluation.curves.copies import Subsets
from crossxai.evaluation.curves.fills import filled, plain
from crossxai.evaluation.curves.masking import scores_without
from crossxai.evaluation.metrics.families import Numbers, UnitMetric
from crossxai.evaluation.parameters import Count, FromTwo, Positive, Share, ShareOrAll, Shares
from crossxai.model import Array, Inputs, Modality
from crossxai.question import Question, Rows

Masks = npt.NDArray[np.bool_]


class _Predicting(UnitMetric):
    """A comparison of the score's change without random subsets with what a map predicts of it."""

    fill: fills.FillLike  # each metric declares it where it stands among its parameters

    def masks(self, question: Question, row: int) -> Masks:
        """The subsets of one sample, (subsets, units), true where units are removed; of a question with one free modality."""
        raise NotImplementedError

    def _compare(self, predicted: Numbers, drops: Numbers) -> float:
        """The value of one sample, from what a map predicts of each subset and how far the score falls without it."""
        raise NotImplementedError

    def _predicted(self, question: Question, relevance: Array, row: int, masks: Masks) -> Numbers:
        """What the map (*space) of one sample predicts for its subsets."""
        flat = relevance.reshape(-1).astype(np.float64)
        return np.array([flat[mask].sum() for mask in masks])

    def _measure(self, question: Question, modality: Modality, relevance: Array, rows: Rows) -> Scores:
        predicted: dict[int, Numbers] = {}

        def subsets(row: int) -> Subsets:
            masks = self.masks(question, row)
            predicted[row] = self._predicted(question, relevance[row], row, masks)
            return Subsets(masks)

        number = self.passes(question) - 1
        fill = {modality: plain(self.fill)}
        scores = scores_without(question, fill, rows, subsets, np.arange(number + 1), number + 1)
        return self._compared(rows, predicted, scores)

    def _compared(self, rows: Rows, predicted: Mapping[int, Numbers], scores: Numbers) -> Scores:
        values = [self._compare(predicted[row], s[0] - s[1:]) for row, s in zip(rows.tolist(), scores, strict=True)]
        return self.scores(np.array(values, dtype=np.float64))


@dataclass(frozen=True, kw_only=True)
class _Subsets(_Predicting):
    """A correlation over random subsets of the units.

    Parameters
    ----------
    subsets : int, how many are drawn, 2 or more (per size)

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
        modality = self.modality_of(question)
        return self._draw(question.rng(row, self.seed), ranks.space_of(question, modality))

    def _groups(self, units: int) -> int:
        """How many sizes of subset there are, each with a correlation of its own."""
        return 1

    def _draw(self, rng: np.random.Generator, space: tuple[int, ...]) -> Masks:
        raise NotImplementedError

    def _measure(self, question: Question, modality: Modality, relevance: Array, rows: Rows) -> Scores:
        if relevance[0].size == 1:
            return self.scores(np.full(len(rows), np.nan))
        return super()._measure(question, modality, relevance, rows)

    def _compare(self, predicted: Numbers, drops: Numbers) -> float:
        groups = zip(predicted.reshape(-1, self.subsets), drops.reshape(-1, self.subsets), strict=True)
        defined = [r for sums, falls in groups if not np.isnan(r := correlation(sums, falls, self.by_rank))]
        return float(np.mean(defined)) if defined else float("nan")


@dataclass(frozen=True, kw_only=True)
class FaithfulnessCorrelation(_Subsets):
    """Pearson correlation of removed relevance and drop of the score, over random subsets of one size; higher is better.

    Parameters
    ----------
    share : float, of the units in each subset, between 0 and 1; at least one unit and not all
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
    share : float, probability with which each cell is removed, between 0 and 1
    grid : int, cells along each side of the pattern that is stretched over the image; tables have a cell per column

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


@dataclass(frozen=True, kw_only=True)
class Infidelity(_Predicting):
    """Mean squared error of the score's change that a map predicts for random perturbations; lower is better.

    Parameters
    ----------
    samples : int, perturbations per sample
    perturbation : {"square", "subset", "noise"}
        "square" removes one square of pixels, its side drawn from 1 to `share` of the shorter side and its place from all
        places; "subset" removes each unit with probability `share`; "noise" subtracts Gaussian noise of standard deviation `sd`.
    share : float, above 0, at most 1; see `perturbation`
    sd : float, of the noise, in raw input units
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
    perturbation: Literal["square", "subset", "noise"] = "square"
    share: ShareOrAll = 0.5
    sd: Positive = 0.1
    fill: fills.FillLike = "zero"
    reading: Literal["contributions", "gradients"] = "contributions"
    normalise: Literal["positive", "signed", "none"] = "positive"

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

    def _measure(self, question: Question, modality: Modality, relevance: Array, rows: Rows) -> Scores:
        plain(self.fill)  # refused whatever the perturbation
        if self.perturbation == "square" and not modality.spatial:
            raise Unsupported(
                f"{self.name} cuts squares out of images; modality {modality.name!r} is a {modality.kind}: write "
                "perturbation='subset'"
            )
        if self.perturbation != "noise":
            return super()._measure(question, modality, relevance, rows)
        predicted, held = dict[int, Numbers](), dict[int, Numbers]()
        each, numbers = np.repeat(rows, 1 + self.samples), np.tile(np.arange(1 + self.samples), len(rows))

        def make(part: Rows) -> Inputs:
            copies = question.values[0][each[part]]
            for copy, row, number in zip(copies, each[part].tolist(), numbers[part].tolist(), strict=True):
                if row not in held:
                    held.clear()  # so that two samples' noise never exists at once
                    held[row] = self.noise(question, row)
                    predicted[row] = held[row].reshape(self.samples, -1) @ relevance[row].reshape(-1).astype(np.float64)
                if number:
                    copy -= held[row][number - 1].astype(copy.dtype)
            return (copies,)

        scores = question.score_stream(each, make).astype(np.float64)
        return self._compared(rows, predicted, scores.reshape(len(rows), 1 + self.samples))

    def _predicted(self, question: Question, relevance: Array, row: int, masks: Masks) -> Numbers:
        if self.reading == "contributions":
            return super()._predicted(question, relevance, row, masks)
        values = question.values[0][row : row + 1]
        change = values[0].astype(np.float64) - filled(self.fill, question.modalities[0], values)[0]
        change, flat = change.reshape(len(masks[0]), -1), relevance.reshape(-1).astype(np.float64)
        return np.array([(change * mask[:, None]).reshape(-1) @ flat for mask in masks])

    def _compare(self, predicted: Numbers, drops: Numbers) -> float:
        if self.normalise != "none":
            square = float((predicted**2).sum())
            best = float((predicted * drops).sum()) / square if square > 0 else 0.0
            predicted = predicted * (max(best, 0.0) if self.normalise == "positive" else best)
        return float(((predicted - drops) ** 2).mean())

    def masks(self, question: Question, row: int) -> Masks:
        modality = question.modalities[0]
        space, rng = ranks.space_of(question, modality), question.rng(row, self.seed)
        if self.perturbation == "subset":
            return np.asarray(rng.random((self.samples, int(np.prod(space)))) < self.share)
        masks = np.zeros((self.samples, *space), dtype=bool)
        largest = max(1, round(self.share * min(space)))
        for mask in masks:
            side = int(rng.integers(1, largest, endpoint=True))
            corner = [int(rng.integers(0, length - side, endpoint=True)) for length in space]
            mask[tuple(slice(at, at + side) for at in corner)] = True
        return masks.reshape(self.samples, -1)

    def noise(self, question: Question, row: int) -> Numbers:
        """What "noise" subtracts from one sample, (samples, *axes)."""
        shape = question.values[0].shape[1:]
        return np.asarray(self.sd * question.rng(row, self.seed).standard_normal((self.samples, *shape)))
