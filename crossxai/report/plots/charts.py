"""Charts of numbers: curves, differences to a control, a table's columns, and each modality's share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from crossxai.attribution import Scores
from crossxai.errors import InvalidInput
from crossxai.evaluation import statistics
from crossxai.evaluation.statistics import Summary
from crossxai.model import Array, Modality
from crossxai.report import words
from crossxai.report.analysis import Test, compared
from crossxai.report.plots import style
from crossxai.report.words import small

Panels = Mapping[str, Scores] | Mapping[str, Mapping[str, Scores]]
"""Explainer to its scores of one metric, or a panel's title to such a mapping."""

BETTER, WORSE = "#0072B2", "#B54A00"
CONTROLS = "controls."
MOST_BARS = 24  # of a table in one panel; more cannot be read


def plot_curves(
    scores: Panels, *, title: str = "", x: str = "fraction of units", groups: statistics.Groups | None = None
) -> Figure:
    """Mean curves over samples with the 95% interval of the mean as a band: a panel per metric, a line per explainer.

    Parameters
    ----------
    scores
        Explainer to its scores of one metric, such as deletion, or a panel's title to such a mapping. Explainers are drawn in
        their order; the mean of their values stands in the legend.
    title
        Above the figure.
    x
        What the horizontal axis counts.
    groups
        The group of each sample, where they belong together.

    Returns
    -------
    Figure
        Controls, whose names start with `controls.`, are grey. Samples whose curve is not finite are left out. The band is
        the interval of the mean at each point (`statistics.bands`), and needs three samples, or groups.

    Raises
    ------
    InvalidInput
        Where scores have no curve, or there is nothing to draw.
    """
    panels = _panels(scores)
    figure = Figure(figsize=(4.3 * len(panels) + 0.4, 4.3), layout=style.layout())
    for axes, (name, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        number = 0
        for label, one in lines.items():
            if one.curve is None or one.fractions is None:
                raise InvalidInput(f"{name}, {label}: scores of {one.metric} have no curve")
            curve = np.asarray(one.curve)
            usable = curve[np.isfinite(curve).all(axis=1)]
            if not len(usable):
                continue
            control = label.startswith(CONTROLS)
            shade, dash = style.CONTROL if control else style.line_style(number)
            number += not control
            place = one.fractions if one.fractions.ndim == 1 else np.nanmean(one.fractions, axis=0)
            mean = usable.mean(axis=0)
            band = statistics.bands(one.curve, groups=groups)
            axes.fill_between(place, *band, color=shade, alpha=0.13, linewidth=0)
            legend = f"{label}  {words.number(float(np.nanmean(one.value)), 2)}"
            axes.plot(place, mean, color=shade, linestyle=dash, linewidth=1.7, label=legend)
        style.dress(axes, x)
        axes.set_title(words.capital(name), fontsize=10, color=style.INK, pad=5)
        axes.set_xlim(0, 1)
        # The distance below the axes is in the legend's font size, so that it clears the label at any height.
        axes.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 0), borderaxespad=4.4)
    style.caption(figure, title)
    return figure


