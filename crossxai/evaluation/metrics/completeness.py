"""Completeness: maps that add up to the change of the score, and joint deletion and insertion, which need such maps.

A pixel ranks against a column only in the unit of the score, which a class activation map or a gradient does not have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

import numpy as np
from scipy.integrate import trapezoid

from crossxai.attribution import Attribution, Axis, Metric, Range, Scores
from crossxai.errors import InvalidInput, Unsupported
from crossxai.evaluation.curves import fills, ranks
from crossxai.evaluation.curves.copies import Order
from crossxai.evaluation.curves.fills import Fill, FillLike, describe, plain
from crossxai.evaluation.curves.masking import scores_replaced, scores_without
from crossxai.evaluation.curves.steps import counts
from crossxai.evaluation.metrics.families import Numbers, spread
from crossxai.evaluation.parameters import Count, FromZero, Parameters, finite
from crossxai.model import Array, Modality
from crossxai.question import Question


@dataclass(frozen=True, kw_only=True)
class CompletenessGap(Parameters):
    """Distance of the map's sum from the score's change between baseline and input, in the score's units; lower is better.

    Parameters
    ----------
    baseline : str, mapping, callable or None
        A fill, see `fills`; None is the explainer's own parameter `baseline`, zero if it has none.
    modality : str
        The one whose map is summed and that goes to its baseline, "" for all modalities of the map together. Maps that were
        made one modality at a time are complete each for itself: name it.
    relative : bool, divide by |f(x) - f(b)|, NaN where that is 0

    Notes
    -----
    |Σ map - (f(x) - f(b))|, of the score that was explained, not the one that other metrics measure. extras: "sum" and
    "difference". A map that is not finite has no sum: NaN.
    """

    baseline: fills.FillLike | None = None
    modality: str = ""
    relative: bool = False

    name: ClassVar[str] = "completeness_gap"
    higher_is_better: ClassVar[bool] = False
    asks: ClassVar[str] = "explained"
    axis: ClassVar[Axis] = "axiomatic"
    range: ClassVar[Range] = (0.0, None)
    source: ClassVar[str] = "Sundararajan et al. 2017"
    invariant_to: ClassVar[str] = "nothing"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.baseline is not None:
            object.__setattr__(self, "baseline", fills.resolve(self.baseline))

    def __call__(self, question: Question, attribution: Attribution) -> Scores:
        """Gaps (n,), from two forward passes per sample."""
        maps = attribution.modalities
        if self.modality:
            maps = (ranks.modality_of(question, self.modality, self.name),)
        n, total = len(question), np.zeros(len(question))
        for modality in maps:
            relevance = ranks.units(question, attribution, modality).reshape(n, -1).astype(np.float64)
            usable = ranks.usable(relevance)
            total += np.where(usable, np.where(usable[:, None], relevance, 0).sum(axis=1), np.nan)
        (fill, described), names = self._fill(attribution.params), {m.name for m in maps}
        scores = scores_replaced(question, [{m: fill for m in question.model.modalities if m.name in names}])
        difference = scores[:, 0] - scores[:, 1]
        gap = np.abs(total - difference)
        if self.relative:
            gap = np.where(difference != 0, gap / np.where(difference != 0, np.abs(difference), 1), np.nan)
        extras: dict[str, Array] = {"sum": total, "difference": difference}
        params = {field.name: getattr(self, field.name) for field in fields(self)}
        params |= {"baseline": described, "link": question.target.link}
        return Scores(self.name, gap, self.higher_is_better, extras=extras, params=params)

    def check(self, question: Question) -> None:
        """Raise `Unsupported` or `InvalidInput` for a question that this metric cannot measure, without calling the model."""
        if self.modality:
            ranks.modality_of(question, self.modality, self.name)
        if self.baseline is not None:
            for modality, values in zip(question.modalities, question.values, strict=True):
                if self.modality in ("", modality.name):
                    fills.filled(self.baseline, modality, values[:1])

    def passes(self, question: Question) -> int:
        """Forward passes per sample: the input and its baseline."""
        return 2

    def _fill(self, params: Mapping[str, Any]) -> tuple[fills.Fill, object]:
        """What the map was measured from, and its description."""
        own = params.get("baseline")
        if self.baseline is None and finite(own):
            return lambda values: np.full_like(values, own), own
        named = own if self.baseline is None and isinstance(own, str | Mapping) else "zero"
        fill = fills.resolve(named if self.baseline is None else self.baseline)
        return fill, fills.describe(fill)


@dataclass(frozen=True, kw_only=True)
class Joint(Parameters):
    """A curve over the units of all free modalities in one ranking.

    Parameters
    ----------
    tolerance : float
        The largest mean |completeness gap|, as a share of the mean |change of the score| that the maps explain. Maps above it,
        or without an extra "completeness_gap" (or one per modality, "completeness_gap.<name>"), are refused with `Unsupported`.

    Notes
    -----
    A unit is a pixel with all its channels, or a column. Pixels far outnumber columns, so the curve is about where in the order
    the columns come, and which. extras["relative_gap"] is the sample's own gap, as a share of its change.
    """

    steps: Count = 24
    fill: FillLike = "zero"
    fills: Mapping[str, FillLike] = field(default_factory=dict)
    tolerance: float = 0.05
    seed: FromZero = 0

    axis: ClassVar[Axis] = "faithfulness"
    source: ClassVar[str] = "Petsiuk et al. 2018"
    inserts: ClassVar[bool]

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.tolerance, bool) or not isinstance(self.tolerance, int | float) or not self.tolerance > 0:
            raise InvalidInput(f"{self.name}: tolerance must be a positive share, got {self.tolerance!r}")
        object.__setattr__(self, "fills", fills.by_modality(self.fills, self.name))

    def __call__(self, question: Question, attribution: Attribution) -> Scores:
        """Per-sample curves (n, points) over the fraction of all units, and their areas (n,)."""
        gaps = completeness(question, attribution, self.name, self.tolerance)
        own = self._fills(question)
        maps = [ranks.units(question, attribution, m).reshape(len(question), -1) for m in own]
        relevance = np.concatenate(maps, axis=1)
        rows = np.flatnonzero(ranks.usable(relevance))
        units = relevance.shape[1]
        points = counts(units, self.steps)

        def order(row: int) -> Order:
            return Order(ranks.order(question, relevance[[row]], [row], self.seed)[0])

        scores = scores_without(question, own, rows, order, points, units, self.inserts)
        curve = spread(scores, rows, len(question))
        extras = {
            "degenerate": ranks.degenerate(relevance),
            "tie_rate": ranks.tie_rate(relevance),
            "relative_gap": gaps,
        }
        if question.part_of is not None:
            for key, pair in _gaps(question, attribution, self.name).items():
                extras |= dict(zip((of + key for of in PARTS), pair, strict=True))
        area = np.asarray(trapezoid(curve, points / units, axis=1))
        params = {
            "steps": int(self.steps),
            "fills": {m.name: describe(fill) for m, fill in own.items()},
            "tolerance": float(self.tolerance),
            "seed": int(self.seed),
            "link": question.target.link,
        }
        return Scores(self.name, area, self.higher_is_better, curve, points / units, extras, params)

    def passes(self, question: Question) -> int:
        """Forward passes per sample whose maps are finite, exactly."""
        units = sum(int(np.prod(ranks.space_of(question, modality))) for modality in self._fills(question))
        return len(counts(units, self.steps))

    def _fills(self, question: Question) -> dict[Modality, Fill]:
        """What replaces the units of each free modality."""
        return {m: plain(fill) for m, fill in fills.of_modalities(question, self.fill, self.fills).items()}


@dataclass(frozen=True, kw_only=True)
class JointDeletion(Joint):
    """Area under the score as the most relevant units of all modalities are removed first; lower is better."""

    name: ClassVar[str] = "joint_deletion"
    higher_is_better: ClassVar[bool] = False
    inserts: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class JointInsertion(Joint):
    """Area under the score as the most relevant units of all modalities are put back first; higher is better."""

    name: ClassVar[str] = "joint_insertion"
    higher_is_better: ClassVar[bool] = True
    inserts: ClassVar[bool] = True


def refusals(metrics: Mapping[str, Metric], question: Question, attribution: Attribution) -> dict[str, str]:
    """The joint ones of these metrics that cannot measure an attribution, by name, with the reasons."""
    reasons = {}
    for name, metric in metrics.items():
        try:
            if isinstance(metric, Joint):
                completeness(question, attribution, metric.name, metric.tolerance)
        except Unsupported as error:
            reasons[name] = str(error)
    return reasons


PARTS = ("gap of ", "change of ")
"""Extras of scores of a part of a run: whether maps add up is judged of all samples, once they are together."""


def completeness(question: Question, attribution: Attribution, metric: str, tolerance: float) -> Numbers:
    """|completeness gap| as a share of the score's change (n,), the maps' sum less the gap; raises `Unsupported`, see `Joint`."""
    worst = np.zeros(len(question))
    for key, (gap, change) in _gaps(question, attribution, metric).items():
        known = np.isfinite(change) & np.isfinite(gap)
        if question.part_of is None and (
            reason := _refusal(metric, attribution.explainer, key, gap, change, tolerance)
        ):
            raise Unsupported(reason)
        size = np.where(change == 0, np.where(gap == 0, 1.0, np.nan), np.abs(change))
        worst = np.maximum(worst, np.where(known, np.abs(gap) / size, np.nan))
    return worst


def of_parts(scores: Scores, explainer: str) -> tuple[Scores, str]:
    """The scores of all parts without what tells whether the maps add up, and why they do not; "" if they do."""
    of_gap, of_change = PARTS
    keys = [name.removeprefix(of_gap) for name in scores.extras if name.startswith(of_gap)]
    own = {name: values for name, values in scores.extras.items() if not name.startswith(PARTS)}
    given = {key: (scores.extras[of_gap + key], scores.extras[of_change + key]) for key in keys}
    reasons = (
        _refusal(scores.metric, explainer, key, gap, change, scores.params["tolerance"])
        for key, (gap, change) in given.items()
    )
    return replace(scores, extras=own), next(filter(None, reasons), "")


def _refusal(metric: str, explainer: str, key: str, gap: Array, change: Array, tolerance: float) -> str:
    """Why maps do not add up well enough; "" if they do."""
    known = np.isfinite(change) & np.isfinite(gap)
    missed, explained = float(np.abs(gap[known]).sum()), float(np.abs(change[known]).sum())
    if missed <= tolerance * explained:
        return ""
    share = f"{missed / explained:.0%} of" if explained else "not zero, unlike"
    return (
        f"{metric}: the maps of {explainer} do not add up to the change of the score: the mean "
        f"{key} is {share} it, {tolerance:.0%} are allowed: write more steps for the explainer, or tolerance=…"
    )


def _gaps(question: Question, attribution: Attribution, metric: str) -> dict[str, tuple[Numbers, Numbers]]:
    """By extra, the completeness gap and the change of the score that maps explain, (n,) each; raises `Unsupported`."""
    names, held = ([m.name for m in modalities] for modalities in (question.modalities, attribution.modalities))
    if lacking := [name for name in names if name not in held]:
        raise Unsupported(
            f"{metric} ranks {', '.join(names)} together; {attribution.explainer} has no map of {', '.join(lacking)}"
        )
    if "completeness_gap" in attribution.extras:
        if len(held) > len(names):
            raise Unsupported(
                f"{metric}: the maps of {attribution.explainer} add up over {', '.join(held)} together, the question asks "
                f"about {', '.join(names)} alone"
            )
        groups = {"completeness_gap": names}
    else:
        groups = {f"completeness_gap.{name}": [name] for name in names}
    with np.errstate(invalid="ignore"):  # opposite infinities, which are left out below
        totals = {
            m.name: ranks.units(question, attribution, m).reshape(len(question), -1).sum(axis=1, dtype=np.float64)
            for m in question.modalities
        }
    pairs = {}
    for key, members in groups.items():
        if key not in attribution.extras:
            raise Unsupported(
                f"{metric} ranks units of all modalities together, so they must be in the unit of the score; "
                f"{attribution.explainer} gives no {key}, which would show that its maps add up: explain with a "
                "complete method, such as integrated gradients"
            )
        gap = np.asarray(attribution.extras[key], dtype=np.float64)
        if gap.shape != (len(question),):
            raise InvalidInput(f"{attribution.explainer}: {key} has shape {gap.shape}, one number per sample is needed")
        pairs[key] = gap, sum((totals[name] for name in members), np.zeros(len(question))) - gap
    return pairs
