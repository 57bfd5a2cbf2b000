"""Metrics of the score's drop as units go: region perturbation, sufficiency and comprehensiveness, and whole segments (IROF).

Not the sufficiency of Dasgupta et al. 2022, which depends on which samples come together, as no metric here may."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy.integrate import trapezoid
from skimage.segmentation import slic

from crossxai.attribution import Attribution, Scores
from crossxai.errors import Unsupported
from crossxai.evaluation.curves import deletion, fills, ranks
from crossxai.evaluation.curves.copies import Order
from crossxai.evaluation.curves.fills import plain
from crossxai.evaluation.curves.masking import scores_without
from crossxai.evaluation.curves.ranks import Labels
from crossxai.evaluation.curves.steps import counts
from crossxai.evaluation.metrics.families import UnitMetric
from crossxai.evaluation.parameters import Count, FromZero, Positive, ShareOrAll, Shares
from crossxai.model import Array, Modality, to_unit_interval
from crossxai.question import Question, Rows


@dataclass(frozen=True, kw_only=True)
class Aopc(UnitMetric):
    """Mean drop of the score over the steps in which the most relevant regions are removed; higher is better.

    Parameters
    ----------
    steps : int, L below, at most one per region
    patch : int
        Side of the square regions in pixels (9 in the paper, which removed 100 of them with uniform noise); a region's
        relevance is the sum of its pixels'. Only with patch = 1 does the map's order alone decide.
    share : float, of the regions, removed at the end; above 0, at most 1

    Notes
    -----
    AOPC = 1 / (L + 1) · sum over k = 0 … L of score(x0) - score(xk) (Samek et al. 2017, eq. 12), where xk lacks the k · share
    / L most relevant part of the regions.
    """

    steps: Count = 24
    fill: fills.FillLike = "zero"
    patch: Count = 1
    share: ShareOrAll = 1.0

    name: ClassVar[str] = "aopc"
    higher_is_better: ClassVar[bool] = True
    source: ClassVar[str] = "Samek et al. 2017"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.patch > 1:
            object.__setattr__(self, "invariant_to", "scale")

    def passes(self, question: Question) -> int:
        modality = self.modality_of(question)
        return len(self._counts(ranks.patches(ranks.space_of(question, modality), self._side(modality))))

    def _measure(self, question: Question, modality: Modality, relevance: Array, rows: Rows) -> Scores:
        labels = ranks.patches(relevance.shape[1:], self._side(modality))
        points = self._counts(labels)

        def order(row: int) -> Order:
            total: Array = np.bincount(labels, relevance[row].reshape(-1)).astype(np.float64)
            return Order(*ranks.in_groups(ranks.order(question, total[None], [row], self.seed)[0], labels))

        curve = scores_without(question, {modality: plain(self.fill)}, rows, order, points, int(labels.max()) + 1)
        return self.scores((curve[:, :1] - curve).mean(axis=1), curve, points / (int(labels.max()) + 1))

    def _counts(self, labels: Labels) -> npt.NDArray[np.intp]:
        return counts(max(1, round(self.share * (int(labels.max()) + 1))), self.steps)

    def _side(self, modality: Modality) -> int:
        return self.patch if modality.spatial else 1


@dataclass(frozen=True, kw_only=True)
class MorfLerf(UnitMetric):
    """Area between the curves of removing the least and the most relevant units first; higher is better.

    Notes
    -----
    The area of "least relevant first" minus that of "most relevant first" (orders of Samek et al. 2017; the symmetric
    relevance gain of Blücher et al. 2024, TMLR), each a trapezoid over the fraction removed. Least relevant first, read
    backwards, is insertion with the same fill: so the value is `insertion` - `deletion`, in [-1, 1] for probabilities.
    extras "morf" and "lerf" are the two areas.
    """

    steps: Count = 24
    fill: fills.FillLike = "zero"

    name: ClassVar[str] = "morf_lerf"
    higher_is_better: ClassVar[bool] = True
    source: ClassVar[str] = "Samek et al. 2017"

    def __call__(self, question: Question, attribution: Attribution) -> Scores:
        """One number per sample (n,); the two curves share their ends and one stream."""
        given: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        curves = [deletion.Deletion(**given), deletion.Insertion(**given)]
        ((morf, lerf),) = deletion.evaluate(question, [attribution], curves)
        extras = {**morf.extras, "morf": morf.value, "lerf": lerf.value}
        params = self._params(question, self.modality_of(question))
        return Scores(self.name, lerf.value - morf.value, self.higher_is_better, extras=extras, params=params)

    def passes(self, question: Question) -> int:
        return 2 * (len(counts(self._units(question), self.steps)) - 1)


@dataclass(frozen=True, kw_only=True)
class _TopShares(UnitMetric):
    """A mean drop over shares of the most relevant units.

    Parameters
    ----------
    shares : tuple of float
        Of the units, between 0 and 1, at least one unit each; equal numbers of units are scored once.
    """

    shares: Shares = (0.01, 0.05, 0.1, 0.2, 0.5)
    fill: fills.FillLike = "zero"

    keeps: ClassVar[bool]
    source: ClassVar[str] = "DeYoung et al. 2020"

    def passes(self, question: Question) -> int:
        tops = np.unique(self._tops(self._units(question)))
        return 1 + int((tops < self._units(question)).sum() if self.keeps else len(tops))

    def _tops(self, units: int) -> npt.NDArray[np.intp]:
        return np.asarray(np.maximum(1, np.rint(np.array(self.shares) * units)), dtype=np.intp)

    def _measure(self, question: Question, modality: Modality, relevance: Array, rows: Rows) -> Scores:
        units = int(np.prod(relevance.shape[1:]))
        tops, place = np.unique(self._tops(units), return_inverse=True)

        def order(row: int) -> Order:
            return Order(ranks.order(question, relevance[[row]], [row], self.seed)[0])

        # With the least relevant removed, `units` kept ones are what insertion leaves.
        untouched = units if self.keeps else 0
        counts = [untouched, *tops.tolist()]
        scores = scores_without(question, {modality: plain(self.fill)}, rows, order, counts, units, self.keeps)
        return self.scores((scores[:, :1] - scores[:, 1:])[:, place].mean(axis=1))


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


@dataclass(frozen=True, kw_only=True)
class Irof(UnitMetric):
    """Area over the score, as a share of its start, while segments go, the most relevant first; higher is better.

    Parameters
    ----------
    segments : int, about how many SLIC segments, of the image with its declared range put to [0, 1]
    compactness : float, of the segments, in Lab units (other channels than red, green, blue take a hundredth of it)
    steps : int, at most so many removals, 0 for every segment in turn
    relative : bool
        False gives the area of score(x) - score(x without …) instead, for scores that may be negative; with True, a sample
        whose score does not start above 0 is NaN.

    Notes
    -----
    1 - the trapezoid area under score(x without the first l segments) / score(x) over l / L. Segments are ranked by their mean
    relevance. The curve is of scores, on an even grid of fractions.
    """

    segments: Count = 100
    compactness: Positive = 10.0
    steps: FromZero = 0
    fill: fills.FillLike = "mean"
    relative: bool = True

    name: ClassVar[str] = "irof"
    higher_is_better: ClassVar[bool] = True
    invariant_to: ClassVar[str] = "scale"
    source: ClassVar[str] = "Rieger and Hansen 2020"

    def passes(self, question: Question) -> int:
        """Of the sample with the most segments; exact for each where `steps` is not above its segments."""
        modality = self.modality_of(question)
        segments = self._segments(question.only(modality.name), modality, np.arange(len(question)))
        return max(len(self._counts(labels)) for labels in segments)

    def _measure(self, question: Question, modality: Modality, relevance: Array, rows: Rows) -> Scores:
        segments = self._segments(question, modality, rows)
        labels = dict(zip(rows.tolist(), segments, strict=True))

        def order(row: int) -> Order:
            mean = ranks.means(relevance[row].reshape(-1).astype(np.float64), labels[row])
            return Order(*ranks.in_groups(ranks.order(question, mean[None], [row], self.seed)[0], labels[row]))

        points = [self._counts(own) for own in segments]
        totals = np.zeros(len(question), np.intp)
        totals[rows] = [own[-1] for own in points]
        most = max(map(len, points), default=1)
        padded = np.reshape([np.pad(own, (0, most - len(own)), mode="edge") for own in points], (len(rows), most))
        scores = scores_without(question, {modality: plain(self.fill)}, rows, order, padded, totals)
        grid = np.linspace(0, 1, (self.steps or self.segments) + 1)
        value, curve = np.full(len(rows), np.nan), np.full((len(rows), len(grid)), np.nan)
        for i, counted in enumerate(points):
            own, fractions = scores[i, : len(counted)], counted / counted[-1]
            curve[i] = np.interp(grid, fractions, own)
            drop = own[0] - trapezoid(own, fractions)
            if not self.relative:
                value[i] = drop
            elif own[0] > 0:
                value[i] = drop / own[0]
        return self.scores(value, curve, grid, segments=np.array([float(own[-1]) for own in points]))

    def _counts(self, labels: Labels) -> npt.NDArray[np.intp]:
        total = int(labels.max()) + 1
        return counts(total, self.steps or total)

    def _segments(self, question: Question, modality: Modality, rows: Rows) -> list[Labels]:
        """Segment numbers 0 … L - 1 (pixels,) of each sample."""
        if len(modality.axes) not in (3, 4):
            raise Unsupported(
                f"{self.name} segments images and volumes; modality {modality.name!r} is a {modality.kind}: write 'aopc'"
            )
        colour = modality.features == ("red", "green", "blue")
        compactness = self.compactness if colour else self.compactness / 100
        segments = []
        for row in rows.tolist():
            image = to_unit_interval(question.values[0][row], modality).astype(np.float64)
            labels = slic(image, self.segments, compactness, convert2lab=colour, channel_axis=-1, start_label=0)
            segments.append(ranks.labels_of(labels))
        return segments
