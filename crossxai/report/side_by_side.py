"""Several explainers' maps of the same samples side by side: a row per sample, a column per explainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from crossxai.errors import InvalidInput
from crossxai.model import Array
from crossxai.report import overlays
from crossxai.report.overlays import Mask

CELL = 1.5  # inches


def side_by_side(
    images: Array,
    maps: Mapping[str, Array],
    headings: Sequence[str],
    region: Mask | None = None,
    truth: Array | None = None,
    title: str = "",
) -> Figure:
    """Images in colour, then each explainer's map over the image in grey.

    images: (n, y, x, 3) or (n, y, x, 1) in [0, 1]. maps: explainer → (n, y, x) or (n, y, x, channels), each map on its own
    symmetric scale, since explainers do not share a unit. headings: (n,), a line or two about each sample. region: (y, x), drawn
    dashed in all; truth: (n, y, x), drawn as a line. Raises `InvalidInput` where the numbers of samples differ.
    """
    sizes = {"headings": len(headings), **{name: len(values) for name, values in maps.items()}}
    if wrong := {name: n for name, n in sizes.items() if n != len(images)}:
        said = ", ".join(f"{n} {name}" for name, n in wrong.items())
        raise InvalidInput(f"{len(images)} images need as many headings and maps; got {said}")
    if not len(images) or not maps:
        raise InvalidInput("there is nothing to draw: name at least one image and one map")
    figure = Figure(figsize=(CELL * (len(maps) + 1) + 0.6, CELL * len(images) + 0.8), layout=overlays.layout())
    grid = figure.subplots(len(images), len(maps) + 1, squeeze=False)
    for row, image in enumerate(images):
        overlays.show(grid[row, 0], image, (0, 1))
        if image.shape[-1] == 3:
            grid[row, 0].images[0].set_data(image)
        grid[row, 0].set_ylabel(headings[row], fontsize=8, color=overlays.INK)
        for axes, values in zip(grid[row, 1:], maps.values(), strict=True):
            top = overlays.scale_of([overlays.flat(values[row], image)])
            overlays.lay_over(axes, image, values[row], top, (0, 1))
        for axes in grid[row]:
            overlays.outline(axes, region, overlays.PREDICTED, 1, dashed=True)
            overlays.outline(axes, None if truth is None else truth[row], width=0.8)
    for axes, name in zip(grid[0], ["patch", *maps], strict=True):
        overlays.heading(axes, name, 8.5)
    overlays.caption(figure, title, ["each map on its own scale", "red speaks for the class, blue against it"])
    return figure
