"""Deletion and insertion: how fast a score falls, or recovers, as the most relevant units go, or come.

Petsiuk et al. 2018 (RISE, arXiv:1806.07421); Samek et al. 2017 (IEEE TNNLS 28, 11) for region perturbation in general."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from crossxai.assumptions.facts import itself
from crossxai.attribution import Attribution, Metric, Scores
from crossxai.batching import LADDER, AutoBatchSize
from crossxai.errors import InvalidInput, Unsupported
from crossxai.evaluation.curves import auto, ranks
from crossxai.evaluation.curves.copies import Codes
from crossxai.evaluation.curves.fills import FillLike, describe, imputes, resolve
from crossxai.evaluation.curves.masking import Masking, RankedMaps
from crossxai.evaluation.curves.options import CurveOptions
from crossxai.evaluation.curves.ranks import BLOCK, Ranking
from crossxai.question import Question, Rows

LONG = 10**8
"""Numbers in all masked inputs from which on making a faster copy of the model pays (see `Question.folded`)."""


class Curve(CurveOptions):
    """What deletion and insertion share: their options, and being called."""

    def __call__(self, question: Question, attribution: Attribution) -> Scores:
        """Per-sample curves (n, points), with both endpoints by default, and their areas (n,)."""
        return evaluate(question, [attribution], [self])[0][0]

    def passes(self, question: Question) -> int:
        """Forward passes that one map without ties costs per sample, both ends included; on the first sample's segments."""
        one = question[:1]
        modality = ranks.modality_of(one, self.modality, self.name)
        values = ranks.values_of(one, modality)
        ramp = np.arange(values.size, dtype=np.float64).reshape(values.shape)
        return passes(one, [Attribution((ramp,), (modality,), one.ids, "a map without ties")], [self])


@dataclass(frozen=True)
class Deletion(Curve):
    """Area under the score as the most relevant units are removed first; lower is better."""

    name: ClassVar[str] = "deletion"
    higher_is_better: ClassVar[bool] = False
    inserts: ClassVar[bool] = False


@dataclass(frozen=True)
class Insertion(Curve):
    """Area under the score as the most relevant units are put back first; higher is better."""

    # Petsiuk et al. start from a blurred image: a black canvas adds edges that are evidence of their own.
    fill: FillLike = "blur"

    name: ClassVar[str] = "insertion"
    higher_is_better: ClassVar[bool] = True
    inserts: ClassVar[bool] = True


def takes_copy(question: Question, numbers: int) -> bool:
    """Whether a stream of so many numbers goes to a faster copy of the model: a long one, and any where it is to be compiled."""
    backend = getattr(itself(question.model), "compile", "")
    return numbers >= LONG or (isinstance(backend, str) and bool(backend))


def evaluate(
    question: Question,
    attributions: Sequence[Attribution],
    metrics: Sequence[Metric],
    progress: Callable[[int], object] = lambda _: None,
) -> list[list[Scores]]:
    """Scores [attribution][metric]; curves share one stream, where no image is scored twice, other metrics are called one by one.

    `progress` is given the numbers of images that went to the model; they add up to `passes`.
    """
    plan, estimated = _Plan(question, attributions, _curves(metrics)), _curves(metrics, auto=True)
    copies = plan.copies()
    others = {id(m): _cost(question, m) for m in metrics if not isinstance(m, Curve) or m.auto}
    numbers = (len(copies) + len(attributions) * sum(others.values())) * sum(v[0].size for v in question.inputs)
    quick = question.folded() if takes_copy(question, numbers) else question
    plan.masking.score(copies, progress, quick)
    areas = iter(auto.scores(quick, attributions, estimated, progress) if estimated else [])
    lines = iter(plan.lines)
    table: list[list[Scores]] = []
    for attribution in attributions:
        table.append([])
        for metric in metrics:
            if isinstance(metric, Curve):
                table[-1].append(next(areas) if metric.auto else plan.scores(next(lines)))
                continue
            table[-1].append(metric(quick if getattr(metric, "needs", "") == "scores" else question, attribution))
            if cost := others[id(metric)]:
                progress(cost)
    return table


