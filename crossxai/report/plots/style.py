"""The look that all figures share, and samples as pictures in that look, as arrays and as data URIs for the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image
from scipy.ndimage import binary_erosion

from crossxai.errors import InvalidInput
from crossxai.model import Array, Modality
from crossxai.report import words

Bytes = npt.NDArray[np.uint8]

INK = "#1f2937"
SOFT = "#4b5563"
GREY = "#6b7280"
FAINT = "#d4d7dd"
POSITIVE_INK, NEGATIVE_INK = "#b2182b", "#2166ac"

# Okabe and Ito's colours, told apart by readers with any of the common colour blindnesses.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#5B4BB5", "#7A5C2E")
DASHES: tuple[Any, ...] = ("solid", (0, (5, 1.5)), (0, (1.2, 1.2)))
CONTROL: tuple[str, Any] = (GREY, (0, (3.5, 2)))

SIGNED = "RdBu_r"  # blue below zero, white at zero, red above; safe for the common colour blindnesses
POSITIVE = "YlOrBr"  # pale at zero, brown at the top
OVER_IMAGE = "viridis"  # of maps without a sign over an image in its own colours
PERCENTILE = 99.0
OPAQUE = 0.9  # at the ends of the scale, so that the image can be seen through
LEVELS = 128  # 128 colours look like 256 and compress better
MAX_PIXELS = 160  # larger maps are averaged down: they are shown a hundred or two pixels wide


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


def uri(data: bytes, kind: str) -> str:
    """Bytes as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def png_uri(figure: Figure, dpi: float) -> str:
    """A figure as the data URI of a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return uri(buffer.getvalue(), "image/png")


def svg_uri(figure: Figure) -> str:
    """A figure as the data URI of an SVG."""
    buffer = io.StringIO()
    # Text stays text, in the page's own typeface; the salt makes the same numbers give the same bytes.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "crossxai"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue().replace("'DejaVu Sans'", "'Helvetica Neue', 'Segoe UI', Arial, 'DejaVu Sans'")
    return uri(text.encode("utf-8"), "image/svg+xml")


def plane(values: Array, shrink: bool = True) -> Array:
    """A two-dimensional view of one sample's map: the middle slice of a volume, a strip of a series, itself otherwise."""
    while values.ndim > 2:
        values = values[len(values) // 2]
    if values.ndim == 1:
        values = np.repeat(values[None], max(1, len(values) // 6), axis=0)
    step = -(-max(values.shape) // MAX_PIXELS)
    if step > 1 and shrink:
        height, width = (size // step * step for size in values.shape)
        if height and width:
            values = values[:height, :width].reshape(height // step, step, width // step, step).mean(axis=(1, 3))
    return values


def own_colours(image: Array, modality: Modality | None = None) -> Array:
    """One sample's input as RGB in [0, 1] (y, x, 3): three channels as colours, else grey; of a volume the middle slice."""
    if image.ndim == 2:
        image = image[..., None]
    while image.ndim > 3:
        image = image[len(image) // 2]
    if image.ndim != 3:
        raise InvalidInput(f"an image has shape (y, x) or (y, x, channels), got {image.shape}")
    rgb = image if image.shape[-1] == 3 else np.repeat(image.mean(axis=-1, keepdims=True), 3, axis=-1)
    unit = float(rgb.min()) >= 0 and float(rgb.max()) <= 1
    low, high = (modality and modality.range) or ((0.0, 1.0) if unit else (float(rgb.min()), float(rgb.max())))
    return np.asarray(np.clip((rgb - low) / ((high - low) or 1.0), 0, 1))


def channels_summed(values: Array, modality: Modality | None = None, image: Array | None = None) -> Array:
    """A spatial map as (y, x): channels summed, of a volume the middle slice."""
    if modality is not None:
        channels = values.ndim == len(modality.axes)
    else:
        channels = values.ndim > 2 and (image is None or image.ndim == values.ndim)
    return plane(
        np.asarray(values, np.float64).sum(axis=-1) if channels else np.asarray(values, np.float64), shrink=False
    )


def slice_shown(modality: Modality, values: Array) -> str:
    """Which slice of one sample's volume `plane` shows, counted from 1: `slice z = 9 of 16`; "" for what is shown whole."""
    sizes = dict(zip(modality.axes, values.shape, strict=False)) if modality.spatial else {}
    cut = [f"{axis} = {n // 2 + 1} of {n}" for axis, n in list(sizes.items())[:-3]]
    return f"slice {', '.join(cut)}" if cut else ""


def heat(values: Array, low: float, high: float, signed: bool) -> str:
    """One sample's map as a PNG of indexed colours; values beyond the limits take the end colours."""
    return heat_of(plane(values), low, high, signed)


def heat_of(values: Array, low: float, high: float, signed: bool, there: npt.NDArray[np.bool_] | None = None) -> str:
    """A picture of these values (y, x) in the colours of maps, transparent where nothing is `there`."""
    share = np.clip((values - low) / (high - low), 0.0, 1.0)
    index = np.rint(share * (LEVELS - 1)).astype(np.uint8)
    colours = _colours(SIGNED if signed else POSITIVE)
    if there is None:
        return _indexed(index, colours)
    return _indexed(np.where(there, index + 1, 0).astype(np.uint8), np.vstack([[[255, 255, 255]], colours]), True)


def colour(value: float, low: float, high: float, signed: bool) -> str:
    """One value's colour as #rrggbb, on the same scales as the maps."""
    index = round(float(np.clip((value - low) / (high - low), 0.0, 1.0)) * (LEVELS - 1))
    red, green, blue = _colours(SIGNED if signed else POSITIVE)[index]
    return f"#{red:02x}{green:02x}{blue:02x}"


def scale(signed: bool) -> str:
    """The colour scale itself, left (low) to right (high), as a PNG to stretch."""
    return _indexed(np.arange(LEVELS, dtype=np.uint8)[None], _colours(SIGNED if signed else POSITIVE))


def picture(values: Array, modality: Modality) -> str:
    """One sample's input as an image: RGB when there are three channels, the channels' mean in grey otherwise."""
    rgb = values.shape[-1] == 3 and values.ndim == 3
    channels = [plane(values[..., c]) for c in range(3)] if rgb else [plane(values.mean(axis=-1))]
    stacked = np.stack(channels, axis=-1)
    low, high = modality.range or (float(stacked.min()), float(stacked.max()))
    pixels = np.rint(np.clip((stacked - low) / ((high - low) or 1.0), 0, 1) * 255).astype(np.uint8)
    image = Image.fromarray(pixels if rgb else pixels[..., 0])
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=92, subsampling=0)
    return uri(buffer.getvalue(), "image/jpeg")


def outline(mask: npt.NDArray[np.bool_]) -> str:
    """The edge of one sample's ground-truth mask as a transparent PNG: a dark line with a light one inside it."""
    return outlines([plane(mask.astype(np.float64)) >= 0.5])


def outlines(masks: Sequence[npt.NDArray[np.bool_]]) -> str:
    """The same of several masks (y, x), one below the other."""
    parts = []
    for flat in masks:
        large = np.kron(flat, np.ones((4, 4), dtype=bool))
        inner = binary_erosion(large)
        index = np.zeros(large.shape, dtype=np.uint8)
        index[large & ~inner] = 1
        index[inner & ~binary_erosion(inner)] = 2
        parts.append(index)
    index = np.concatenate(parts)
    palette = np.array([[0, 0, 0], [17, 24, 39], [94, 234, 212]], dtype=np.uint8)
    return _indexed(index, palette, transparent=True)


def _colours(name: str) -> Bytes:
    table = matplotlib.colormaps[name](np.linspace(0.0, 1.0, LEVELS))
    rgb: Bytes = np.rint(np.asarray(table)[:, :3] * 255).astype(np.uint8)
    return rgb


def _indexed(index: Bytes, palette: Bytes, transparent: bool = False) -> str:
    image = Image.fromarray(index).convert("P")
    image.putpalette(palette.astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True, **({"transparency": 0} if transparent else {}))
    return uri(buffer.getvalue(), "image/png")


@dataclass(frozen=True)
class Line:
    """One mean curve: x and y (points,), its colour and dash, and the interval to shade, empty if there is none."""

    x: Array
    y: Array
    look: tuple[str, Any]
    low: Sequence[float]
    high: Sequence[float]


def curves(
    lines: Sequence[Line], controls: Sequence[Line], others: Sequence[Line], x: str, y: str, limits: tuple[float, float]
) -> str:
    """One panel of curves as SVG: `lines` on top, `controls` below them, `others` thin, for context."""
    figure = Figure(figsize=(2.9, 2.3))
    axes = figure.subplots()
    for order, (group, width, alpha) in enumerate(((others, 0.9, 0), (controls, 1.3, 0.14), (lines, 1.7, 0.16)), 1):
        for line in group:
            shade, dash = line.look
            if line.low:
                axes.fill_between(line.x, line.low, line.high, color=shade, alpha=alpha, lw=0, zorder=order - 0.5)
            axes.plot(line.x, line.y, color=shade, linewidth=width, linestyle=dash, zorder=order)
    axes.set_xlim(0, 1)
    axes.set_ylim(*limits)
    dress(axes, x, y)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100%"])
    figure.subplots_adjust(left=0.2, right=0.94, top=0.97, bottom=0.2)
    return svg_uri(figure)
