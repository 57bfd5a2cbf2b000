"""Maps over their images as figures: one image, two images on one scale, and a map taken apart into its signs.

Arrays in, `matplotlib.figure.Figure` out; nothing touches pyplot. Every colour bar is symmetric about zero and says what its
ends are; a map is the more opaque the further from zero, and its bar is drawn on the same grey, so that colours can be read off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patheffects import withStroke

from crossxai.errors import InvalidInput
from crossxai.model import Array
from crossxai.report import words
from crossxai.report.figures import SIGNED, limits

Mask = npt.NDArray[np.bool_]
TRUTH = "#2dd4bf"
PREDICTED = "#facc15"
BACKGROUND = "#808080"
INK = "#1f2937"
SOFT = "#4b5563"
WIDTH = 3.0  # inches of one panel
OPAQUE = 0.9  # at the ends of the scale, so that the image can be seen through


def grey(image: Array) -> Array:
    """An image (y, x) or (y, x, channels) as (y, x), channels averaged."""
    if image.ndim not in (2, 3):
        raise InvalidInput(f"an image has shape (y, x) or (y, x, channels), got {image.shape}")
    return image if image.ndim == 2 else np.asarray(image.mean(axis=-1))


def flat(relevance: Array, image: Array) -> Array:
    """A map (y, x) or (y, x, channels) as (y, x) of the image's size, channels summed."""
    summed = relevance if relevance.ndim == 2 else np.asarray(relevance.sum(axis=-1))
    if any(have not in (1, want) for have, want in zip(summed.shape, image.shape[:2], strict=True)):
        raise InvalidInput(f"a map of shape {summed.shape} does not lie over an image of {image.shape[:2]}")
    return np.broadcast_to(summed, image.shape[:2])


def scale_of(maps: Sequence[Array]) -> float:
    """The end of the symmetric scale of these maps: the 99th percentile of the absolute values, together."""
    return limits(np.concatenate([m.ravel() for m in maps]), True)[1]


def colours() -> ListedColormap:
    """Blue below zero, red above, as the report's maps, transparent at zero."""
    place = np.linspace(-1, 1, 256)
    # The white middle of the scale is left out: over a grey image it would look like brighter tissue.
    table = matplotlib.colormaps[SIGNED](0.5 + np.sign(place) * (0.2 + 0.3 * np.abs(place)))
    table[:, 3] = OPAQUE * np.abs(place) ** 0.75
    return ListedColormap(table)


