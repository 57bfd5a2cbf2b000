"""How cells look in amounts of stain: vesicular tumour nuclei with cytoplasm around them, small dark normal ones.

Tumour nuclei are large, pleomorphic and vesicular: irregular outlines, pale inside, a rim, coarse chromatin, a nucleolus
(Elston & Ellis, Pathological prognostic factors in breast cancer. I, Histopathology 19 (1991), 403–410: their third score of
nuclear pleomorphism). Normal nuclei are small, round, even and dark, or thin along the fibres.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from crossxai.studies.pcam.reading import SIZE
from crossxai.studies.pcam.synthetic.noise import Floats
from crossxai.studies.pcam.synthetic.scene import Small, Texture, Tumour

Plane = npt.NDArray[np.bool_]

HALF = {"tumour": 16, "small": 7}
"""Half the side of the window that a cell is drawn in."""

EDGE = 26
"""Pixels around the patch that windows may reach into."""


def draw(cells: tuple[Tumour, Small], texture: Texture) -> tuple[Floats, Floats, Plane]:
    """(haematoxylin, eosin, pixels of tumour nuclei), each (size, size)."""
    tumour, small = cells
    haematoxylin, eosin, chromatin = (
        _padded(field) for field in (texture.haematoxylin, texture.eosin, texture.chromatin)
    )
    mask = np.zeros(haematoxylin.shape, dtype=bool)
    _draw_tumour(tumour, haematoxylin, eosin, chromatin, mask)
    _draw_small(small, haematoxylin, eosin, chromatin)
    inner = slice(EDGE, EDGE + SIZE)
    return haematoxylin[inner, inner], eosin[inner, inner], mask[inner, inner]


def _padded(field: Floats) -> Floats:
    wide = np.zeros((SIZE + 2 * EDGE,) * 2, np.float32)
    wide[EDGE : EDGE + SIZE, EDGE : EDGE + SIZE] = field
    return wide


def _windows(place: Floats, half: int) -> tuple[list[tuple[slice, slice]], Floats, Floats]:
    """The window of every cell in the padded fields, and (dy, dx) from the cell's centre (n, side, 1), (n, 1, side)."""
    corner = np.floor(place).astype(int) - half
    line = np.arange(2 * half + 1, dtype=np.float32)
    offset = (place - corner).astype(np.float32)
    side = 2 * half + 1
    slices = [(slice(y, y + side), slice(x, x + side)) for y, x in (corner + EDGE).tolist()]
    return slices, (line - offset[:, :1])[:, :, None], (line - offset[:, 1:])[:, None, :]


def _draw_tumour(tumour: Tumour, haematoxylin: Floats, eosin: Floats, chromatin: Floats, mask: Plane) -> None:
    if not len(tumour.place):
        return
    slices, dy, dx = _windows(tumour.place, HALF["tumour"])
    radius = tumour.radius[:, None, None]
    r = np.sqrt(dy * dy + dx * dx) + np.float32(1e-6)
    c1, s1 = dx / r, dy / r
    c, s = c1, s1
    outline = np.ones_like(r)
    for k in range(4):  # harmonics 2 … 5, each from the one before
        c, s = c * c1 - s * s1, s * c1 + c * s1
        outline += tumour.wave[:, 0, k, None, None] * c
        outline += tumour.wave[:, 1, k, None, None] * s
    outline *= radius
    depth = outline - r  # pixels below the outline
    inside = np.clip(depth * 0.8 + 0.5, 0, 1)
    rim = np.maximum(1 - np.abs(depth - 0.9) * 0.7, 0)
    ny, nx = (tumour.nucleolus[:, axis, None, None] * radius for axis in (0, 1))
    nucleolus = np.maximum(1 - ((dy - ny) ** 2 + (dx - nx) ** 2) / 4.5, 0)
    around = np.clip(1 + depth / (0.75 * radius), 0, 1)  # cytoplasm
    dark = tumour.dark[:, None, None]
    body = dark * (0.55 + 0.55 * rim + 0.9 * nucleolus)
    nucleus = depth > 0
    for i, place in enumerate(slices):
        coarse = body[i] + 0.10 * chromatin[place]
        cytoplasm = around[i]
        h = haematoxylin[place]
        h += 0.12 * cytoplasm
        h += inside[i] * (coarse - h)
        e = eosin[place]
        e += 0.18 * cytoplasm * (1 - inside[i])
        e -= inside[i] * 0.45 * e
        mask[place] |= nucleus[i]


def _draw_small(small: Small, haematoxylin: Floats, eosin: Floats, chromatin: Floats) -> None:
    if not len(small.place):
        return
    slices, dy, dx = _windows(small.place, HALF["small"])
    c, s = np.cos(small.tilt)[:, None, None], np.sin(small.tilt)[:, None, None]
    long, short = small.axes[:, 0, None, None], small.axes[:, 1, None, None]
    along, across = (dx * c + dy * s) / long, (dy * c - dx * s) / short
    share = np.sqrt(along * along + across * across)
    inside = np.clip((1 - share) * short * 0.8 + 0.5, 0, 1)
    open_ = small.pale[:, None, None] * np.clip((1 - share) * 4, 0, 1)
    dark = inside * (1.45 - 0.75 * open_) * small.dark[:, None, None]
    for i, place in enumerate(slices):
        h, e = haematoxylin[place], eosin[place]
        np.maximum(h, dark[i] * (1 + 0.08 * chromatin[place]), out=h)
        e -= 0.4 * inside[i] * e
