"""Does a layer respond where a map of it would be painted: its definition does not tell whether the network turns, mirrors,
rolls, crops or pads its input before. What contradicts clearly counts; what is unclear never does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from crossxai.errors import Unsupported
from crossxai.model import Array

WINDOW, SHARE = 0.4, 0.9
"""A cell is seen clearly if this share of what it changes lies within a window of this part of the layer along both axes."""
PLACES, CLEAR = 8, 14
"""A layer tells something if it has so many places along both axes and sees so many of the 16 cells clearly: 10 181 layers of
24 networks (15 in torch, 9 of keras.applications) with random weights at 64 to 224 pixels, on noise, smooth noise and a
photograph. In the embedded ResNet-18, in both frameworks, none contradicts either."""
AWAY, MOST = 0.25, 2
"""More than `MOST` clear cells so far (of the layer's extent) from where they lie in the image contradict. In those healthy
layers 1 was at most. Rolled by a quarter, 4 or more were; transposed, mirrored, turned, rolled by half, padded at two sides
or shuffled, 7 or more."""
BORDERS, FINE = 0.2, 24
"""A line through where the cells are tells where the image's borders land, in layers of at least `FINE` places: on fewer, the
padding before a healthy convolution moves them, too (0.30 with 10 places). Healthy: at most 0.15 from the layer's own; padded
to twice its size: 0.22 or more; cropped to three quarters, which is let pass: 0.10 at most."""
AGAINST = -0.8
"""A layer with `PLACES` runs against an axis of the image if its correlation with it is below this. Healthy, in torch: -0.06
and above; on fewer places chance alone gives as much as -0.8."""
NOTHING = 1e-7
"""A cell whose change (squared) is below this share of the largest changes nothing but rounding, which is 1e-11 at most where
cells are cropped away; in healthy networks each side of the image holds a cell with 3 % of the largest change or more."""

Verdict = Literal["right", "wrong", "unclear"]
SIDES = {"z": ("first", "last"), "y": ("upper", "lower"), "x": ("left", "right")}


@dataclass(frozen=True)
class Placed:
    """Whether a layer responds where the input changes, and what was measured, in words."""

    verdict: Verdict
    words: str = ""


def placed(
    rows: Array,
    columns: Array,
    grid: int,
    follow: tuple[float, float],
    linear: bool,
    cut: tuple[str, str] = ("y", "x"),
) -> Placed:
    """How a plane responds to each of grid × grid cells of the image.

    rows, columns: (cells, y) and (cells, x), the changes summed along the other axes. follow: correlation of the places with the
    cell's row and column. linear: whether the layer has values below zero: behind a ReLU, a cell may change nothing. cut: the
    axes that the cells' rows and columns run along.
    """
    total = rows.sum(axis=1)
    if not (np.isfinite(total).all() and total.any()):
        return Placed("unclear")
    dead = _dead(total.reshape(grid, grid) <= NOTHING * total.max(), cut)
    if dead:
        return Placed("wrong" if linear else "unclear", dead)
    axes = zip(cut, follow, (rows, columns), strict=True)
    against = " and ".join(axis for axis, c, p in axes if c < AGAINST and p.shape[1] >= PLACES)
    if against:
        numbers = " and ".join(f"{c:.2f}" for c in follow if c < AGAINST)
        return Placed("wrong", f"it runs against {against} of the image (correlation {numbers}), as if mirrored")
    if min(rows.shape[1], columns.shape[1]) < PLACES:
        return Placed("unclear")
    return _located(rows, columns, grid, cut)


def _dead(none: npt.NDArray[np.bool_], cut: tuple[str, str]) -> str:
    """Which whole sides of the image change nothing, in words."""
    lines = {cut[0]: np.asarray(none.all(axis=1)), cut[1]: np.asarray(none.all(axis=0))}
    sides = [side for axis in cut for side, at in zip(SIDES[axis], (0, -1), strict=True) if lines[axis][at]]
    if not sides or none.all():
        return ""
    return f"nothing that is changed in the {', '.join(sides)} quarter of the image changes it, as if cropped away"


def _located(rows: Array, columns: Array, grid: int, cut: tuple[str, str]) -> Placed:
    clear = _concentrated(rows) & _concentrated(columns)
    if clear.sum() < CLEAR:
        return Placed("unclear")
    cells = np.stack(np.divmod(np.arange(grid * grid), grid))[:, clear]
    expected = (cells + 0.5) / grid
    centres = np.stack([_centres(p[clear]) for p in (rows, columns)])
    away = np.abs(centres - expected).max(axis=0)
    if (away > AWAY).sum() > MOST:
        return Placed(
            "wrong",
            f"{(away > AWAY).sum()} of {clear.sum()} cells of the image change it elsewhere than where they lie, by up to "
            f"{away.max():.0%} of its extent, as if turned, rolled, shuffled or padded",
        )
    if min(rows.shape[1], columns.shape[1]) < FINE:
        return Placed("unclear")
    for axis, at, cell in zip(cut, centres, expected, strict=True):
        slope, start = np.polyfit(cell, at, 1)
        if max(abs(start), abs(start + slope - 1)) > BORDERS:
            return Placed(
                "wrong",
                f"along {axis}, the image's borders are at {start:.0%} and {start + slope:.0%} of it, as if padded or cropped",
            )
    return Placed("right")


def _concentrated(profiles: Array) -> npt.NDArray[np.bool_]:
    """By cell, whether `SHARE` of its change lies within `WINDOW`."""
    size = int(np.ceil(WINDOW * profiles.shape[1]))
    sums = np.cumsum(np.pad(profiles, ((0, 0), (1, 0))), axis=1)
    most = (sums[:, size:] - sums[:, :-size]).max(axis=1)
    return np.asarray((most >= SHARE * sums[:, -1]) & (sums[:, -1] > 0), np.bool_)


def _centres(profiles: Array) -> Array:
    places = (np.arange(profiles.shape[1]) + 0.5) / profiles.shape[1]
    return np.asarray(profiles @ places / profiles.sum(axis=1))


def together(views: Sequence[Placed]) -> Placed:
    """What the views of one layer show together: wrong as soon as one is, right where all are."""
    wrong = [view for view in views if view.verdict == "wrong"]
    right = all(view.verdict == "right" for view in views)
    return wrong[0] if wrong else Placed("right" if right else "unclear", "".join(v.words for v in views[:1]))


def carried(placed_layers: Mapping[str, Placed]) -> dict[str, Placed]:
    """The same, in order of execution, where a layer that is unclear has what the last clear one before it shows.

    Sides that change nothing behind a ReLU are so because they were cropped away if they are before it, too.
    """
    last, result = Placed("unclear"), {}
    for layer, own in placed_layers.items():
        if own.verdict == "unclear":
            result[layer] = last
            continue
        result[layer] = own
        before = f"already at layer {layer!r}, before it, " if own.words else ""
        last = Placed(own.verdict, before + own.words)
    return result


def refusal(layer: str, model: str, axes: tuple[str, ...], words: str) -> Unsupported:
    """Why there is no map at a layer that responds elsewhere than where it would be painted."""
    return Unsupported(
        f"layer {layer!r} of model {model!r} has axes ({', '.join(axes)}) by its definition, but {words} (measured by replacing "
        "each of 4 × 4 cells of the input): the network moves its input before, and a map would be painted at the wrong place. "
        "Take that step (a transpose, flip, roll, crop or padding) out of the network and do it to the data; or, if the layer's "
        f"places are right all the same, declare them at the adapter: layer_axes={{{layer!r}: {axes!r}}}"
    )
