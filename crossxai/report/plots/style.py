"""The look that all figures share: inks, line styles, plain axes, colour scales."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from crossxai.model import Array
from crossxai.report import words

INK = "#1f2937"
SOFT = "#4b5563"
GREY = "#6b7280"
FAINT = "#d4d7dd"
POSITIVE_INK, NEGATIVE_INK = "#b2182b", "#2166ac"

# Okabe and Ito's colours, told apart by readers with any of the common colour blindnesses.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#5B4BB5", "#7A5C2E")
DASHES: tuple[Any, ...] = ("solid", (0, (5, 1.5)), (0, (1.2, 1.2)))

SIGNED = "RdBu_r"  # blue below zero, white at zero, red above; safe for the common colour blindnesses
POSITIVE = "YlOrBr"  # pale at zero, brown at the top
OVER_IMAGE = "viridis"  # of maps without a sign over an image in its own colours
PERCENTILE = 99.0
OPAQUE = 0.9  # at the ends of the scale, so that the image can be seen through


def line_style(number: int) -> tuple[str, Any]:
    """(colour, dash) of line `number`: colours first, then the same colours dashed."""
    return PALETTE[number % len(PALETTE)], DASHES[number // len(PALETTE) % len(DASHES)]


def is_signed(values: Array) -> bool:
    """Whether maps go below zero: more than 1% of their mass is negative (bicubic up-sampling undershoots by less)."""
    finite = values[np.isfinite(values)]
    total = float(np.abs(finite).sum())
    return total > 0 and float(-finite[finite < 0].sum()) > 0.01 * total


def limits(values: Array, signed: bool) -> tuple[float, float]:
    """(low, high) of the colour scale: the 99th percentile of |values|, symmetric about zero for signed maps."""
    size = np.abs(values[np.isfinite(values)])
    top = float(np.percentile(size, PERCENTILE)) if size.size else 0.0
    top = top or (float(size.max()) if size.size else 0.0) or 1.0
    return (-top, top) if signed else (0.0, top)


def see_through(signed: bool = True) -> ListedColormap:
    """For maps over images, transparent at zero: blue below zero and red above; of maps without a sign, violet to yellow."""
    place = np.linspace(-1 if signed else 0, 1, 256)
    # The white middle of the scale is left out: over a grey image it would look like brighter tissue.
    at = 0.5 + np.sign(place) * (0.2 + 0.3 * np.abs(place)) if signed else place
    table = matplotlib.colormaps[SIGNED if signed else OVER_IMAGE](at)
    table[:, 3] = OPAQUE * np.abs(place) ** (0.75 if signed else 0.6)
    return ListedColormap(table)


def bare(axes: Any) -> None:
    """No ticks and no frame, but room for a label."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def dress(axes: Any, x: str = "", y: str = "", title: str = "", grid: str = "y") -> None:
    """The look of every chart: light grid, no box, small labels."""
    axes.set_xlabel(x, fontsize=9, color=SOFT)
    axes.set_ylabel(y, fontsize=9, color=SOFT)
    if title:
        axes.set_title(title, fontsize=10, color=INK, loc="left")
    axes.tick_params(labelsize=8, colors=SOFT, length=3)
    axes.grid(axis=grid, color="#eceef1", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#9ca3af")


def number(value: float) -> str:
    """Three significant digits, with a true minus sign."""
    return f"{value:.3g}".replace("-", words.MINUS)


def layout() -> ConstrainedLayoutEngine:
    """What places panels, with room at the edges of a figure."""
    return ConstrainedLayoutEngine(h_pad=0.07, w_pad=0.06)


def heading(axes: Any, text: str, size: float = 10) -> None:
    """A panel's title."""
    axes.set_title(text, fontsize=size, color=INK, pad=5)


def caption(figure: Figure, title: str, lines: Sequence[str] = ()) -> None:
    """The figure's title, and what its lines mean, below it."""
    if title:
        figure.suptitle(title, fontsize=11.5, color=INK, fontweight="bold")
    if lines:
        figure.supxlabel("; ".join(lines), fontsize=8.5, color=SOFT)