def plot_ranking(
    scores: Panels,
    control: str = "controls.random",
    *,
    title: str = "",
    groups: statistics.Groups | None = None,
) -> Figure:
    """A forest plot: each explainer's mean difference to a control on the same samples, with its 95% interval.

    Parameters
    ----------
    scores
        Explainer to its scores of one metric, or a panel's title to such a mapping, as for `plot_curves`; the panels stand side
        by side. The control is one of the explainers.
    control
        What the others are compared with.
    title
        Above the figure.
    groups
        The group of each sample, where they belong together.

    Returns
    -------
    Figure
        Explainers by their difference in the first panel, the best on top, other controls last. Filled: p < 0.05 by a paired
        sign-flip test, corrected by Holm within the panel; blue is better, orange worse; hollow is not told apart.

    Raises
    ------
    InvalidInput
        Where the control has no scores, or there is nothing else.
    """
    panels = _panels(scores)
    tests = {}
    for name, lines in panels.items():
        if control not in lines:
            raise InvalidInput(f"{name}: no scores of {control!r} to compare with; there are {', '.join(lines)}")
        tests[name] = compared(lines, control, groups)
    directions = {name: next(iter(lines.values())).higher_is_better for name, lines in panels.items()}
    labels = _ranked(tests, directions)
    if not labels:
        raise InvalidInput(f"there is nothing to compare with {control!r}: give scores of other explainers, too")
    figure = Figure(figsize=(2.4 + 2.7 * len(panels), 1.1 + 0.24 * len(labels)), layout=style.layout())
    row = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (name, differences) in zip(row, tests.items(), strict=True):
        _forest(axes, differences, labels)
        better = "higher is better →" if directions[name] else "← lower is better"
        style.dress(axes, f"difference to {control}\n{better}", grid="x")
        axes.set_title(words.capital(words.metric(name)), fontsize=10, color=style.INK, pad=5)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
    row[0].set_yticks(np.arange(len(labels)), labels, fontsize=8.5, color=style.INK)
    for tick, label in zip(row[0].get_yticklabels(), labels, strict=True):
        tick.set_color(style.SOFT if label.startswith(CONTROLS) else style.INK)
    row[0].set_ylim(len(labels) - 0.4, -0.6)
    marks = ["95% intervals", "filled: p < 0.05 after Holm's correction, blue better, orange worse"]
    style.caption(figure, title, marks)
    return figure


def _panels(scores: Panels) -> dict[str, dict[str, Scores]]:
    """Panels by their title; scores of one metric alone get its name."""
    if all(isinstance(one, Scores) for one in scores.values()) and scores:
        lines = cast(Mapping[str, Scores], scores)
        return {next(iter(lines.values())).metric: dict(lines)}
    panels = {name: dict(lines) for name, lines in cast(Mapping[str, Mapping[str, Scores]], scores).items()}
    if not panels or not all(panels.values()):
        raise InvalidInput("there is nothing to draw: name at least one panel with scores")
    return panels


def _ranked(tests: Mapping[str, Mapping[str, Test]], higher: Mapping[str, bool]) -> list[str]:
    """All labels, the best difference of the first panel first, controls last."""
    first = next(iter(tests))

    def key(label: str) -> tuple[bool, float]:
        test = tests[first].get(label)
        size = math.inf if test is None or not math.isfinite(test.difference) else test.difference
        return label.startswith(CONTROLS), -size if higher[first] and math.isfinite(size) else size

    return sorted(dict.fromkeys(label for differences in tests.values() for label in differences), key=key)


def _forest(axes: Any, tests: Mapping[str, Test], labels: Sequence[str]) -> None:
    axes.axvline(0, color="#6b7280", linewidth=0.9)
    for place, label in enumerate(labels):
        test = tests.get(label)
        if test is None or not math.isfinite(test.difference):
            continue
        shade = {"better": BETTER, "worse": WORSE}.get(test.verdict, style.GREY)
        axes.plot([test.low, test.high], [place, place], color=shade, linewidth=1.6, solid_capstyle="round")
        inside = "white" if shade == style.GREY else shade
        dot = {"color": shade, "markersize": 5, "markerfacecolor": inside, "markeredgewidth": 1.4}
        axes.plot([test.difference], [place], "o", **dot)
    for place in range(len(labels)):
        axes.axhline(place, color=style.FAINT, linewidth=0.4, zorder=0)


def table_bars(values: Array, features: Sequence[str], inputs: Array | None = None, title: str = "") -> Figure:
    """A sample's features by the size of their attribution (features,), red above zero, blue below; inputs: their values."""
    figure = Figure(figsize=(6.4, 0.9 + 0.3 * len(features)), layout=style.layout())
    axes = figure.subplots()
    draw_bars(axes, values, inputs, Modality.table(tuple(features)))
    axes.set_xlabel("attribution: red raises the explained score, blue lowers it", fontsize=9, color=style.SOFT)
    style.caption(figure, title)
    return figure


