"""Deletion and insertion: how fast a score falls, or recovers, as the most relevant units go, or come.

Petsiuk et al. 2018 (RISE, arXiv:1806.07421) for the two curves and their areas; Samek et al. 2017 (IEEE TNNLS 28, 11) for
region perturbation in general. Everything asked for at once runs as one stream of full batches through the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from crossxai.attribution import Attribution, Axis, Metric, Needs, Range, Reduction, Scores
from crossxai.batching import LADDER, AutoBatchSize
from crossxai.errors import InvalidInput
from crossxai.evaluation.curves import auto, fills, ranks
from crossxai.evaluation.curves import steps as rules
from crossxai.evaluation.curves.fills import imputes
from crossxai.evaluation.curves.ranks import Order, Reducing, Unit
from crossxai.evaluation.curves.steps import Area, StepsLike
from crossxai.evaluation.curves.steps import area as area_of
from crossxai.evaluation.curves.stream import Line, Stream
from crossxai.evaluation.parameters import whole
from crossxai.model import Array, Modality
from crossxai.question import Question

LONG = 10**8
"""Numbers in all masked inputs from which on making a faster copy of the model pays (see `Question.folded`)."""
Endpoints = Literal["both", "no_start", "no_end", "neither"]
Score = Literal["score", "ratio", "change", "drop"]
Aggregation = Literal["per_sample", "mean_curve"]


@dataclass(frozen=True)
class Curve:
    """What deletion and insertion share: the axes on which implementations differ, each a named option.

    steps: intervals between "nothing" and "everything", rounded to whole units; fewer if there are fewer units. Or a rule of
    `steps`, such as {"pixels": 224} or {"percentiles": [90, 50, 10]}; "auto" for the area alone, from a few points.
    fill: what replaces a removed unit, see `baselines`. reduction: how channels become one relevance per pixel
    ("channels_abs_sum": the sum of absolute values, a map of one channel being taken as it is).
    modality: the one perturbed, "" for the only free one; the others keep each sample's own values. seed: ties, and noise.
    unit: what goes at once, a "pixel" with its channels, an "element" of one channel, a "patch" of size × size pixels, a
    "segment" of about `size` SLIC superpixels. ties: see `ranking.order`. endpoints: which ends the curve has. refill: each step
    fills from the image as the one before left it. score: "score", "ratio" to the untouched image's, "change" from it
    (after - before), "drop" (before - after). area: see `areas.area`. aggregation: whether `total` is the mean of areas or the
    area of the mean curve. order: most relevant first, or least.
    The value is, by default, the trapezoid area over the true fractions of units. The score is the question's target: areas
    lie in [0, 1] for probabilities (link="softmax" or "sigmoid"), and anywhere for logits or regression.
    A map that is not finite gives NaN and costs no forward pass; a constant one is ranked by the seed alone. Both have
    extras["degenerate"] = 1. extras["tie_rate"] is the share of units whose value another unit has too. A ratio to a score
    of exactly zero is NaN.
    """

    steps: StepsLike = 24
    fill: fills.FillLike = "zero"
    reduction: Reducing = "sum"
    modality: str = ""
    seed: int = 0
    unit: Unit = "pixel"
    size: int = 8
    ties: ranks.Ties = "seeded"
    endpoints: Endpoints = "both"
    refill: bool = False
    score: Score = "score"
    area: Area = "fractions"
    aggregation: Aggregation = "per_sample"
    order: Order = "morf"

    name: ClassVar[str]
    higher_is_better: ClassVar[bool]
    needs: ClassVar[Needs] = "scores"
    axis: ClassVar[Axis] = "faithfulness"
    range: ClassVar[Range] = (None, None)
    source: ClassVar[str] = "Petsiuk et al. 2018"
    inserts: ClassVar[bool]

    def __post_init__(self) -> None:
        rules.resolve(self.steps, self.name)
        options: dict[str, tuple[str, ...]] = {
            "reduction": (*get_args(Reduction), "channels_abs_sum"),
            "unit": get_args(Unit),
            "ties": get_args(ranks.Ties),
            "endpoints": get_args(Endpoints),
            "score": get_args(Score),
            "area": get_args(Area),
            "aggregation": get_args(Aggregation),
            "order": get_args(Order),
        }
        for option, known in options.items():
            if getattr(self, option) not in known:
                raise InvalidInput(f"{self.name}: unknown {option} {getattr(self, option)!r}: write {', '.join(known)}")
        for option, least in (("seed", 0), ("size", 1)):
            whole(getattr(self, option), least, f"{self.name}: {option}")
        if not isinstance(self.refill, bool):
            raise InvalidInput(f"{self.name}: refill is true or false, got {self.refill!r}")
        object.__setattr__(self, "fill", fills.resolve(self.fill))
        if self.refill and (self.inserts or imputes(self.fill)):
            why = (
                "insertion uncovers the image's own pixels" if self.inserts else "an imputation already reads the mask"
            )
            raise InvalidInput(f"{self.name}: refill makes no sense here, {why}: leave it out")
        if self.auto:
            auto.check(self)
        # The other order, or the other sign, turns the direction round; the name says so where the curve is another one.
        if self.order == "lerf":
            object.__setattr__(self, "name", f"{type(self).name}_lerf")
        if (self.order == "lerf") != (self.score == "drop"):
            object.__setattr__(self, "higher_is_better", not type(self).higher_is_better)

    @property
    def rule(self) -> rules.Rule:
        """The step rule behind `steps`."""
        return rules.resolve(self.steps, self.name)

    @property
    def auto(self) -> bool:
        """Whether the area is estimated from a few points, and there is no curve."""
        return isinstance(self.rule, rules.Auto)

    def ends(self, counts: rules.Counts) -> rules.Counts:
        """A rule's points without the ends that this curve does not have."""
        first = self.endpoints in ("no_start", "neither")
        last = len(counts) - (self.endpoints in ("no_end", "neither"))
        return counts[int(first) : max(last, int(first))]

    def passes(self, question: Question) -> int:
        """Forward passes that one map without ties costs per sample, both ends included; on the first sample's segments."""
        one = question[:1]
        modality = ranks.modality_of(one, self.modality, self.name)
        values = one.inputs[[m.name for m in one.model.modalities].index(modality.name)]
        ramp = np.arange(values.size, dtype=np.float64).reshape(values.shape)
        return passes(one, [Attribution((ramp,), (modality,), one.ids, "a map without ties")], [self])

    def total(self, scores: Scores) -> float:
        """The number for all samples: the mean of their values, or the area of their mean curve; samples of NaN left out."""
        good = ~np.isnan(scores.value)
        if not good.any():
            return float("nan")
        if self.aggregation == "per_sample":
            return float(scores.value[good].mean())
        assert scores.curve is not None
        assert scores.fractions is not None
        fractions = np.broadcast_to(scores.fractions, scores.curve.shape)[good].mean(axis=0)
        curve = scores.curve[good]
        if self.score == "ratio":  # a ratio of means, not a mean of ratios
            start = scores.extras["start"][good]
            curve = curve * (start / start.mean())[:, None]
        return float(area_of(curve.mean(axis=0, keepdims=True), fractions, self.area)[0])

    def judge(self, curve: Array, start: Array, fractions: Array, lengths: rules.Counts) -> tuple[Array, Array]:
        """Curves (n, points) of scores become curves of what is asked for, and their areas (n,)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.score == "ratio":
                curve = np.where(start[:, None] == 0, np.nan, curve / start[:, None])
        if self.score in ("change", "drop"):
            curve = (curve - start[:, None]) * (-1 if self.score == "drop" else 1)
        values = np.full(len(curve), np.nan)
        wide = np.broadcast_to(fractions, curve.shape)
        for length in np.unique(lengths):
            rows = lengths == length
            values[rows] = area_of(curve[rows, :length], wide[rows, :length], self.area)
        return curve, values

    def __call__(self, question: Question, attribution: Attribution) -> Scores:
        """Per-sample curves (n, points), both endpoints included unless told otherwise, and their areas (n,)."""
        return evaluate(question, [attribution], [self])[0][0]


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
    fill: fills.FillLike = "blur"

    name: ClassVar[str] = "insertion"
    higher_is_better: ClassVar[bool] = True
    inserts: ClassVar[bool] = True


def evaluate(
    question: Question,
    attributions: Sequence[Attribution],
    metrics: Sequence[Metric],
    progress: Callable[[int], object] = lambda _: None,
) -> list[list[Scores]]:
    """Scores [attribution][metric]; all curves share one stream, and no masked image of a map is scored twice.

    The untouched image is scored once per sample, the filled one once per sample and fill, whatever the number of
    attributions and metrics. Metrics that are not curves are called one by one. From `LONG` numbers on, a faster copy of the
    model is asked (`Question.folded`). `progress` is given the numbers of images that went to the model; they add up to `passes`.
    """
    asked = [m for m in metrics if isinstance(m, Curve) and not m.auto]
    stream = Stream(question, attributions, asked)
    others = {id(m): _cost(question, m) for m in metrics if not isinstance(m, Curve) or m.auto}
    count = len(stream.jobs) + len(attributions) * sum(others.values())
    numbers = count * sum(values[0].size for values in question.inputs)
    quick = question.folded() if numbers >= LONG else question
    table = stream.table(quick, progress)
    estimated = iter([s for row in auto.scores(quick, attributions, _auto(metrics), progress) for s in row])
    curves = iter(
        [
            _scores(stream, table, line, asked[i % len(asked)], stream.modalities[i % len(asked)])
            for i, line in enumerate(stream.lines)
        ]
    )

    def one(metric: Metric, attribution: Attribution) -> Scores:
        if isinstance(metric, Curve):
            return next(estimated if metric.auto else curves)
        scores = metric(quick if getattr(metric, "needs", "") == "scores" else question, attribution)
        if cost := others[id(metric)]:
            progress(cost)
        return scores

    return [[one(m, a) for m in metrics] for a in attributions]


def passes(question: Question, attributions: Sequence[Attribution], metrics: Sequence[Metric]) -> int:
    """Forward passes (single images, not batches) that `evaluate` spends: exact for curves; at most, for `steps="auto"` with a
    precision; as they announce them, for other metrics, for maps that are all finite."""
    whole = [m for m in metrics if isinstance(m, Curve) and not m.auto]
    others = sum(_cost(question, m) for m in metrics if not isinstance(m, Curve))
    own = len(Stream(question, attributions, whole).jobs) + len(attributions) * others
    return own + auto.passes(question, attributions, _auto(metrics))


def _cost(question: Question, metric: Metric) -> int:
    """Forward passes that a metric announces for one map of every sample."""
    return len(question) * int(metric.passes(question)) if hasattr(metric, "passes") else 0


def _auto(metrics: Sequence[Metric]) -> list[Curve]:
    return [m for m in metrics if isinstance(m, Curve) and m.auto]


def memory(question: Question, attributions: Sequence[Attribution], metrics: Sequence[Metric]) -> int:
    """Bytes that `evaluate` takes at most for these curves, besides the inputs, the maps and what the model itself takes.

    With B the batch size (64 if it is measured), I the bytes of one sample's inputs, V its values but at least 2^20, F fills, R
    different rankings, n samples, K different masked images of a sample and P points of all curves together:
    3 · B · I + V · (32 + 8 · F + 16 · R) + n · (300 · R + 64 · K + 24 · P).
    Where samples have points of their own (percentiles, segments), 16 · n · K more, and for segments 2 bytes per pixel of all
    samples. Estimated curves (`steps="auto"`) are added: the same without P, 400 for 64 (K with what a precision may take), and
    1000 · n for each. A fill of yours takes what it takes, and so do fills that read the mask.
    `benchmarks/memory.py` measures beside it.
    """
    whole = [m for m in metrics if isinstance(m, Curve) and not m.auto]
    estimated, found = _auto(metrics), 0
    if whole:
        stream = Stream(question, attributions, whole)
        points, images = sum(len(line.columns) for line in stream.lines), len(stream.images)
        own = 16 * images if stream.same is not None else 0
        labels = sum(int(labels.nbytes) for found in stream.labels.values() for labels in found.values())
        found += _built(stream) + len(question) * (64 * images + 24 * points + own) + labels
    if estimated:
        images = auto.passes(question, attributions, estimated)
        curves = len(attributions) * len(estimated)
        found += _built(Stream(question, attributions, estimated)) + 400 * images + 1000 * len(question) * curves
    return found


def _built(stream: Stream) -> int:
    """Bytes of what exists of a few samples at a time: copies, and blocks of fills and reduced maps."""
    inputs = stream.question.inputs
    size = stream.question.batch_size
    batch = LADDER[-1] if isinstance(size, AutoBatchSize) else size
    values = max(fills.BLOCK, *(int(v[0].size) for v in inputs))
    filled = len({(image.modality, image.fill) for image in stream.images if image.modality})
    blocks = values * (32 + 8 * filled + 16 * len(stream.ranked))
    return 3 * int(batch) * sum(int(v[0].nbytes) for v in inputs) + blocks + 300 * len(inputs[0]) * len(stream.ranked)


def _scores(stream: Stream, table: Array, line: Line, metric: Curve, modality: Modality) -> Scores:
    scored, start = stream.read(table, line)
    curve, values = metric.judge(scored, start, line.fractions, line.lengths)
    extras = dict(stream.extras[line.ranking])
    if line.start >= 0:
        extras["start"] = start
    fractions = line.fractions[0] if len(line.fractions) == 1 else line.fractions
    params = _params(metric, modality, stream.question.target.link)
    return Scores(metric.name, values, metric.higher_is_better, curve, fractions, extras, params)


def _params(metric: Curve, modality: Modality, link: str) -> dict[str, Any]:
    """What was used; of the newer axes, what differs from the default."""
    found: dict[str, Any] = {
        "steps": rules.describe(metric.rule),
        "fill": fills.describe(fills.resolve(metric.fill)),
        "reduction": metric.reduction,
        "modality": modality.name,
        "seed": int(metric.seed),
        "link": link,
    }
    for field in fields(Curve)[5:]:
        value = getattr(metric, field.name)
        if value != field.default and (field.name != "size" or metric.unit in ("patch", "segment")):
            found[field.name] = value
    return found