def show(axes: Any, image: Array, limit: tuple[float, float] | None = None) -> None:
    """The image in grey, without ticks."""
    low, high = limit or (float(image.min()), float(image.max()))
    axes.imshow(grey(image), cmap="gray", vmin=low, vmax=high if high > low else low + 1, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def lay_over(axes: Any, image: Array, relevance: Array, top: float, limit: tuple[float, float] | None = None) -> None:
    """The image in grey with a map over it, on the scale from -top to top."""
    show(axes, image, limit)
    axes.imshow(flat(relevance, image), cmap=colours(), vmin=-top, vmax=top, interpolation="nearest")
    if not np.any(relevance):
        # A panel without any colour would look as if something were missing.
        style = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
        place = {"ha": "center", "va": "center", "transform": axes.transAxes}
        axes.text(0.5, 0.06, "the map is zero", fontsize=8, color=INK, bbox=style, **place)


def outline(axes: Any, mask: Mask | None, colour: str = TRUTH, width: float = 1.3, dashed: bool = False) -> None:
    """The edge of a mask; nothing for an empty one. A dashed line lets what is under it show."""
    if mask is None or not mask.any():
        return
    padded = np.pad(mask.astype(float), 1)  # so that the edge of a mask that touches the border is closed
    place = np.arange(-1, mask.shape[1] + 1), np.arange(-1, mask.shape[0] + 1)
    drawn = axes.contour(*place, padded, levels=[0.5], colors=[colour], linewidths=width)
    if dashed:
        drawn.set_linestyle((0, (2, 2)))
    else:
        drawn.set_path_effects([withStroke(linewidth=1.8 * width, foreground="#111827")])
    axes.set_xlim(-0.5, mask.shape[1] - 0.5)
    axes.set_ylim(mask.shape[0] - 0.5, -0.5)


def bar(figure: Figure, axes: Any, top: float, label: str = "attribution", **options: Any) -> None:
    """The symmetric colour bar, zero and both ends labelled, on the images' grey."""
    found = figure.colorbar(ScalarMappable(Normalize(-top, top), colours()), ax=axes, **options)
    found.ax.set_facecolor(BACKGROUND)
    ticks = [-top, -top / 2, 0, top / 2, top]
    found.set_ticks(ticks, labels=[number(t) for t in ticks])
    found.ax.tick_params(labelsize=8, colors=SOFT, length=3)
    found.set_label(label, fontsize=9, color=SOFT)
    found.outline.set_visible(False)


def number(value: float) -> str:
    """Three significant digits, with a true minus sign."""
    return f"{value:.3g}".replace("-", words.MINUS)


def layout() -> ConstrainedLayoutEngine:
    """What places panels, with room at the edges of a figure."""
    return ConstrainedLayoutEngine(h_pad=0.07, w_pad=0.06)


def heading(axes: Any, text: str, size: float = 10) -> None:
    """A panel's title."""
    axes.set_title(text, fontsize=size, color=INK, pad=5)


def caption(figure: Figure, title: str, lines: Sequence[str]) -> None:
    """The figure's title, and what its lines mean, below it."""
    if title:
        figure.suptitle(title, fontsize=11.5, color=INK, fontweight="bold")
    if lines:
        figure.supxlabel("; ".join(lines), fontsize=8.5, color=SOFT)


def overlay(
    image: Array,
    relevance: Array,
    truth: Mask | None = None,
    title: str = "",
    name: str = "input",
    limit: tuple[float, float] | None = None,
) -> Figure:
    """The input, and the map over it. image, relevance: (y, x) or (y, x, channels); truth: (y, x); limit: the input's range."""
    top = scale_of([flat(relevance, image)])
    figure = Figure(figsize=(2 * WIDTH + 0.9, WIDTH + 0.75), layout=layout())
    left, right = figure.subplots(1, 2)
    show(left, image, limit)
    lay_over(right, image, relevance, top, limit)
    outline(left, truth)
    outline(right, truth)
    heading(left, name)
    heading(right, "attribution")
    bar(figure, [right], top, shrink=0.86, aspect=22, pad=0.02)
    caption(figure, title, _truth_line([truth]))
    return figure


def pair(
    images: Mapping[str, Array],
    relevance: Mapping[str, Array],
    truth: Mapping[str, Mask] | None = None,
    title: str = "",
    limit: Mapping[str, tuple[float, float] | None] | None = None,
) -> Figure:
    """Several images of one sample and their maps, all on one scale, so that equal colours are equal numbers."""
    shown = [name for name in images if name in relevance]
    if not shown:
        raise InvalidInput(
            f"maps of {', '.join(relevance) or 'nothing'} for images of {', '.join(images) or 'nothing'}"
        )
    known = truth or {}
    top = scale_of([flat(relevance[name], images[name]) for name in shown])
    figure = Figure(figsize=(len(shown) * WIDTH + 0.9, 2 * WIDTH + 0.75), layout=layout())
    grid = figure.subplots(2, len(shown), squeeze=False)
    for column, name in enumerate(shown):
        ends = (limit or {}).get(name)
        show(grid[0, column], images[name], ends)
        lay_over(grid[1, column], images[name], relevance[name], top, ends)
        for axes in grid[:, column]:
            outline(axes, known.get(name))
        heading(grid[0, column], name)
        heading(grid[1, column], f"attribution of {name}")
    # Taken from both rows, so that the panels of a column stay one below the other; it stands beside the lower one.
    bar(
        figure,
        list(grid.ravel()),
        top,
        "attribution, one scale for all",
        shrink=0.42,
        aspect=22,
        pad=0.02,
        anchor=(0, 0),
    )
    caption(figure, title, _truth_line([known.get(name) for name in shown]))
    return figure


def decomposition(
    image: Array,
    relevance: Array,
    truth: Mask | None = None,
    title: str = "",
    limit: tuple[float, float] | None = None,
) -> Figure:
    """A map's positive part, its negative part, and both together, on one scale, each with its sum."""
    whole = flat(relevance, image)
    top = scale_of([whole])
    parts = {"positive part": np.maximum(whole, 0), "negative part": np.minimum(whole, 0), "both": whole}
    figure = Figure(figsize=(3 * WIDTH + 0.9, WIDTH + 0.95), layout=layout())
    row = figure.subplots(1, 3)
    for axes, (name, part) in zip(row, parts.items(), strict=True):
        lay_over(axes, image, part, top, limit)
        outline(axes, truth)
        heading(axes, f"{name}\nsum {number(float(part.sum()))}")
    bar(figure, list(row), top, shrink=0.86, aspect=22, pad=0.02)
    caption(figure, title, _truth_line([truth]))
    return figure


def _truth_line(masks: Sequence[Mask | None]) -> list[str]:
    return ["turquoise line: the planted truth"] if any(m is not None and m.any() for m in masks) else []
