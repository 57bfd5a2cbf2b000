"""The mean area of deletion and insertion from a few forward passes per sample, with its error: what `steps="auto"` means.

`scores` is what `curves.evaluate` asks for such metrics; `estimate` gives more, for curves with a number of steps, too.
Twelve masked images per sample instead of a hundred, chosen at random so that the mean area of the full curves is met on
average (see `sampling`), both ends and identical maps scored once for all curves, more images only where a requested
precision asks for them.

Which curves have an area that can be estimated from a few points: those of the default convention, with the reasons.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.integrate import trapezoid

from crossxai.attribution import Attribution, Scores
from crossxai.errors import InvalidInput, Unsupported
from crossxai.evaluation.curves import fills, ranks
from crossxai.evaluation.curves.estimates import Design, Estimate, Estimates, factor_needed, mean_of
from crossxai.evaluation.curves.masked import Bank, Masked
from crossxai.evaluation.curves.steps import Auto, describe
from crossxai.question import Question

if TYPE_CHECKING:
    from crossxai.evaluation.curves.deletion import Curve


import dataclasses
from typing import TYPE_CHECKING, get_args

from crossxai.attribution import Reduction
from crossxai.evaluation.curves.fills import imputes

if TYPE_CHECKING:
    from crossxai.evaluation.curves.deletion import Curve
Numbers = npt.NDArray[np.float64]

_FEW = 8  # usable samples below which a pilot says too little, and a requested precision takes the whole curve


@dataclass
class _Line:
    """One curve of one attribution: what is asked of the bank."""

    explainer: str
    metric: Curve
    rule: Auto
    draws: _Draws
    rank: int
    fill: int
    counts: npt.NDArray[np.intp]
    design: Design
    rows: npt.NDArray[np.intp]
    factor: npt.NDArray[
        np.intp
    ]  # (n,): how many times the design's points each sample takes; 0: none, -1: the whole curve


def estimate(
    question: Question,
    attributions: Sequence[Attribution],
    metrics: Sequence[Curve],
    *,
    precision: float | None = None,
    points: int = 12,
    max_points: int | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    progress: Callable[[int], object] = lambda _: None,
) -> Estimates:
    """Estimate the mean area of every attribution under every deletion or insertion, the mean of their full curves' areas.

    metrics: `Deletion(100)` and the like; what is estimated is the curve with those steps. points: masked images per sample and
    curve to begin with, both ends among them, 4 or more; a curve of no more points is scored whole, without error. precision:
    the half-width of the interval to reach, in units of the score, with more points where needed, up to `max_points`
    (None: the whole curve); without it, there is no second round. seed: of the draws, apart from the metrics' own.

    Unbiased exactly, the second round included: whether a sample gets more points is decided by the spread seen in the other
    half of the samples, never by its own draws, and only once. Fewer than 8 usable samples are scored whole if a precision is
    asked for. Samples share their offsets between curves, so errors of two explainers partly cancel: see
    `estimates.difference`.
    `progress` is given the number of images of each batch.
    """
    _check(metrics)
    plan = Auto(points=points, precision=precision, max_points=max_points)
    bank = Bank(question, progress)
    draws = _Draws(question, seed)
    lines = _lines(bank, attributions, metrics, plan, lambda _: draws)
    found = _estimates(bank, lines, confidence)
    width = len(metrics)
    table = tuple(tuple(found[i * width : (i + 1) * width]) for i in range(len(attributions)))
    return Estimates(table, bank.made, _full_passes(bank, lines))


def scores(
    question: Question,
    attributions: Sequence[Attribution],
    metrics: Sequence[Curve],
    progress: Callable[[int], object] = lambda _: None,
) -> list[list[Scores]]:
    """Scores [attribution][metric] of curves with `steps="auto"`, without curves; each metric's seed is that of its draws."""
    bank = Bank(question, progress)
    lines = _asked(bank, attributions, metrics)
    found = iter(_estimates(bank, lines, 0.95))
    return [[next(found).scores() for _ in metrics] for _ in attributions]


