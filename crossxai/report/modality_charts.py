"""Charts of numbers: what each feature of a table adds, and what share of the attribution each modality gets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from crossxai.errors import InvalidInput
from crossxai.evaluation.statistics import Summary
from crossxai.model import Array
from crossxai.report import words
from crossxai.report.figures import PALETTE
from crossxai.report.modalities import small
from crossxai.report.overlays import INK, SOFT, caption, layout

POSITIVE, NEGATIVE = "#b2182b", "#2166ac"


def table_bars(values: Array, features: Sequence[str], inputs: Array | None = None, title: str = "") -> Figure:
    """A sample's features by the size of their attribution (features,), red above zero, blue below; inputs: their values."""
    if values.shape != (len(features),) or (inputs is not None and inputs.shape != values.shape):
        raise InvalidInput(f"one value per feature: {len(features)} features, values of shape {values.shape}")
    order = np.argsort(-np.abs(np.where(np.isfinite(values), values, 0)), kind="stable")[::-1]
    names = [features[i] if inputs is None else f"{features[i]} = {_plain(float(inputs[i]))}" for i in order]
    chosen = values[order]
    figure = Figure(figsize=(6.4, 0.9 + 0.3 * len(features)), layout=layout())
    axes = figure.subplots()
    places = np.arange(len(features))
    axes.barh(places, chosen, color=[POSITIVE if v >= 0 else NEGATIVE for v in chosen], height=0.7)
    reach = float(np.abs(np.where(np.isfinite(chosen), chosen, 0)).max()) or 1.0
    for place, value in zip(places, chosen.tolist(), strict=True):
        side = 1 if value >= 0 else -1
        axes.text(
            value + side * 0.015 * reach,
            float(place),
            words.brief(value),
            ha="left" if side > 0 else "right",
            va="center",
            fontsize=8,
            color=SOFT,
        )
    # Room for the numbers at the bars' ends, on the sides that have bars.
    axes.set_xlim(
        -1.22 * reach if (chosen < 0).any() else -0.02 * reach, 1.22 * reach if (chosen > 0).any() else 0.02 * reach
    )
    axes.axvline(0, color="#6b7280", linewidth=0.9)
    axes.set_yticks(places, names, fontsize=9, color=INK)
    axes.set_xlabel("attribution: red raises the explained score, blue lowers it", fontsize=9, color=SOFT)
    axes.tick_params(axis="x", labelsize=8, colors=SOFT)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#eceef1", linewidth=0.8)
    axes.set_axisbelow(True)
    for side_name in ("top", "right", "left"):
        axes.spines[side_name].set_visible(False)
    caption(figure, title, [])
    return figure


def modality_shares(answers: Mapping[str, Mapping[str, Summary]], title: str = "") -> Figure:
    """Each modality's share by each answer ("mean per unit", "sum", "ablation"): a pie of each, and bars with 95 % intervals.

    answers: answer → modality → mean share with its interval; answers without any number are left out.
    """
    shown = {a: s for a, s in answers.items() if s and all(math.isfinite(x.mean) for x in s.values())}
    if not shown:
        raise InvalidInput("there is no share to draw: every answer is empty")
    modalities = list(next(iter(shown.values())))
    shades = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(modalities)}
    figure = Figure(figsize=(2.0 * len(shown) + 4.0, 3.3), layout=layout())
    grid = figure.subplots(1, len(shown) + 1, width_ratios=[*[1.0] * len(shown), 1.7])
    for axes, (answer, found) in zip(grid, shown.items(), strict=False):
        sizes = [max(found[m].mean, 0.0) for m in modalities]
        wedges, *_ = axes.pie(
            sizes, colors=[shades[m] for m in modalities], startangle=90, counterclock=False, radius=1.0
        )
        for wedge in wedges:
            wedge.set_edgecolor("white")
            wedge.set_linewidth(1.2)
        listed = "\n".join(f"{m} {small(found[m].mean)}" for m in modalities)
        axes.set_title(answer, fontsize=10, color=INK, pad=4)
        axes.set_xlabel(listed, fontsize=8.5, color=SOFT, labelpad=2)
    last = grid[-1]
    width = 0.8 / len(modalities)
    for number, name in enumerate(modalities):
        places = np.arange(len(shown)) + (number - (len(modalities) - 1) / 2) * width
        means = np.array([found[name].mean for found in shown.values()])
        ends = np.array([[found[name].low, found[name].high] for found in shown.values()])
        ends = np.where(np.isfinite(ends), ends, means[:, None])
        errors = np.maximum(np.stack([means - ends[:, 0], ends[:, 1] - means]), 0)
        last.bar(places, means, width * 0.92, color=shades[name], label=name)
        last.errorbar(places, means, errors, fmt="none", ecolor=INK, elinewidth=1.1, capsize=3)
    last.set_xticks(np.arange(len(shown)), [a.replace(" ", "\n", 1) for a in shown], fontsize=8.5, color=INK)
    last.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100%"], fontsize=8, color=SOFT)
    last.set_ylim(0, 1.05)
    last.set_title("with 95% intervals", fontsize=10, color=INK, pad=4)
    last.grid(axis="y", color="#eceef1", linewidth=0.8)
    last.set_axisbelow(True)
    for side in ("top", "right"):
        last.spines[side].set_visible(False)
    last.legend(fontsize=8.5, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    caption(figure, title, [])
    return figure


def _plain(value: float) -> str:
    """An input's value, whole numbers without decimals."""
    if not math.isfinite(value):
        return words.NONE
    return f"{value:.4g}".replace("-", words.MINUS)
