"""Pictures of a parity: what parts two maps, and what is left of a map when the network forgets."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill

import numpy as np
from matplotlib.figure import Figure

from crossxai.conventions.agreement import aligned, distance
from crossxai.conventions.convention import convention
from crossxai.conventions.result import Pair
from crossxai.conventions.sanity import Sanity
from crossxai.report.plots import style
from crossxai.report.plots.charts import draw_bars
from crossxai.report.plots.maps import draw_map, scale_of


def maps_picture(pair: Pair) -> str:
    """The sample that is farthest apart: both maps, the first as convention after convention is switched, and under each what
    parts it from the second."""
    assert pair.one.maps is not None
    assert pair.other.maps is not None
    other = pair.other.maps[pair.row]
    closing = pair.finding.closing if pair.finding else ()
    switched = {str(s): convention(s.convention).words(s.option) for s in (closing[0] if closing else ())}
    panels = [
        (pair.other.explainer.replace(".", ".\n"), other),
        (pair.one.explainer.replace(".", ".\n"), pair.one.maps[pair.row]),
        *((fill(f"+ {switched[name]}", 26), maps) for name, maps in pair.steps),
    ]
    table = other.ndim == 1
    figure = Figure(figsize=((3.0 if table else 2.1) * len(panels), 5.1), layout=style.layout())
    above, below = figure.subplots(2, len(panels))
    signed = not table and any(style.is_signed(style.channels_summed(maps)) for _, maps in panels)
    for upper, lower, (name, maps) in zip(above, below, panels, strict=True):
        gap = np.subtract(*(v[0] for v in aligned(maps[None], other[None])))
        if table:
            draw_bars(upper, maps, None, None)
            draw_bars(lower, gap, None, None)
        else:
            same_grid = pair.image is not None and maps.shape[0] == pair.image.shape[0]
            draw_map(upper, maps, pair.image if same_grid else None, None, signed)
            end = scale_of([style.channels_summed(other)])
            lower.imshow(gap.sum(axis=-1), cmap=style.SIGNED, vmin=-end, vmax=end, interpolation="nearest")
            style.bare(lower)
        style.heading(upper, name, 9)
        apart = "compared with" if maps is other else f"{distance(maps[None], other[None]):.2g} away"
        style.heading(lower, apart, 9)
    return style.png_uri(figure, 90)


def sanity_picture(every: Mapping[str, Sanity]) -> str:
    """Likeness to the own map as layers are drawn anew one after the other, and alone, against that of edges."""
    measured = {name: s for name, s in every.items() if s.cascading is not None and s.alone is not None}
    if not measured:
        return ""
    figure = Figure(figsize=(9.6, 2.9), layout=style.layout())
    left, right = figure.subplots(1, 2, sharey=True)
    for number, (name, one) in enumerate(measured.items()):
        colour, dash = style.line_style(number)
        for axes, likeness in ((left, one.cascading), (right, one.alone)):
            assert likeness is not None
            stages = np.arange(1, len(one.layers) + 1)
            axes.plot(stages, likeness["spearman"], color=colour, linestyle=dash, marker="o", markersize=4, label=name)
            axes.set_xticks(stages)
    edges = np.mean([s.edges["spearman"] for s in measured.values() if s.edges is not None])
    for axes, title in ((left, "down to this stage"), (right, "this stage's layer alone")):
        if np.isfinite(edges):
            axes.axhline(edges, color=style.GREY, linestyle="dashed", linewidth=1.2, label="an edge detector")
        style.dress(axes, "stage, from the output", "rank correlation" if axes is left else "", title)
    left.legend(fontsize=8, frameon=False)
    return style.png_uri(figure, 90)
