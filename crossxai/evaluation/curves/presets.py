"""Presets: deletion and insertion as each library computes them, as options of one engine.

`get("xplique")` gives the metrics; any of them is a `Curve`, whose fields say what the convention is. What a preset cannot hold,
because it belongs elsewhere: the score's link and class are the question's target (Xplique, torch-cam: raw outputs by default;
the rest: the probability), and resizing a small map is the explainer's affair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from crossxai.errors import InvalidInput, UnknownName
from crossxai.evaluation.curves import fills, steps
from crossxai.evaluation.curves.deletion import Curve, Deletion, Insertion
from crossxai.evaluation.curves.fills import Grey, KernelBlur, Minimum, Standardised
from crossxai.evaluation.curves.imputation import NoisyLinear

Standardise = Callable[[fills.Fill], fills.Fill]


@dataclass(frozen=True)
class Preset:
    """A convention: whose, where it was published or read, and in words what sets it apart."""

    name: str
    source: str
    words: str
    make: Callable[[Standardise], tuple[Curve, ...]]


def get(
    name: str,
    *,
    mean: Sequence[float] = (),
    sd: Sequence[float] = (),
    limit: int = 0,
    modality: str = "",
    seed: int = 0,
) -> tuple[Curve, ...]:
    """The metrics of a preset; raises `UnknownName` or `InvalidInput`.

    mean, sd: what turns raw inputs into those that the library would be handed, one number per channel. A zero of torch-cam, or
    RISE's, is then the mean colour; without them these libraries are taken to see raw inputs. limit: at most so many
    intervals where the library's own rule makes more; 0 for its own. seed: ties (ours) and noise.
    """
    if name not in PRESETS:
        raise UnknownName("preset", name, PRESETS)
    if bool(len(mean)) != bool(len(sd)):
        raise InvalidInput("a preset needs mean and sd together, one number per channel each, or neither")
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0 or limit == 1:
        raise InvalidInput(
            f"limit: write a whole number of intervals, at least 2, or 0 for the library's own; got {limit!r}"
        )

    def standardise(fill: fills.Fill) -> fills.Fill:
        if not len(mean):
            return fill
        zero = isinstance(fill, fills.Zero)
        return fills.DatasetMean(tuple(mean)) if zero else Standardised(fill, tuple(mean), tuple(sd))

    metrics = PRESETS[name].make(standardise)
    shared: dict[str, Any] = {"modality": modality, "seed": seed}
    return tuple(replace(m, steps=_limited(m.rule, limit), **shared) for m in metrics)


def _limited(rule: steps.Rule, limit: int) -> steps.Rule:
    if not limit:
        return rule
    if isinstance(rule, steps.Pixels):
        return replace(rule, most=limit)
    if isinstance(rule, steps.Fractions | steps.Linspace | steps.Ceil):
        return replace(rule, intervals=min(rule.intervals, limit))
    if isinstance(rule, steps.Floor):
        return replace(rule, points=min(rule.points, limit + 1))
    if isinstance(rule, steps.Percentiles) and len(rule.levels) > limit:
        every = [round(i * (len(rule.levels) - 1) / (limit - 1)) for i in range(limit)]
        return replace(rule, levels=tuple(rule.levels[i] for i in every))
    return rule


def _ours(standardise: Standardise) -> tuple[Curve, ...]:
    return Deletion(fill=standardise(fills.Zero())), Insertion(fill=fills.Blur())


def _rise(standardise: Standardise) -> tuple[Curve, ...]:
    common: dict[str, Any] = {"steps": steps.Pixels(224), "ties": "flipped", "area": "trapezoid"}
    blur = KernelBlur(11, 5.0, border="zero", folded=True)
    return Deletion(fill=standardise(fills.Zero()), **common), Insertion(fill=standardise(blur), **common)


def _xplique(standardise: Standardise) -> tuple[Curve, ...]:
    common: dict[str, Any] = {"ties": "flipped", "area": "trapezoid", "aggregation": "mean_curve", "reduction": "mean"}
    common |= {"steps": steps.Linspace(10), "fill": fills.Zero()}
    return Deletion(**common), Insertion(**common)


def _quantus_pixel_flipping(standardise: Standardise) -> tuple[Curve, ...]:
    # Quantus takes the minimum again at each step: it is what was filled in, so nothing changes, and one fill does.
    return (
        Deletion(
            steps=steps.Pixels(1),
            fill=standardise(Minimum()),
            unit="element",
            ties="unstable",
            endpoints="no_start",
            area="raw",
        ),
    )


def _gradcam_road(standardise: Standardise) -> tuple[Curve, ...]:
    levels = tuple(float(kept) for kept in range(90, 0, -10))
    common: dict[str, Any] = {"steps": steps.Percentiles(levels), "fill": standardise(NoisyLinear())}
    common |= {"endpoints": "neither", "score": "change", "area": "mean"}
    return Deletion(**common), Deletion(**common, order="lerf")


def _torchcam(standardise: Standardise) -> tuple[Curve, ...]:
    common: dict[str, Any] = {"steps": steps.Ceil(20), "fill": standardise(fills.Zero()), "ties": "stable"}
    return Deletion(**common), Insertion(**common)


def _latec(standardise: Standardise) -> tuple[Curve, ...]:
    # torch.topk promises no order of ties; raster order stands for it.
    common: dict[str, Any] = {"steps": steps.Pixels(10), "ties": "stable", "endpoints": "neither", "area": "over_len"}
    blur = KernelBlur(9, 5.0, border="mirror")
    return Deletion(fill=standardise(fills.Zero()), **common), Insertion(fill=standardise(blur), **common)


def _interpretdl(standardise: Standardise) -> tuple[Curve, ...]:
    levels = tuple(float(p) for p in range(95, -1, -5))
    common: dict[str, Any] = {"steps": steps.Percentiles(levels, strict=True), "fill": Grey(127 / 255)}
    common |= {"reduction": "channels_abs_sum", "area": "mean"}
    return Deletion(**common, endpoints="no_end"), Insertion(**common, endpoints="no_start")


def _pnpxai(standardise: Standardise) -> tuple[Curve, ...]:
    common: dict[str, Any] = {"steps": steps.Floor(10), "fill": standardise(fills.Zero()), "ties": "stable"}
    return Deletion(**common, area="mean"), Deletion(**common, area="mean", order="lerf")


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "ours",
            "docs/design.md",
            "24 equal steps, ties drawn by a seed, mean colour (deletion) or blur (insertion), trapezoids over true fractions",
            _ours,
        ),
        Preset(
            "rise",
            "Petsiuk et al. 2018, arXiv:1806.07421, evaluation.py",
            "224 pixels a step, mean colour (deletion) or a blur of 11 × 11 pixels (insertion)",
            _rise,
        ),
        Preset(
            "xplique",
            "Xplique 2.0, metrics/fidelity.py",
            "11 points, mean over channels, black for both, area of the mean curve",
            _xplique,
        ),
        Preset(
            "quantus_pixel_flipping",
            "Quantus 0.6, PixelFlipping; Bach et al. 2015, PLOS ONE 10, 7",
            "one channel of one pixel at a time, each image's minimum, no start point, area not divided by its width",
            _quantus_pixel_flipping,
        ),
        Preset(
            "gradcam_road",
            "pytorch-grad-cam 1.5, metrics/road.py; Rong et al. 2022, arXiv:2202.00449",
            "percentiles of the map, noisy linear imputation, mean change of the score, both directions",
            _gradcam_road,
        ),
        Preset(
            "torchcam",
            "torch-cam, DeletionInsertionMetric",
            "at most 20 steps, mean colour for both, ties in raster order, trapezoids over true fractions",
            _torchcam,
        ),
        Preset(
            "latec",
            "Klein et al. 2024, LATEC, insertion_deletion.py",
            "10 pixels a step without the end points, mean colour or a blur of 9 × 9 pixels, width 1 / points",
            _latec,
        ),
        Preset(
            "interpretdl",
            "Li et al. 2022, InterpretDL, DeletionInsertion",
            "20 percentiles of the map, sum of absolute values over channels, grey, plain mean",
            _interpretdl,
        ),
        Preset(
            "pnpxai",
            "Kim et al. 2025, PnPXAI, PixelFlipping",
            "10 points with a larger last step, mean colour, plain mean, both directions",
            _pnpxai,
        ),
    )
}
