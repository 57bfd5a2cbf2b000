"""Pictures of a certificate: how far layers are apart, and one sample's maps on both networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from crossxai.conventions.agreement import aligned, distance
from crossxai.conventions.certificate_result import LayerPair, MapPair
from crossxai.model import Array
from crossxai.report.plots import maps, style
from crossxai.report.plots.charts import MOST_BARS

LEAST = 1e-17
"""Where a distance of 0 is drawn, which a logarithm has no place for."""
MOST_NAMES = 48
"""Of layers along the axis; of more, every second, third … is named, and all that part from the limit alone."""


def layers_picture(pairs: Sequence[LayerPair], limit: float) -> str:
    """Distances of layers in order of execution on a logarithmic scale, those beyond the limit in another colour and shape."""
    if not pairs:
        return ""
    figure = Figure(figsize=(min(11.6, max(6.6, 0.24 * len(pairs))), 3.7), layout=style.layout())
    axes = figure.subplots()
    place = np.arange(len(pairs))
    apart = np.array([pair.distance for pair in pairs])
    known = np.clip(apart[np.isfinite(apart)], LEAST, None)
    top = max(float(known.max(initial=LEAST)), 10 * limit) * 30
    drawn = np.where(np.isfinite(apart), np.clip(apart, LEAST, None), top / 3)
    holds = apart <= limit
    axes.axhspan(limit, top, color="#fdf0e2", linewidth=0, zorder=0)
    axes.axhline(limit, color=style.GREY, linestyle=(0, (4, 3)), linewidth=1.2)
    axes.annotate(
        f"limit {limit:.0e}", (1, limit), (-4, 4), axes.get_yaxis_transform(), "offset points",
        ha="right", fontsize=9, color=style.SOFT,
    )  # fmt: skip
    axes.plot(place, drawn, color=style.FAINT, linewidth=1.1, zorder=1)
    looks = ((holds, style.PALETTE[0], "o"), (~holds & np.isfinite(apart), style.PALETTE[1], "D"))
    for chosen, colour, marker in (*looks, (~np.isfinite(apart), style.PALETTE[1], "^")):
        axes.plot(place[chosen], drawn[chosen], marker, color=colour, markersize=5.5, linestyle="none", zorder=2)
    if not holds.all():
        first = int(np.argmin(holds))
        beside = "left" if first < 0.6 * len(pairs) else "right"
        axes.annotate(
            f"first: {pairs[first].one}", (first, drawn[first]), (8 if beside == "left" else -8, 6),
            textcoords="offset points", ha=beside, fontsize=9, color=style.INK, fontweight="bold",
        )  # fmt: skip
    axes.set_yscale("log")
    axes.set_ylim(min(float(drawn.min()), limit) / 10, top)
    axes.set_xlim(-0.6, len(pairs) - 0.4)
    every = -(-len(pairs) // MOST_NAMES)
    axes.set_xticks(place[::every], [_name(pair) for pair in pairs[::every]], rotation=90)
    style.dress(axes, "", "relative distance")
    return style.svg_uri(figure)


def _name(pair: LayerPair) -> str:
    """The end of a layer's name, which tells it from others."""
    return pair.one if len(pair.one) <= 26 else f"…{pair.one[-25:]}"


def maps_picture(pairs: Sequence[MapPair], one: str, other: str) -> str:
    """A row per method: the input, its map on both networks and what parts them, on one scale."""
    if not pairs:
        return ""
    tables = any(not pair.modality.spatial for pair in pairs)
    figure = Figure(figsize=(11.0 if tables else 7.4, 1.85 * len(pairs) + 0.2), layout=style.layout())
    grid = figure.subplots(len(pairs), 4, squeeze=False)
    for row, pair in zip(grid, pairs, strict=True):
        ours, theirs = (v[0] for v in aligned(pair.one[None], pair.other[None]))
        several = len({p.modality.name for p in pairs}) > 1
        label = f"{pair.method},\n{pair.modality.name}" if several else pair.method
        headings = (
            "input",
            f"on {_short(one)}",
            f"on {_short(other)}",
            f"difference: {distance(ours[None], theirs[None]):.1e}",
        )
        for axes, heading in zip(row, headings if pair is pairs[0] else ("", "", "", headings[3]), strict=True):
            style.heading(axes, heading, 9)
        draw = _bars if not pair.modality.spatial else _grids if len(pair.modality.axes) == 2 else _images
        draw(row, pair, ours, theirs)
        row[0].set_ylabel(label, fontsize=9.5, color=style.INK, fontweight="bold")
    return style.png_uri(figure, 100)


def _bars(row: Sequence[Axes], pair: MapPair, ours: Array, theirs: Array) -> None:
    """The columns with the largest values, in one order in all panels."""
    order = np.argsort(-np.abs(np.nan_to_num(ours)), kind="stable")[:MOST_BARS][::-1]
    reach = 1.1 * float(np.nanmax(np.abs([ours, theirs]), initial=0.0)) or 1.0
    for axes, values in zip(row, (pair.given, ours, theirs, theirs - ours), strict=True):
        colours = [style.POSITIVE_INK if v >= 0 else style.NEGATIVE_INK for v in values[order]]
        axes.barh(np.arange(len(order)), values[order], color=colours, height=0.7)
        axes.axvline(0, color=style.GREY, linewidth=0.9)
        style.dress(axes, grid="x")
        axes.set_yticks(
            np.arange(len(order)), [pair.modality.features[i] for i in order] if axes is row[0] else [""] * len(order)
        )
        axes.locator_params(axis="x", nbins=4)
        if axes is not row[0]:
            axes.set_xlim(-reach, reach)


def _grids(row: Sequence[Axes], pair: MapPair, ours: Array, theirs: Array) -> None:
    """Of tokens and signals: a row per place, a column per feature, of which a map may have one for all."""
    values = [pair.given, *(np.broadcast_to(v, pair.given.shape) for v in (ours, theirs, theirs - ours))]
    high = float(np.nanmax(np.abs(values[1:3]), initial=0.0)) or 1.0
    row[0].imshow(values[0], cmap="gray", aspect="auto", interpolation="nearest")
    for axes, shown in zip(row[1:], values[1:], strict=True):
        axes.imshow(shown, cmap=style.SIGNED, vmin=-high, vmax=high, aspect="auto", interpolation="nearest")
    for axes in row:
        axes.set_xticks([])
        axes.set_yticks([])


def _images(row: Sequence[Axes], pair: MapPair, ours: Array, theirs: Array) -> None:
    image = style.own_colours(pair.given, pair.modality)
    flat = [style.channels_summed(values, pair.modality, pair.given) for values in (ours, theirs)]
    signed = style.is_signed(np.stack(flat))
    low, high = style.limits(np.stack(flat), signed)
    row[0].imshow(image, interpolation="nearest")
    for axes, values in zip(row[1:3], flat, strict=True):
        axes.imshow(image, interpolation="nearest")
        axes.imshow(
            maps.flat(values, image), cmap=style.see_through(signed), vmin=low, vmax=high, interpolation="nearest"
        )
        if not np.isfinite(values).any():
            maps.write_on(axes, "the map is not finite")
    row[3].imshow(flat[1] - flat[0], cmap=style.SIGNED, vmin=-high, vmax=high, interpolation="nearest")
    for axes in row:
        style.bare(axes)
    for side in row[3].spines.values():
        side.set(visible=True, color=style.FAINT)


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:23]}…"