def passes(question: Question, attributions: Sequence[Attribution], metrics: Sequence[Curve]) -> int:
    """Forward passes that `scores` spends: exact without a precision; with one, the most it may take."""
    bank = Bank(question)
    lines = _asked(bank, attributions, metrics)
    images: set[Masked] = set()
    for line in lines:
        if line.rule.precision is None:
            images.update(_images(bank, line))
    wished = [line for line in lines if line.rule.precision is not None]
    if not wished:
        return len(images)
    most = sum(len(line.rows) * _most(line) for line in wished)
    return len(images) + min(most, _full_passes(bank, wished))


def _most(line: _Line) -> int:
    """The most points of one sample: the whole curve if it may be taken, else as many draws as `max_points` leaves room for."""
    whole, most = len(line.counts), line.rule.max_points or len(line.counts)
    if whole <= max(most, line.rule.points):
        return whole
    return 2 * line.design.m * _cap(line) + 2


class _Draws:
    """What is drawn for a seed: each sample's two offsets, and which half of the samples it belongs to."""

    def __init__(self, question: Question, seed: int) -> None:
        self.seed, self.offsets, self.half = seed, Offsets(question, seed), _halves(question, seed)


def _asked(bank: Bank, attributions: Sequence[Attribution], metrics: Sequence[Curve]) -> list[_Line]:
    """The lines of metrics that say themselves how they are to be estimated."""
    drawn = {seed: _Draws(bank.question, seed) for seed in {int(m.seed) for m in metrics}}
    return _lines(bank, attributions, metrics, Auto(), lambda m: drawn[int(m.seed)])


def _estimates(bank: Bank, lines: Sequence[_Line], confidence: float) -> list[Estimate]:
    """Both rounds of all lines; passes are shared between them."""
    bank.ask(image for line in lines for image in _images(bank, line))
    wished = [line for line in lines if line.rule.precision is not None]
    for line in wished:
        line.factor = _plan(line, _replicates(bank, line), confidence)
    bank.ask(image for line in wished for image in _images(bank, line))
    return [_estimate(bank, line, confidence) for line in lines]


class Offsets:
    """Each sample's two offsets in [0, 1), from its name and the seed alone: the same for every curve."""

    def __init__(self, question: Question, seed: int) -> None:
        self.question, self.seed = question, seed
        self.drawn: dict[int, Numbers] = {}

    def __call__(self, row: int) -> Numbers:
        if row not in self.drawn:
            # A child generator: the sample's own one breaks ties.
            self.drawn[row] = self.question.rng(row, self.seed).spawn(2)[0].random(2)
        return self.drawn[row]


def _halves(question: Question, seed: int) -> npt.NDArray[np.bool_]:
    """Which half of the samples each belongs to, by a draw from its name."""
    drawn = [question.rng(row, seed).spawn(2)[1].random() for row in range(len(question))]
    half = np.zeros(len(drawn), dtype=bool)
    half[np.argsort(drawn, kind="stable")[::2]] = True
    return half