def draw_bars(axes: Axes, values: Array, inputs: Array | None, modality: Modality | None) -> None:
    """A table's map as bars, the columns with the largest values on top: red above zero, blue below."""
    features = feature_names(modality, len(values))
    if len(features) != len(values) or (inputs is not None and inputs.shape != values.shape):
        raise InvalidInput(f"one value per feature: {len(features)} features, values of shape {values.shape}")
    size = np.abs(np.where(np.isfinite(values), values, 0))
    order = np.argsort(-size, kind="stable")[:MOST_BARS][::-1]
    bars, places = values[order], np.arange(len(order))
    axes.barh(places, bars, color=[style.POSITIVE_INK if v >= 0 else style.NEGATIVE_INK for v in bars], height=0.7)
    axes.axvline(0, color="#6b7280", linewidth=0.9)
    style.dress(axes, grid="x")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    reach = float(size.max(initial=0.0)) or 1.0
    negative, positive = bool((bars < 0).any()), bool((bars > 0).any())
    left, right = 1.22 if negative else 0.02, 1.22 if positive or not negative else 0.02
    axes.set_xlim(-left * reach, right * reach)
    labels = [features[i] if inputs is None else f"{features[i]} = {plain(float(inputs[i]))}" for i in order]
    axes.set_yticks(places, labels, fontsize=9, color=style.INK)
    for place, value in zip(places, bars.tolist(), strict=True):
        side = 1 if value >= 0 else -1
        align = "left" if side > 0 else "right"
        beside = value + side * 0.015 * reach
        axes.text(beside, float(place), words.brief(value), ha=align, va="center", fontsize=8, color=style.SOFT)


def feature_names(modality: Modality | None, n: int) -> tuple[str, ...]:
    """The names of a table's n columns, or their numbers."""
    return modality.features if modality is not None else tuple(f"column {i + 1}" for i in range(n))


def plain(value: float) -> str:
    """An input's value, whole numbers without decimals."""
    return f"{value:.4g}".replace("-", words.MINUS) if np.isfinite(value) else words.NONE


def modality_shares(shares: Mapping[str, Mapping[str, Summary]], title: str = "") -> Figure:
    """Each modality's share by each convention ("mean per unit", "sum", "ablation"): a pie of each, and bars with 95 % intervals.

    shares: convention → modality → mean share with its interval; conventions without any number are left out.
    """
    shown = {a: s for a, s in shares.items() if s and all(math.isfinite(x.mean) for x in s.values())}
    if not shown:
        raise InvalidInput("there is no share to draw: every convention is empty")
    modalities = list(next(iter(shown.values())))
    shades = {name: style.PALETTE[i % len(style.PALETTE)] for i, name in enumerate(modalities)}
    figure = Figure(figsize=(2.0 * len(shown) + 4.0, 3.3), layout=style.layout())
    grid = figure.subplots(1, len(shown) + 1, width_ratios=[*[1.0] * len(shown), 1.7])
    for axes, (convention, of_modality) in zip(grid, shown.items(), strict=False):
        sizes = [max(of_modality[m].mean, 0.0) for m in modalities]
        edge = {"edgecolor": "white", "linewidth": 1.2}
        axes.pie(sizes, colors=list(shades.values()), startangle=90, counterclock=False, wedgeprops=edge)
        listed = "\n".join(f"{m} {small(of_modality[m].mean)}" for m in modalities)
        axes.set_title(convention, fontsize=10, color=style.INK, pad=4)
        axes.set_xlabel(listed, fontsize=8.5, color=style.SOFT, labelpad=2)
    last = grid[-1]
    width = 0.8 / len(modalities)
    for number, name in enumerate(modalities):
        places = np.arange(len(shown)) + (number - (len(modalities) - 1) / 2) * width
        means = np.array([of_modality[name].mean for of_modality in shown.values()])
        ends = np.array([[of_modality[name].low, of_modality[name].high] for of_modality in shown.values()])
        ends = np.where(np.isfinite(ends), ends, means[:, None])
        errors = np.maximum(np.stack([means - ends[:, 0], ends[:, 1] - means]), 0)
        last.bar(places, means, width * 0.92, color=shades[name], label=name)
        last.errorbar(places, means, errors, fmt="none", ecolor=style.INK, elinewidth=1.1, capsize=3)
    style.dress(last)
    last.set_xticks(np.arange(len(shown)), [a.replace(" ", "\n", 1) for a in shown], fontsize=8.5, color=style.INK)
    last.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100%"], fontsize=8, color=style.SOFT)
    last.set_ylim(0, 1.05)
    last.set_title("with 95% intervals", fontsize=10, color=style.INK, pad=4)
    last.legend(fontsize=8.5, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    style.caption(figure, title, [])
    return figure
