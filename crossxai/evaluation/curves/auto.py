"""The mean area of deletion and insertion from a few forward passes per sample, with its error: what `steps="auto"` means.

Twelve masked images per sample instead of a hundred, and more only where a requested precision needs them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.integrate import trapezoid

from crossxai.attribution import Attribution, Scores
from crossxai.errors import InvalidInput, Unsupported
from crossxai.evaluation.curves import ranks
from crossxai.evaluation.curves.copies import Codes
from crossxai.evaluation.curves.estimates import Design, Estimate, Estimates, factor_needed, mean_of
from crossxai.evaluation.curves.fills import describe as describe_fill
from crossxai.evaluation.curves.fills import resolve
from crossxai.evaluation.curves.masking import Masking, RankedMaps
from crossxai.evaluation.curves.options import CurveOptions
from crossxai.evaluation.curves.ranks import Ranking
from crossxai.evaluation.curves.steps import Auto, counts, describe
from crossxai.question import Question, Rows

Numbers = npt.NDArray[np.float64]

_FEW = 8  # usable samples below which a pilot says too little, and a requested precision takes the whole curve


@dataclass
class _Line:
    """One curve of one attribution: its order, its fill, and the points that are drawn of it."""

    explainer: str
    metric: CurveOptions
    rule: Auto
    draws: Draws
    maps: RankedMaps
    fill: int
    counts: npt.NDArray[np.intp]
    design: Design
    rows: Rows
    factor: npt.NDArray[np.intp]  # (n,): how many times the design's points a sample takes; -1: the whole curve


def estimate(
    question: Question,
    attributions: Sequence[Attribution],
    metrics: Sequence[CurveOptions],
    *,
    precision: float | None = None,
    points: int = 12,
    max_points: int | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    progress: Callable[[int], object] = lambda _: None,
) -> Estimates:
    """Estimate the mean area of every attribution under every deletion or insertion, the mean of their full curves' areas.

    metrics: `Deletion(100)` and the like; what is estimated is the curve with those steps. points, precision, max_points: see
    `steps.Auto`; a curve of no more points is scored whole, without error. seed: of the draws, apart from the metrics' own.

    Unbiased exactly, the second round included: whether a sample gets more points is decided by the spread seen in the other
    half of the samples, never by its own draws, and only once. Fewer than 8 usable samples are scored whole if a precision is
    requested. Samples share their offsets between curves, so errors of two explainers partly cancel: `estimates.difference`.
    `progress` is given the number of images of each batch.
    """
    _check(metrics)
    plan = Auto(points=points, precision=precision, max_points=max_points)
    masking = Masking(question)
    lines = _lines(masking, question, attributions, metrics, plan, seed)
    estimates = _estimates(masking, lines, confidence, progress)
    width = len(metrics)
    table = tuple(tuple(estimates[i * width : (i + 1) * width]) for i in range(len(attributions)))
    return Estimates(table, len(masking.known), len(_full(masking, lines)))


def scores(
    question: Question,
    attributions: Sequence[Attribution],
    metrics: Sequence[CurveOptions],
    progress: Callable[[int], object] = lambda _: None,
) -> list[Scores]:
    """Scores of attributions × metrics, row by row, for `steps="auto"`: no curves; each metric's seed is that of its draws."""
    masking = Masking(question)
    lines = _lines(masking, question, attributions, metrics)
    return [estimate.scores() for estimate in _estimates(masking, lines, 0.95, progress)]


def passes(question: Question, attributions: Sequence[Attribution], metrics: Sequence[CurveOptions]) -> int:
    """Forward passes that `scores` spends: exact without a precision; with one, the most it may take."""
    masking = Masking(question)
    lines = _lines(masking, question, attributions, metrics)
    drawn = [_copies(masking, line) for line in lines if line.rule.precision is None]
    own = len(np.unique(np.concatenate(drawn))) if drawn else 0
    precise = [line for line in lines if line.rule.precision is not None]
    most = sum(len(line.rows) * _most(line) for line in precise)
    return own + min(most, len(_full(masking, precise)))


def _most(line: _Line) -> int:
    """The most points of one sample: the whole curve if it may be taken, else as many draws as `max_points` leaves room for."""
    whole, most = len(line.counts), line.rule.max_points or len(line.counts)
    if whole <= max(most, line.rule.points):
        return whole
    return 2 * line.design.m * _cap(line) + 2


class Draws:
    """What is drawn for a seed, the same for every curve: each sample's two offsets in [0, 1) (n, 2), and half of the samples."""

    def __init__(self, question: Question, seed: int) -> None:
        # Child generators: the sample's own one breaks ties.
        pairs = [question.rng(row, seed).spawn(2) for row in range(len(question))]
        self.seed, self.half = seed, np.zeros(len(question), dtype=bool)
        self.offsets = np.reshape([offsets.random(2) for offsets, _ in pairs], (-1, 2))
        self.half[np.argsort([half.random() for _, half in pairs], kind="stable")[::2]] = True


def _estimates(
    masking: Masking, lines: Sequence[_Line], confidence: float, progress: Callable[[int], object]
) -> list[Estimate]:
    """Both rounds of all lines; passes are shared between them."""
    precise = [line for line in lines if line.rule.precision is not None]
    if lines:
        masking.score(np.concatenate([_copies(masking, line) for line in lines]), progress)
    for line in precise:
        line.factor = _plan(line, _replicates(masking, line), confidence)
    if precise:
        masking.score(np.concatenate([_copies(masking, line) for line in precise]), progress)
    return [_estimate(masking, line, confidence) for line in lines]


