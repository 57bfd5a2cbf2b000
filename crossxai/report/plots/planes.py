"""Volumes cut into planes: slices one below the other for the page's browser, the two other planes, and maximum projections."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from crossxai.model import Array, Modality
from crossxai.report.plots import style

Indices = npt.NDArray[np.uint8]

MOST_SLICES = 40
PIXELS = 160_000  # of all slices of one map, which is a picture of 100 kB
STRIP = 96  # pixels of the longest side in a strip
GAP = 4  # pixels between the panels of a strip
NAMES = {"SI": "axial", "AP": "coronal", "LR": "sagittal"}
TOWARDS = {"axial": "PL", "coronal": "IL", "sagittal": "IP"}
"""To which side rows and columns run in each plane, as radiologists look: the patient's left is on the right."""
SIDES = {"L": "left", "R": "right", "A": "front", "P": "back", "S": "head", "I": "feet"}
OPPOSITE = dict(zip("LRAPSI", "RLPAIS", strict=True))


@dataclass(frozen=True)
class Plane:
    """How slices across one axis of (z, y, x) are shown: `rows` and `columns` are axes, mirrored where their step is -1. name: of
    the plane, such as "axial", or of the axis where no file says how the volume lies. sides: of the patient, at the left, right,
    top and bottom; "" where they are not known. pixel: the height and width of a voxel."""

    name: str
    axis: int
    rows: tuple[int, int]
    columns: tuple[int, int]
    pixel: tuple[float, float]
    sides: str = ""

    def slices(self, volume: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The slices (n, rows, columns) of a volume (z, y, x)."""
        turned = volume.transpose(self.axis, self.rows[0], self.columns[0])
        return turned[:, :: self.rows[1], :: self.columns[1]]

    def title(self, at: int, of: int) -> str:
        """Which slice, counted from 1: "axial slice 12 of 40"; or "slice z = 12 of 40" where no plane is known."""
        return f"{self.name} slice {at + 1} of {of}" if self.sides else f"slice {self.name} = {at + 1} of {of}"

    def aspect(self, shape: Sequence[int]) -> float:
        """Width over height of a slice of a volume of this shape."""
        return shape[self.columns[0]] * self.pixel[1] / (shape[self.rows[0]] * self.pixel[0])


def planes_of(modality: Modality, space: Any = None) -> tuple[Plane, Plane, Plane]:
    """Axial, coronal and sagittal where it is known how the volume lies (`crossxai.files.spaces.Space`), else across the
    modality's own three axes."""
    if space is None:
        z, y, x = modality.axes[:3]
        return (
            Plane(z, 0, (1, 1), (2, 1), (1, 1)),
            Plane(y, 1, (0, 1), (2, 1), (1, 1)),
            Plane(x, 2, (0, 1), (1, 1), (1, 1)),
        )
    letters = space.orientation[::-1]  # of z, y, x
    planes = []
    for pair, name in NAMES.items():
        axes, steps = [], []
        for side in TOWARDS[name]:
            axis = next(i for i, letter in enumerate(letters) if letter in (side, OPPOSITE[side]))
            axes.append(axis)
            steps.append(1 if letters[axis] == side else -1)
        below, right = TOWARDS[name][0], TOWARDS[name][1]
        sides = f"{OPPOSITE[right]}{right}{OPPOSITE[below]}{below}"
        across = next(i for i, letter in enumerate(letters) if letter in pair)
        pixel = space.spacing[axes[0]], space.spacing[axes[1]]
        planes.append(Plane(name, across, (axes[0], steps[0]), (axes[1], steps[1]), pixel, sides))
    first, second, third = planes
    return first, second, third


@dataclass(frozen=True)
class Cut:
    """What is shown of one volume. browsed: slices of the first plane by their numbers; at: where the browser starts among them;
    point: (z, y, x), which the two other planes go through."""

    planes: tuple[Plane, Plane, Plane]
    shape: tuple[int, int, int]
    browsed: tuple[int, ...]
    at: int
    point: tuple[int, int, int]

    @property
    def titles(self) -> tuple[str, ...]:
        """Of the slices that are browsed."""
        first = self.planes[0]
        return tuple(first.title(number, self.shape[first.axis]) for number in self.browsed)

    @property
    def aspect(self) -> str:
        """Of one slice, for CSS."""
        return f"{self.planes[0].aspect(self.shape):.4f}"

    @property
    def views(self) -> str:
        """The two other planes in words."""
        return " · ".join(plane.title(self.point[plane.axis], self.shape[plane.axis]) for plane in self.planes[1:])

    @property
    def sides(self) -> str:
        """What lies at the edges of the slices that are browsed, in words."""
        if not self.planes[0].sides:
            return ""
        left, right, top, bottom = (SIDES[side] for side in self.planes[0].sides)
        return f"the patient's {left} is on the left, {right} on the right, {top} above, {bottom} below"

    @property
    def shrunk(self) -> int:
        """By how much the slices that are browsed are averaged down along their rows and columns."""
        first = self.planes[0]
        area = self.shape[first.rows[0]] * self.shape[first.columns[0]]
        return max(1, math.ceil(math.sqrt(len(self.browsed) * area / PIXELS)))


def cut_of(
    modality: Modality, shape: Sequence[int], space: Any = None, mask: npt.NDArray[np.bool_] | None = None
) -> Cut:
    """What is shown of a volume: the slice where its mask is largest, and the mask's middle; without a mask, its own middle."""
    planes = planes_of(modality, space)
    z, y, x = (int(size) for size in shape[:3])
    point = [z // 2, y // 2, x // 2]
    if mask is not None and mask.any():
        point = [round(float(np.mean(places))) for places in np.nonzero(mask)]
        first = planes[0].axis
        point[first] = int(mask.sum(axis=tuple(a for a in range(3) if a != first)).argmax())
    size = (z, y, x)[planes[0].axis]
    browsed = sorted(
        {*np.linspace(0, size - 1, min(size, MOST_SLICES)).round().astype(int).tolist(), point[planes[0].axis]}
    )
    return Cut(planes, (z, y, x), tuple(browsed), browsed.index(point[planes[0].axis]), (point[0], point[1], point[2]))


def stack(volume: Array, cut: Cut) -> Array:
    """The slices that are browsed, averaged down, one below the other."""
    slices = np.asarray(cut.planes[0].slices(volume)[list(cut.browsed)], np.float64)
    step = cut.shrunk
    if step > 1:
        n, height, width = slices.shape
        inside = slices[:, : max(step, height // step * step), : max(step, width // step * step)]
        edge = [(0, -s % step) for s in inside.shape[1:]]
        inside = np.pad(inside, [(0, 0), *edge], mode="edge")
        height, width = inside.shape[1:]
        slices = inside.reshape(n, height // step, step, width // step, step).mean(axis=(2, 4))
    return slices.reshape(-1, slices.shape[-1])


def through(volume: Array, cut: Cut) -> list[tuple[Array, Plane]]:
    """The slice of each plane through the point."""
    return [(plane.slices(volume)[cut.point[plane.axis]], plane) for plane in cut.planes]


def maxima(volume: Array, cut: Cut) -> list[tuple[Array, Plane]]:
    """Along each axis, the value farthest from zero."""
    projected = []
    for plane in cut.planes:
        slices = plane.slices(volume)
        far = np.abs(np.nan_to_num(slices)).argmax(axis=0)
        projected.append((np.take_along_axis(slices, far[None], axis=0)[0], plane))
    return projected


def strip(panels: Sequence[tuple[Array, Plane]], cut: Cut) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Panels side by side on one scale of millimetres, and where there is one: the rest is gap."""
    along = [
        cut.shape[axis] * step
        for plane in cut.planes
        for (axis, _), step in zip((plane.rows, plane.columns), plane.pixel, strict=True)
    ]
    scale = STRIP / max(along)
    drawn = []
    for values, plane in panels:
        height, width = (max(1, round(n * step * scale)) for n, step in zip(values.shape, plane.pixel, strict=True))
        rows, columns = (
            np.minimum(np.arange(new) * old // new, old - 1)
            for old, new in zip(values.shape, (height, width), strict=True)
        )
        drawn.append(values[np.ix_(rows, columns)])
    canvas = np.zeros((max(p.shape[0] for p in drawn), sum(p.shape[1] for p in drawn) + GAP * (len(drawn) - 1)))
    there = np.zeros(canvas.shape, bool)
    left = 0
    for panel in drawn:
        place = np.s_[: panel.shape[0], left : left + panel.shape[1]]
        canvas[place], there[place] = panel, True
        left += panel.shape[1] + GAP
    return canvas, there


def grey_uri(canvas: Array, limits: tuple[float, float], there: npt.NDArray[np.bool_] | None = None) -> str:
    """Values as a JPEG in grey; what is no panel is white."""
    low, high = limits
    pixels = np.rint(np.clip((canvas - low) / ((high - low) or 1.0), 0, 1) * 255).astype(np.uint8)
    if there is not None:
        pixels[~there] = 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=88)
    return style.uri(buffer.getvalue(), "image/jpeg")


def heat_uri(canvas: Array, scale: tuple[float, float, bool], there: npt.NDArray[np.bool_] | None = None) -> str:
    """Values in the colours of maps; what is no panel is transparent."""
    return style.heat_of(canvas, *scale, there=there)


def edge_uri(mask: npt.NDArray[np.bool_], cut: Cut) -> str:
    """The edge of a mask in all slices that are browsed."""
    first = cut.planes[0]
    slices = first.slices(mask)[list(cut.browsed)]
    step = max(1, cut.shrunk)
    return style.outlines([one[::step, ::step] for one in slices])