def passes(question: Question, attributions: Sequence[Attribution], metrics: Sequence[Metric]) -> int:
    """Forward passes (single images, not batches) that `evaluate` spends: exact for curves; at most, for `steps="auto"` with a
    precision; as they announce them, for other metrics, for maps that are all finite."""
    others = sum(_cost(question, m) for m in metrics if not isinstance(m, Curve))
    own = len(_Plan(question, attributions, _curves(metrics)).copies()) + len(attributions) * others
    return own + auto.passes(question, attributions, _curves(metrics, auto=True))


def memory(question: Question, attributions: Sequence[Attribution], metrics: Sequence[Metric]) -> int:
    """Bytes that `evaluate` takes at most for these curves, besides the inputs, the maps and what the model itself takes.

    With B the batch size (64 if it is measured), I the bytes of one sample's inputs, V its values but at least 2^20, F fills, R
    different rankings, n samples, K different masked images of a sample and P points of all curves together:
    3 · B · I + V · (32 + 8 · F + 16 · R) + n · (300 · R + 64 · K + 24 · P).
    Where samples have points of their own (percentiles, segments), 16 · n · K more, and for segments 2 bytes per pixel of all
    samples. Estimated curves (`steps="auto"`) are added: the same without P, 400 for 64 (K with what a precision may take), and
    1000 · n for each. Fills of yours, and those that read the mask, take what they take.
    """
    whole, estimated, size = _curves(metrics), _curves(metrics, auto=True), 0
    if whole:
        plan = _Plan(question, attributions, whole)
        images = len(plan.copies())
        points = sum(line.counts.shape[1] for line in plan.lines)
        own = 16 * images if any(len(line.counts) > 1 for line in plan.lines) else 0
        labels = sum(int(labels.nbytes) for own in plan.masking.labels.values() for labels in own.values())
        size += _built(plan) + 64 * images + len(question) * 24 * points + own + labels
    if estimated:
        images = auto.passes(question, attributions, estimated)
        curves = len(attributions) * len(estimated)
        size += _built(_Plan(question, attributions, estimated)) + 400 * images + 1000 * len(question) * curves
    return size


class _Line(NamedTuple):
    """One curve of one attribution: its order, the counts (1 or n, points) of units at its points, how many points each sample
    has, the rest repeating the last, and the fill's number, or one per point where each step fills anew."""

    metric: Curve
    maps: RankedMaps
    counts: npt.NDArray[np.intp]
    lengths: npt.NDArray[np.intp]
    fills: list[int]


