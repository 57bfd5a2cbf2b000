"""Charts of scores as metrics give them: mean curves over the fraction removed or the threshold, with their bands."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from crossxai.attribution import Scores
from crossxai.errors import InvalidInput
from crossxai.report import words
from crossxai.report.figures import line_style
from crossxai.report.overlays import INK, SOFT, caption, layout


def mean_curves(found: Mapping[str, Mapping[str, Scores]], title: str = "", x: str = "fraction of units") -> Figure:
    """A panel per metric, a line per explainer: mean over samples, its band two standard errors to each side.

    found: panel's title → explainer → scores with curves, drawn in one order; the mean value is in the legend. Raises
    `InvalidInput` where scores have no curve.
    """
    if not found or not all(found.values()):
        raise InvalidInput("there is no curve to draw: name at least one panel with scores")
    figure = Figure(figsize=(4.3 * len(found) + 0.4, 4.3), layout=layout())
    for axes, (name, lines) in zip(figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True):
        for number, (label, scores) in enumerate(lines.items()):
            if scores.curve is None or scores.fractions is None:
                raise InvalidInput(f"{name}, {label}: scores of {scores.metric} have no curve")
            usable = scores.curve[np.isfinite(scores.curve).all(axis=1)]
            if not len(usable):
                continue
            shade, dash = line_style(number)
            place = scores.fractions if scores.fractions.ndim == 1 else np.nanmean(scores.fractions, axis=0)
            mean, error = usable.mean(axis=0), usable.std(axis=0, ddof=min(1, len(usable) - 1)) / np.sqrt(len(usable))
            axes.fill_between(place, mean - 2 * error, mean + 2 * error, color=shade, alpha=0.13, linewidth=0)
            said = f"{label}  {words.number(float(np.nanmean(scores.value)), 2)}"
            axes.plot(place, mean, color=shade, linestyle=dash, linewidth=1.7, label=said)
        axes.set_title(name, fontsize=10, color=INK, pad=5)
        axes.set_xlabel(x, fontsize=9, color=SOFT)
        axes.set_xlim(0, 1)
        axes.tick_params(labelsize=8, colors=SOFT)
        axes.grid(axis="y", color="#eceef1", linewidth=0.8)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        # The distance below the axes is in the legend's font size, so that it clears the label at any height.
        axes.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 0), borderaxespad=4.4)
    caption(figure, title, [])
    return figure
