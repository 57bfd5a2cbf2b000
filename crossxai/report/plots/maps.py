"""Maps over their images: one map, one image beside its map, several images on one scale, and a map's two signs apart.
Nothing touches pyplot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from crossxai.errors import InvalidInput
from crossxai.model import Array, Modality
from crossxai.report.plots import style
from crossxai.report.plots.charts import MOST_BARS, draw_bars

Mask = npt.NDArray[np.bool_]
TRUTH = "#2dd4bf"
PREDICTED = "#facc15"
BACKGROUND = "#808080"
WIDTH = 3.0  # inches of one panel


def plot_map(
    values: Array,
    image: Array | None = None,
    modality: Modality | None = None,
    *,
    ax: Axes | None = None,
    title: str = "",
    space: Any = None,
) -> Figure:
    """One sample's map over its image in the image's own colours; of a table, a bar per column; of a volume three slices, through
    the value farthest from zero, and three maximum projections.

    Parameters
    ----------
    values
        The map of one sample: (y, x), (y, x, channels) with the channels summed, a volume, of which `ax` has the middle slice
        alone, or (features,) of a table. Without `image` the map alone is drawn.
    image
        The sample's input, (y, x), (y, x, 1) or (y, x, 3); of a table its values (features,), written beside the names.
    modality
        Says the input's range and the names of a table's columns. By default an image in [0, 1] is shown as it is, any other
        from its smallest to its largest value.
    ax
        The axes to draw in; by default a new figure.
    title
        Above the map.
    space
        Of a volume: where its voxels lie, `Attribution.spaces`, by which planes are named and shown as radiologists see them.

    Returns
    -------
    Figure
        The figure with the map and its colour bar: blue to red, symmetric about zero, for maps with both signs; else a
        colour scale that starts at zero. Its ends are the 99th percentile of the absolute values.

    Raises
    ------
    InvalidInput
        Where the map does not fit the image.
    """
    spatial = values.ndim > 1
    if ax is None and modality is not None and len(modality.axes) == 4:
        from crossxai.report.plots.volumes import plot_volume  # it draws with this module's parts

        return plot_volume(values, image, modality, title, space)
    if ax is None:
        height = WIDTH if spatial else 0.9 + 0.3 * min(len(values), MOST_BARS)
        figure = Figure(figsize=(WIDTH + 1.1 if spatial else 5.4, height + 0.3), layout=style.layout())
        ax = figure.subplots()
    else:
        figure = ax.figure if isinstance(ax.figure, Figure) else ax.figure.figure
    if spatial:
        draw_map(ax, values, image, modality)
    else:
        draw_bars(ax, values, image, modality)
        ax.set_xlabel("attribution", fontsize=9, color=style.SOFT)
    style.heading(ax, title)
    return figure


def draw_map(
    axes: Axes, values: Array, image: Array | None, modality: Modality | None, signed: bool | None = None
) -> None:
    """A map over its image in the image's own colours, on the map's own scale; with a colour bar unless `signed` is given."""
    shown = None if image is None else style.own_colours(image, modality)
    one = style.channels_summed(values, modality, image)
    one = one if shown is None else flat(one, shown)
    scale, signed = signed is None, style.is_signed(one) if signed is None else signed
    low, high = style.limits(one, signed)
    if shown is not None:
        axes.imshow(shown, interpolation="nearest")
    colours = style.see_through(signed)
    axes.set_facecolor(BACKGROUND if shown is None and signed else "white")
    axes.imshow(one, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    style.bare(axes)
    note = "the map is not finite" if not np.isfinite(one).any() else "the map is zero" if not np.any(one) else ""
    if note:
        write_on(axes, note)
    if scale:
        bar(axes.figure, axes, high, low=low, colours=colours)


def write_on(axes: Axes, note: str) -> None:
    """A note on a panel without any colour, which would look as if something were missing."""
    frame = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
    centred: Any = {"ha": "center", "va": "center", "transform": axes.transAxes}
    axes.text(0.5, 0.06, note, fontsize=8, color=style.INK, bbox=frame, **centred)


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
    return style.limits(np.concatenate([m.ravel() for m in maps]), True)[1]


def show(axes: Any, image: Array, limit: tuple[float, float] | None = None) -> None:
    """The image in grey, without ticks."""
    low, high = limit or (float(image.min()), float(image.max()))
    axes.imshow(grey(image), cmap="gray", vmin=low, vmax=high if high > low else low + 1, interpolation="nearest")
    style.bare(axes)


def lay_over(axes: Any, image: Array, relevance: Array, top: float, limit: tuple[float, float] | None = None) -> None:
    """The image in grey with a map over it, on the scale from -top to top."""
    show(axes, image, limit)
    axes.imshow(flat(relevance, image), cmap=style.see_through(), vmin=-top, vmax=top, interpolation="nearest")
    if not np.any(relevance):
        write_on(axes, "the map is zero")


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


def bar(
    figure: Any,
    axes: Any,
    high: float,
    label: str = "attribution",
    *,
    low: float | None = None,
    colours: Colormap | None = None,
    **options: Any,
) -> None:
    """The colour bar, both ends labelled, on a grey image's grey; symmetric about zero unless the scale's low end is given."""
    low = -high if low is None else low
    shape = {"shrink": 0.86, "aspect": 22, "pad": 0.02} | options
    drawn = figure.colorbar(ScalarMappable(Normalize(low, high), colours or style.see_through()), ax=axes, **shape)
    ticks = np.linspace(low, high, 5)
    drawn.ax.set_facecolor(BACKGROUND)
    drawn.set_ticks(ticks, labels=[style.number(float(t)) for t in ticks])
    drawn.ax.tick_params(labelsize=8, colors=style.SOFT, length=3)
    drawn.set_label(label, fontsize=9, color=style.SOFT)
    drawn.outline.set_visible(False)


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
    figure = Figure(figsize=(2 * WIDTH + 0.9, WIDTH + 0.75), layout=style.layout())
    left, right = figure.subplots(1, 2)
    show(left, image, limit)
    lay_over(right, image, relevance, top, limit)
    outline(left, truth)
    outline(right, truth)
    style.heading(left, name)
    style.heading(right, "attribution")
    bar(figure, [right], top)
    style.caption(figure, title, truth_line([truth]))
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
        named, given = (", ".join(names) or "nothing" for names in (relevance, images))
        raise InvalidInput(f"maps of {named} for images of {given}")
    known = truth or {}
    top = scale_of([flat(relevance[name], images[name]) for name in shown])
    figure = Figure(figsize=(len(shown) * WIDTH + 0.9, 2 * WIDTH + 0.75), layout=style.layout())
    grid = figure.subplots(2, len(shown), squeeze=False)
    for column, name in enumerate(shown):
        ends = (limit or {}).get(name)
        show(grid[0, column], images[name], ends)
        lay_over(grid[1, column], images[name], relevance[name], top, ends)
        for axes in grid[:, column]:
            outline(axes, known.get(name))
        style.heading(grid[0, column], name)
        style.heading(grid[1, column], f"attribution of {name}")
    # Taken from both rows, so that the panels of a column stay one below the other; it stands beside the lower one.
    bar(figure, list(grid.ravel()), top, "attribution, one scale for all", shrink=0.42, anchor=(0, 0))
    style.caption(figure, title, truth_line([known.get(name) for name in shown]))
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
    figure = Figure(figsize=(3 * WIDTH + 0.9, WIDTH + 0.95), layout=style.layout())
    row = figure.subplots(1, 3)
    for axes, (name, part) in zip(row, parts.items(), strict=True):
        lay_over(axes, image, part, top, limit)
        outline(axes, truth)
        style.heading(axes, f"{name}\nsum {style.number(float(part.sum()))}")
    bar(figure, list(row), top)
    style.caption(figure, title, truth_line([truth]))
    return figure


def truth_line(masks: Sequence[Mask | None]) -> list[str]:
    """What a caption says of the line around the truth; nothing where no truth is drawn."""
    return ["turquoise line: the planted truth"] if any(m is not None and m.any() for m in masks) else []