class _Plan:
    """The curves of attributions × metrics, and the copies that they need."""

    def __init__(self, question: Question, attributions: Sequence[Attribution], metrics: Sequence[Curve]) -> None:
        self.question, self.masking = question, Masking(question)
        self.lines = [self._line(attribution, metric) for attribution in attributions for metric in metrics]

    def copies(self) -> Codes:
        """Codes of all copies, each once, sorted."""

        def wanted(rows: Rows) -> list[Codes]:
            return [self._codes(line, rows[line.maps.usable[rows]]) for line in self.lines]

        return self.masking.distinct(wanted, sum(line.counts.shape[1] + 1 for line in self.lines))

    def scores(self, line: _Line) -> Scores:
        """One curve's scores, from copies that are scored."""
        metric, n = line.metric, len(self.question)
        rows = np.flatnonzero(line.maps.usable)
        read = self.masking.read(self._codes(line, rows))
        curve, start = np.full((n, line.counts.shape[1]), np.nan), np.full(n, np.nan)
        curve[rows] = read[:, : curve.shape[1]]
        extras = dict(line.maps.extras)
        if metric.score != "score":
            start[rows] = read[:, -1]
            extras["start"] = start
        fractions = line.counts / line.maps.ranked.total
        curve, values = metric.measure(curve, start, fractions, line.lengths)
        params = metric.described(line.maps.ranked.modality, self.question.target.link)
        fractions = fractions[0] if len(fractions) == 1 else fractions
        return Scores(metric.name, values, metric.higher_is_better, curve, fractions, extras, params)

    def _codes(self, line: _Line, rows: Rows) -> Codes:
        """Codes (m, points) of samples, and behind them, for scores relative to it, that of the untouched sample."""
        counts = line.counts if len(line.counts) == 1 else line.counts[rows]
        order = line.maps.order
        if len(line.fills) == 1:
            parts = [self.masking.codes(rows, order, line.fills[0], counts, line.metric.inserts)]
        else:
            parts = [self.masking.codes(rows, order, fill, counts[:, [i]]) for i, fill in enumerate(line.fills)]
        if line.metric.score != "score":
            parts.append(self.masking.untouched(rows))
        return np.concatenate(parts, axis=1)

    def _line(self, attribution: Attribution, metric: Curve) -> _Line:
        """The orders, counts and fills of a curve."""
        modality = ranks.modality_of(self.question, metric.modality, metric.name)
        size = metric.size if metric.unit in ("patch", "segment") else 0
        key = Ranking(modality.name, metric.reduction, int(metric.seed), metric.ties, metric.unit, size, metric.order)
        maps = self.masking.rank(attribution, modality, key)
        fill = resolve(metric.fill)
        if imputes(fill) and (modality.kind != "image" or metric.unit == "element"):
            raise Unsupported(f"fill {describe(fill)!r} imputes whole pixels of 2-D images")
        counts, lengths = _counts(maps, metric)
        if metric.refill and (len(counts) > 1 or getattr(metric.rule, "reads", True)):
            raise InvalidInput(
                f"{metric.name}: refill needs the same points for every sample, not percentiles, segments or unequal patches"
            )
        trails: list[tuple[int, ...]] = [()]
        if metric.refill:
            steps = [np.unique(counts[0, : point + 1]).tolist() for point in range(counts.shape[1])]
            trails = [tuple(count for count in own if count) for own in steps]
        numbers = [self.masking.fill({modality.name: fill}, int(metric.seed), trail) for trail in trails]
        return _Line(metric, maps, counts, lengths, numbers)


def _counts(maps: RankedMaps, metric: Curve) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Units changed at each point, (1, points) where all samples agree, else (n, points), and the numbers of points (n,)."""
    ranked, rule = maps.ranked, metric.rule
    if ranked.total < 1:
        raise InvalidInput("there is no unit to remove: the input is empty")
    rows = np.flatnonzero(maps.usable)
    if not getattr(rule, "reads", True) and metric.unit in ("pixel", "element"):
        rows = rows[:1]
    own = [metric.ends(ranked.counts(int(row), rule)) for row in rows] or [metric.ends(np.array([0, ranked.total]))]
    most = max(len(points) for points in own)
    # A sample of one segment may have no point at all beside samples that have some: its length is 0 then.
    padded = np.stack([np.pad(p, (0, most - len(p)), mode="edge" if len(p) else "constant") for p in own])
    lengths = np.full(len(maps.usable), most)
    if (padded == padded[0]).all() and all(len(p) == most for p in own):
        return padded[:1], lengths
    counts = np.zeros((len(maps.usable), most), np.intp)
    counts[rows], lengths[rows] = padded, [len(p) for p in own]
    return counts, lengths


def _curves(metrics: Sequence[Metric], auto: bool = False) -> list[Curve]:
    """The curves among metrics: those that are scored whole, or those whose area is estimated."""
    return [m for m in metrics if isinstance(m, Curve) and m.auto == auto]


def _cost(question: Question, metric: Metric) -> int:
    """Forward passes that a metric announces for one map of every sample."""
    return len(question) * int(metric.passes(question)) if hasattr(metric, "passes") else 0


def _built(plan: _Plan) -> int:
    """Bytes of what exists of a few samples at a time: copies, and blocks of fills and reduced maps."""
    inputs, size = plan.question.inputs, plan.question.batch_size
    batch = LADDER[-1] if isinstance(size, AutoBatchSize) else size
    values = max(BLOCK, *(int(v[0].size) for v in inputs))
    rankings = len(plan.masking.orders)
    blocks = values * (32 + 8 * len(plan.masking.fills) + 16 * rankings)
    return 3 * int(batch) * sum(int(v[0].nbytes) for v in inputs) + blocks + 300 * len(inputs[0]) * rankings
