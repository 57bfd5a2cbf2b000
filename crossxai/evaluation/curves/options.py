"""The options of deletion and insertion: the axes on which implementations differ, each a named field."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from crossxai.attribution import Axis, Reduction, Scores
from crossxai.errors import InvalidInput, Unsupported
from crossxai.evaluation.curves import ranks
from crossxai.evaluation.curves import steps as rules
from crossxai.evaluation.curves.fills import FillLike, describe, imputes, resolve
from crossxai.evaluation.curves.ranks import Order, Reducing, Unit
from crossxai.evaluation.curves.steps import Area, Auto, StepsLike
from crossxai.evaluation.curves.steps import area as area_of
from crossxai.evaluation.parameters import Count, FromZero, Parameters
from crossxai.model import Array, Modality

_ESTIMABLE = {"steps", "fill", "reduction", "modality", "seed"}


@dataclass(frozen=True)
class CurveOptions(Parameters):
    """What deletion and insertion share: the axes on which implementations differ, each a named option.

    Parameters
    ----------
    steps : int, str or mapping
        Intervals between "nothing" and "everything", rounded to whole units; fewer if there are fewer units. Or a rule of
        `steps`, such as {"pixels": 224} or {"percentiles": [90, 50, 10]}; "auto" for the area alone, from a few points.
    reduction : str
        How channels become one relevance per pixel. "channels_abs_sum" is the sum of absolute values, a map of one channel being
        taken as it is.
    unit : {"pixel", "element", "patch", "segment"}
        What goes at once: a pixel with its channels, an element of one channel, a patch of size × size pixels, or a segment of
        about `size` SLIC superpixels.
    size : int, side of patches in pixels, or number of segments
    ties : {"seeded", "stable", "flipped", "unstable"}, see `ranks.order`
    endpoints : {"both", "no_start", "no_end", "neither"}, which ends the curve has
    refill : bool, each step fills from the image as the one before left it
    score : {"score", "ratio", "change", "drop"}
        The score itself, its ratio to the untouched image's, its change from it (after - before), or its drop (before - after).
    area : {"fractions", "trapezoid", "mean", "over_len", "raw"}, see `steps.area`
    aggregation : {"per_sample", "mean_curve"}, whether `total` is the mean of areas or the area of the mean curve
    order : {"morf", "lerf"}, most relevant first, or least

    Notes
    -----
    The value is, by default, the trapezoid area over the true fractions of units. The score is the question's target: areas
    lie in [0, 1] for probabilities (link="softmax" or "sigmoid"), and anywhere for logits or regression.
    A map that is not finite gives NaN and costs no forward pass; a constant one is ranked by the seed alone. Both have
    extras["degenerate"] = 1. extras["tie_rate"] is the share of units whose value another unit has too. A ratio to a score
    of exactly zero is NaN.
    """

    steps: StepsLike = 24
    fill: FillLike = "zero"
    reduction: Reducing = "sum"
    modality: str = ""
    seed: FromZero = 0
    unit: Unit = "pixel"
    size: Count = 8
    ties: ranks.Ties = "seeded"
    endpoints: Literal["both", "no_start", "no_end", "neither"] = "both"
    refill: bool = False
    score: Literal["score", "ratio", "change", "drop"] = "score"
    area: Area = "fractions"
    aggregation: Literal["per_sample", "mean_curve"] = "per_sample"
    order: Order = "morf"

    axis: ClassVar[Axis] = "faithfulness"
    source: ClassVar[str] = "Petsiuk et al. 2018"
    inserts: ClassVar[bool]

    def __post_init__(self) -> None:
        _ = self.rule  # steps that make no rule are refused here
        super().__post_init__()
        if self.refill and (self.inserts or imputes(self.fill)):
            why = (
                "insertion uncovers the image's own pixels" if self.inserts else "an imputation already reads the mask"
            )
            raise InvalidInput(f"{self.name}: refill makes no sense here, {why}: leave it out")
        if self.auto:
            self.require_estimable()
        # The other order, or the other sign, turns the direction round; the name says so where the curve is another one.
        if self.order == "lerf":
            object.__setattr__(self, "name", f"{type(self).name}_lerf")
        if (self.order == "lerf") != (self.score == "drop"):
            object.__setattr__(self, "higher_is_better", not type(self).higher_is_better)

    @cached_property
    def rule(self) -> rules.Rule:
        """The step rule behind `steps`."""
        return rules.resolve(self.steps, self.name)

    @cached_property
    def auto(self) -> bool:
        """Whether the area is estimated from a few points, and there is no curve."""
        return isinstance(self.rule, Auto)

    def ends(self, counts: rules.Counts) -> rules.Counts:
        """A rule's points without the ends that this curve does not have."""
        first = self.endpoints in ("no_start", "neither")
        last = len(counts) - (self.endpoints in ("no_end", "neither"))
        return counts[int(first) : max(last, int(first))]

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

    def measure(self, curve: Array, start: Array, fractions: Array, lengths: rules.Counts) -> tuple[Array, Array]:
        """Curves (n, points) of scores become curves of `score`, and their areas (n,)."""
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

    def require_estimable(self) -> None:
        """Raise `Unsupported` where the mean area has no estimate from a few points, saying what to write instead."""
        name, steps = type(self).name, self.equal_steps()
        instead = f"write a number of steps, such as steps={steps}, for the whole curve"
        # More options may come; those that change what the curve is are refused until they are estimated too.
        for option in fields(self):
            if option.name not in _ESTIMABLE and getattr(self, option.name) != option.default:
                raise Unsupported(
                    f"{name}: only curves of the default convention are estimated, not {option.name}="
                    f"{getattr(self, option.name)!r}: {instead}"
                )
        if self.reduction not in get_args(Reduction):
            raise Unsupported(
                f"{self.name}: no estimate for reduction={self.reduction!r}: write a number of steps for the whole curve"
            )
        if imputes(self.fill):
            raise Unsupported(f"{name}: a fill that reads the mask has no estimate: {instead}")

    def equal_steps(self) -> int:
        """The number of equal steps of the curve whose area is estimated; `Unsupported` for another rule."""
        if isinstance(self.rule, Auto):
            return int(self.rule.of)
        if isinstance(self.steps, bool) or not isinstance(self.steps, int | np.integer):
            raise Unsupported(f"{self.name}: only a number of equal steps is estimated, not steps={self.steps!r}")
        return int(self.steps)

    def described(self, modality: Modality, link: str) -> dict[str, Any]:
        """The parameters as used, for `Scores.params`; of the rarer options, what differs from the default."""
        params: dict[str, Any] = {
            "steps": rules.describe(self.rule),
            "fill": describe(resolve(self.fill)),
            "reduction": self.reduction,
            "modality": modality.name,
            "seed": int(self.seed),
            "link": link,
        }
        for option in fields(CurveOptions)[5:]:
            value = getattr(self, option.name)
            if value != option.default and (option.name != "size" or self.unit in ("patch", "segment")):
                params[option.name] = value
        return params