def _lines(
    bank: Bank,
    attributions: Sequence[Attribution],
    metrics: Sequence[Curve],
    plan: Auto,
    draws: Callable[[Curve], _Draws],
) -> list[_Line]:
    """A line per attribution and metric; `plan` is that of metrics which give a number of steps."""
    question, lines = bank.question, []
    for attribution in attributions:
        for metric in metrics:
            rule = metric.rule if isinstance(metric.rule, Auto) else replace(plan, of=steps_of(metric))
            modality = ranks.modality_of(question, metric.modality, metric.name)
            rank = bank.rank(attribution, modality, reduction_of(metric), int(metric.seed))
            units = int(np.prod(ranks.space_of(question, modality)))
            counts = np.unique(np.rint(np.linspace(0, units, rule.of + 1)).astype(np.intp))
            usable = bank.rankings[rank].usable
            factor = np.where(usable, 1 if len(counts) > rule.points else -1, 0)
            design = Design(counts / units, (rule.points - 2) // 2)
            fill, rows = bank.fill(modality, metric.fill), np.flatnonzero(usable)
            name = attribution.explainer
            lines.append(_Line(name, metric, rule, draws(metric), rank, fill, counts, design, rows, factor))
    return lines


def _images(bank: Bank, line: _Line) -> list[Masked]:
    """Every masked image that a line wants, the known ones included."""
    return [image for row in line.rows.tolist() for image in _named(bank, line, row, _used(line, row))]


def _used(line: _Line, row: int) -> npt.NDArray[np.intp]:
    """Numbers of the points that a sample uses, ends included, each once."""
    last, factor = len(line.counts) - 1, int(line.factor[row])
    if factor < 0:
        return np.arange(last + 1)
    return np.unique(np.concatenate([[0, last], line.design.draw(line.draws.offsets(row), factor).ravel()]))


def _named(bank: Bank, line: _Line, row: int, points: npt.NDArray[np.intp]) -> list[Masked]:
    counts = line.counts[points].tolist()
    return [bank.image(row, line.fill, line.rank, line.metric.inserts, k) for k in counts]


def _replicates(bank: Bank, line: _Line) -> Numbers:
    """Two independent estimates of each area (n, 2), NaN where there is none; the area itself, twice, where it is known."""
    found = np.full((len(line.factor), 2), np.nan)
    for row in line.rows.tolist():
        used = _used(line, row)
        curve = np.full(len(line.counts), np.nan)
        curve[used] = [bank.scores[image] for image in _named(bank, line, row, used)]
        if not np.isfinite(curve[used]).all():
            continue
        if line.factor[row] < 0:
            found[row] = trapezoid(curve, line.design.fractions)
        else:
            drawn = line.design.draw(line.draws.offsets(row), int(line.factor[row]))
            found[row] = line.design.areas(np.tile(curve[[0, -1]], (2, 1)), drawn, curve[drawn])
    return found


def _plan(line: _Line, pilot: Numbers, confidence: float) -> npt.NDArray[np.intp]:
    """Factors (n,) for the second round, each half's decided by the other's pilot."""
    assert line.rule.precision is not None
    half, precision, most = line.draws.half, line.rule.precision, line.rule.max_points or len(line.counts)
    factor, known = line.factor.copy(), ~np.isnan(pilot).any(axis=1)
    n, whole = int(known.sum()), len(line.counts)
    if n == 0 or (factor < 0).any():
        return factor
    cap = _cap(line)
    for side in (half, ~half):
        others = known & ~side
        enough = n >= _FEW and others.sum() >= 2
        needed = factor_needed(pilot[others], n, precision, confidence) if enough else math.inf
        # Both offsets draw apart and may repeat points: the whole curve is no dearer than as many, and has no error.
        if whole <= most and 2 * line.design.m * needed + 2 >= whole:
            factor[side & known] = -1
        else:
            factor[side & known] = max(math.ceil(min(needed, cap)), 1)
    return factor


def _cap(line: _Line) -> int:
    """The largest factor that `max_points` allows."""
    return max(((line.rule.max_points or len(line.counts)) - 2) // (2 * line.design.m), 1)


def _estimate(bank: Bank, line: _Line, confidence: float) -> Estimate:
    precision, held = line.rule.precision, bank.rankings[line.rank]
    replicates = _replicates(bank, line)
    mean = mean_of(replicates, confidence)
    points = np.zeros(len(line.factor), dtype=np.intp)
    for row in line.rows.tolist():
        points[row] = len(_used(line, row))
    n = int((~np.isnan(mean.values)).sum())
    params = {
        "steps": describe(line.rule),
        "of_steps": line.rule.of,
        "fill": fills.describe(fills.resolve(line.metric.fill)),
        "reduction": line.metric.reduction,
        "modality": held.modality,
        "seed": int(line.metric.seed),
        "auto_seed": line.draws.seed,
        "link": bank.question.target.link,
    }
    return Estimate(
        explainer=line.explainer,
        metric=line.metric.name,
        higher_is_better=line.metric.higher_is_better,
        mean=mean.mean,
        standard_error=mean.standard_error,
        low=mean.low,
        high=mean.high,
        n=n,
        n_missing=len(mean.values) - n,
        passes=int(points.sum()),
        full_passes=len(line.rows) * len(line.counts),
        reached=precision is None or (mean.high - mean.low) / 2 <= precision,
        values=mean.values,
        variances=mean.variances,
        points=points,
        whole=line.factor < 0,
        replicates=replicates,
        extras=held.extras,
        params=params,
    )


def _full_passes(bank: Bank, lines: Sequence[_Line]) -> int:
    """Distinct masked images of the full curves."""
    ends: set[Masked] = set()
    inner: dict[tuple[int, int, int, bool], set[int]] = {}  # image apart from its units -> the lines that are about it
    for number, line in enumerate(lines):
        first = bank.rankings[line.rank].first.tolist()
        for row in line.rows.tolist():
            ends.update(_named(bank, line, row, np.array([0, len(line.counts) - 1])))
            inner.setdefault((row, first[row], line.fill, line.metric.inserts), set()).add(number)
    sizes: dict[frozenset[int], int] = {}
    for group in map(frozenset, inner.values()):
        if group not in sizes:
            sizes[group] = len(set().union(*(lines[i].counts[1:-1].tolist() for i in group)))
    return len(ends) + sum(sizes[frozenset(group)] for group in inner.values())


def _check(metrics: Sequence[Curve]) -> None:
    if not metrics:
        raise InvalidInput("name a metric to estimate, such as Deletion(100)")
    for metric in metrics:
        if not (hasattr(metric, "inserts") and hasattr(metric, "rule")):
            raise Unsupported(
                f"only deletion and insertion have an area to estimate, not {getattr(metric, 'name', metric)!r}: "
                "call it, or `curves.evaluate`"
            )
        check(metric)


PLAIN = {"steps", "fill", "reduction", "modality", "seed"}


def check(metric: Curve) -> None:
    """Raise `Unsupported` for a deletion or insertion whose mean area has no estimate, saying what to write instead."""
    name, instead = type(metric).name, f"write a number of steps, such as steps={steps_of(metric)}, for the whole curve"
    # More options may come; those that change what the curve is are refused until they are estimated too.
    for option in dataclasses.fields(metric):
        if option.name not in PLAIN and getattr(metric, option.name) != option.default:
            raise Unsupported(
                f"{name}: only curves of the default convention are estimated, not {option.name}="
                f"{getattr(metric, option.name)!r}: {instead}"
            )
    reduction_of(metric)
    if imputes(metric.fill):
        raise Unsupported(f"{name}: a fill that reads the mask has no estimate: {instead}")


def steps_of(metric: Curve) -> int:
    """The number of equal steps of the curve to estimate; `Unsupported` for another rule."""
    if isinstance(metric.rule, Auto):
        return int(metric.rule.of)
    if isinstance(metric.steps, bool) or not isinstance(metric.steps, int | np.integer):
        raise Unsupported(f"{metric.name}: only a number of equal steps is estimated, not steps={metric.steps!r}")
    return int(metric.steps)


def reduction_of(metric: Curve) -> Reduction:
    """The reduction, if estimates know it."""
    known: Reduction
    for known in get_args(Reduction):
        if known == metric.reduction:
            return known
    raise Unsupported(
        f"{metric.name}: no estimate for reduction={metric.reduction!r}: write a number of steps for the whole curve"
    )