def _lines(
    masking: Masking,
    question: Question,
    attributions: Sequence[Attribution],
    metrics: Sequence[CurveOptions],
    plan: Auto | None = None,
    seed: int | None = None,
) -> list[_Line]:
    """A line per attribution and metric; plan: of metrics with a number of steps; seed: of draws, None for each metric's."""
    lines, drawn = [], dict[int, Draws]()
    for attribution in attributions:
        for metric in metrics:
            rule = metric.rule if isinstance(metric.rule, Auto) else replace(plan or Auto(), of=metric.equal_steps())
            modality = ranks.modality_of(question, metric.modality, metric.name)
            maps = masking.rank(attribution, modality, Ranking(modality.name, metric.reduction, int(metric.seed)))
            points = counts(maps.ranked.total, rule.of)
            factor = np.where(maps.usable, 1 if len(points) > rule.points else -1, 0)
            design = Design(points / maps.ranked.total, (rule.points - 2) // 2)
            fill, rows = masking.fill({modality.name: metric.fill}), np.flatnonzero(maps.usable)
            name, own = attribution.explainer, int(metric.seed) if seed is None else seed
            draws = drawn[own] = drawn.get(own) or Draws(question, own)
            lines.append(_Line(name, metric, rule, draws, maps, fill, points, design, rows, factor))
    return lines


def _copies(masking: Masking, line: _Line) -> Codes:
    """Codes (m,) of every copy that a line wants, sample by sample."""
    used = [_used(line, row) for row in line.rows.tolist()]
    points = np.concatenate([np.zeros(0, np.intp), *used])
    return _coded(masking, line, np.repeat(line.rows, [len(own) for own in used]), line.counts[points][:, None])[:, 0]


def _coded(masking: Masking, line: _Line, rows: Rows, counts: npt.NDArray[np.intp]) -> Codes:
    return masking.codes(rows, line.maps.order, line.fill, counts, line.metric.inserts)


def _used(line: _Line, row: int) -> npt.NDArray[np.intp]:
    """Numbers of the points that a sample uses, ends included, each once."""
    last, factor = len(line.counts) - 1, int(line.factor[row])
    if factor < 0:
        return np.arange(last + 1)
    return np.unique(np.concatenate([[0, last], line.design.draw(line.draws.offsets[row], factor).ravel()]))


def _replicates(masking: Masking, line: _Line) -> Numbers:
    """Two independent estimates of each area (n, 2), NaN where there is none; the area itself, twice, where it is known."""
    areas = np.full((len(line.factor), 2), np.nan)
    scores, start = masking.read(_copies(masking, line)), 0
    for row in line.rows.tolist():
        used = _used(line, row)
        curve = np.full(len(line.counts), np.nan)
        curve[used] = scores[start : start + len(used)]
        start += len(used)
        if not np.isfinite(curve[used]).all():
            continue
        if line.factor[row] < 0:
            areas[row] = trapezoid(curve, line.design.fractions)
        else:
            drawn = line.design.draw(line.draws.offsets[row], int(line.factor[row]))
            areas[row] = line.design.areas(np.tile(curve[[0, -1]], (2, 1)), drawn, curve[drawn])
    return areas


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


def _estimate(masking: Masking, line: _Line, confidence: float) -> Estimate:
    precision, replicates = line.rule.precision, _replicates(masking, line)
    mean = mean_of(replicates, confidence)
    points = np.zeros(len(line.factor), dtype=np.intp)
    for row in line.rows.tolist():
        points[row] = len(_used(line, row))
    n = int((~np.isnan(mean.values)).sum())
    params = {
        "steps": describe(line.rule),
        "of_steps": line.rule.of,
        "fill": describe_fill(resolve(line.metric.fill)),
        "reduction": line.metric.reduction,
        "modality": line.maps.ranked.modality.name,
        "seed": int(line.metric.seed),
        "auto_seed": line.draws.seed,
        "link": masking.question.target.link,
    }
    return Estimate(
        **vars(mean),
        explainer=line.explainer,
        metric=line.metric.name,
        higher_is_better=line.metric.higher_is_better,
        n=n,
        n_missing=len(mean.values) - n,
        passes=int(points.sum()),
        full_passes=len(line.rows) * len(line.counts),
        reached=precision is None or (mean.high - mean.low) / 2 <= precision,
        points=points,
        whole=line.factor < 0,
        replicates=replicates,
        extras=line.maps.extras,
        params=params,
    )


def _full(masking: Masking, lines: Sequence[_Line]) -> Codes:
    """Codes of the copies of the full curves, each once."""

    def wanted(rows: Rows) -> list[Codes]:
        return [_coded(masking, line, rows[line.maps.usable[rows]], line.counts) for line in lines]

    return masking.distinct(wanted, sum(len(line.counts) for line in lines))


def _check(metrics: Sequence[CurveOptions]) -> None:
    if not metrics:
        raise InvalidInput("name a metric to estimate, such as Deletion(100)")
    for metric in metrics:
        if not (hasattr(metric, "inserts") and hasattr(metric, "rule")):
            raise Unsupported(
                f"only deletion and insertion have an area to estimate, not {getattr(metric, 'name', metric)!r}: "
                "call it, or `curves.evaluate`"
            )
        metric.require_estimable()
