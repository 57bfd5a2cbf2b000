"""Which curves have an area that can be estimated from a few points: those of the default convention, with the reasons."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, get_args

import numpy as np

from crossxai.attribution import Reduction
from crossxai.errors import Unsupported
from crossxai.evaluation.fills import imputes
from crossxai.evaluation.steps import Auto

if TYPE_CHECKING:
    from crossxai.evaluation.curves import Curve

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
