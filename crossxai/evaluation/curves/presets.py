"""Presets: deletion and insertion as each library computes them. Not in them, because they belong elsewhere: the score's link and
class, which are the question's target (Xplique, torch-cam: raw outputs by default; the rest: the probability), and resizing a
small map, the explainer's affair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from crossxai.errors import InvalidInput, UnknownName
from crossxai.evaluation.curves import steps
from crossxai.evaluation.curves.deletion import Curve, Deletion, Insertion
from crossxai.evaluation.curves.fills import DatasetMean, FillLike, KernelBlur, Standardised, Zero, resolve


@dataclass(frozen=True)
class Preset:
    """A convention, its source and words; raw: the curves whose fill stays where the library is handed standardised inputs."""

    source: str
    words: str
    curves: tuple[Curve, ...]
    raw: tuple[str, ...] = ()


def _both(rule: steps.Rule, fill: FillLike, inserted: FillLike, **options: Any) -> tuple[Curve, ...]:
    return Deletion(rule, fill, **options), Insertion(rule, inserted, **options)


def _orders(rule: steps.Rule, fill: FillLike, **options: Any) -> tuple[Curve, ...]:
    return Deletion(rule, fill, **options), Deletion(rule, fill, order="lerf", **options)


_INTERPRETDL: Any = {
    "steps": steps.Percentiles(tuple(range(95, -1, -5)), strict=True),
    "fill": {"grey": 127 / 255},
    "reduction": "channels_abs_sum",
    "area": "mean",
}
PRESETS = {
    "ours": Preset(
        "docs/design.md",
        "24 equal steps, ties drawn by a seed, mean colour (deletion) or blur (insertion), trapezoids over true fractions",
        (Deletion(), Insertion()),
        raw=("insertion",),
    ),
    "rise": Preset(
        "Petsiuk et al. 2018, arXiv:1806.07421, evaluation.py",
        "224 pixels a step, mean colour (deletion) or a blur of 11 × 11 pixels (insertion)",
        _both(
            steps.Pixels(224), "zero", KernelBlur(11, 5.0, border="zero", folded=True), ties="flipped", area="trapezoid"
        ),
    ),
    "xplique": Preset(
        "Xplique 2.0, metrics/fidelity.py",
        "11 points, mean over channels, black for both, area of the mean curve",
        _both(
            steps.Linspace(10),
            "zero",
            "zero",
            reduction="mean",
            ties="flipped",
            area="trapezoid",
            aggregation="mean_curve",
        ),
        raw=("deletion", "insertion"),
    ),
    "quantus_pixel_flipping": Preset(
        "Quantus 0.6, PixelFlipping; Bach et al. 2015, PLOS ONE 10, 7",
        "one channel of one pixel at a time, each image's minimum, no start point, area not divided by its width",
        # Quantus takes the minimum again at each step: it is what was filled in, so nothing changes, and one fill does.
        (Deletion(steps.Pixels(1), "minimum", unit="element", ties="unstable", endpoints="no_start", area="raw"),),
    ),
    "gradcam_road": Preset(
        "pytorch-grad-cam 1.5, metrics/road.py; Rong et al. 2022, arXiv:2202.00449",
        "percentiles of the map, noisy linear imputation, mean change of the score, both directions",
        _orders(
            steps.Percentiles(tuple(range(90, 0, -10))),
            "noisy_linear",
            endpoints="neither",
            score="change",
            area="mean",
        ),
    ),
    "torchcam": Preset(
        "torch-cam, DeletionInsertionMetric",
        "at most 20 steps, mean colour for both, ties in raster order, trapezoids over true fractions",
        _both(steps.Ceil(20), "zero", "zero", ties="stable"),
    ),
    "latec": Preset(
        "Klein et al. 2024, LATEC, insertion_deletion.py",
        "10 pixels a step without the end points, mean colour or a blur of 9 × 9 pixels, width 1 / points",
        # torch.topk promises no order of ties; raster order stands for it.
        _both(
            steps.Pixels(10),
            "zero",
            KernelBlur(9, 5.0, border="mirror"),
            ties="stable",
            endpoints="neither",
            area="over_len",
        ),
    ),
    "interpretdl": Preset(
        "Li et al. 2022, InterpretDL, DeletionInsertion",
        "20 percentiles of the map, sum of absolute values over channels, grey, plain mean",
        (Deletion(**_INTERPRETDL, endpoints="no_end"), Insertion(**_INTERPRETDL, endpoints="no_start")),
        raw=("deletion", "insertion"),
    ),
    "pnpxai": Preset(
        "Kim et al. 2025, PnPXAI, PixelFlipping",
        "10 points with a larger last step, mean colour, plain mean, both directions",
        _orders(steps.Floor(10), "zero", ties="stable", area="mean"),
    ),
}


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
    curves = []
    for curve in PRESETS[name].curves:
        fill = resolve(curve.fill)
        if len(mean) and curve.name not in PRESETS[name].raw:
            zero = isinstance(fill, Zero)
            fill = DatasetMean(tuple(mean)) if zero else Standardised(fill, tuple(mean), tuple(sd))
        curves.append(replace(curve, steps=_limited(curve.rule, limit), fill=fill, modality=modality, seed=seed))
    return tuple(curves)


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
