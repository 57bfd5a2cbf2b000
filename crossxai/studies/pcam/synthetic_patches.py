"""From (seed, number) to a patch: its label, its image, and where its tumour nuclei are; any number of them in memory.

Tumour nuclei are large, pleomorphic and vesicular (Elston & Ellis, Histopathology 19 (1991), 403–410: their third score of
nuclear pleomorphism), normal ones small, round, even and dark, or thin along the fibres. Colours follow from amounts of stain by
Beer–Lambert (Ruifrok & Johnston, Analytical and Quantitative Cytology and Histology 23 (2001), 291–299; vectors of
scikit-image's `rgb_from_hed`), which vary from patch to patch as in Tellez et al., IEEE TMI 37 (2018), 2126–2136.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crossxai.errors import InvalidInput
from crossxai.studies.generation import check_whole
from crossxai.studies.pcam.reading import CENTRE, SIZE
from crossxai.studies.pcam.synthetic_scene import Floats, Small, Stains, Tumour, scene

INKS = ((18, 132, 62), (8, 74, 178))
"""RGB of a green and of a blue marker pen, usual ones on slides; neither stain comes near them."""


@dataclass(frozen=True)
class Shortcut:
    """A mark in the box rows × columns (first, one past the last) of that share of the positives, never of negatives.

    Raises `InvalidInput` for a box that is smaller than 4 × 4, leaves the patch or reaches into the centre 32 × 32.
    """

    rows: tuple[int, int] = (4, 12)
    columns: tuple[int, int] = (4, 12)
    share: float = 1.0

    def __post_init__(self) -> None:
        for name, pair in (("rows", self.rows), ("columns", self.columns)):
            numbers = len(pair) == 2 and all(isinstance(v, int) and not isinstance(v, bool) for v in pair)
            if not numbers or not (pair[0] >= 0 and pair[0] + 4 <= pair[1] <= SIZE):
                raise InvalidInput(
                    f"shortcut {name} is {pair!r}; write (first, one past the last) in 0 … {SIZE}, 4 apart"
                )
        box = (self.rows, self.columns)
        if all(pair[0] < CENTRE.stop and pair[1] > CENTRE.start for pair in box):
            raise InvalidInput(
                f"shortcut rows {self.rows} and columns {self.columns} reach into the centre "
                f"({CENTRE.start} … {CENTRE.stop}), which decides the label; move one of them"
            )
        if not 0 < self.share <= 1:
            raise InvalidInput(f"shortcut share is {self.share!r}; write a number above 0, up to 1")

    def paint(self, image: npt.NDArray[np.uint8], rng: np.random.Generator) -> bool:
        """Paint the mark into one image (96, 96, 3), in place; returns whether this image gets one."""
        if rng.random() >= self.share:
            return False
        box = image[slice(*self.rows), slice(*self.columns)]
        height, width = box.shape[:2]
        y = (np.arange(height) + 0.5 - height / 2)[:, None] / (height / 2)
        x = (np.arange(width) + 0.5 - width / 2)[None, :] / (width / 2)
        angle = rng.uniform(0, np.pi)
        along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        reach = np.hypot(along / 1.1, across / rng.uniform(0.75, 1))  # a short, thick stroke
        cover = (0.92 * np.clip((1.05 - reach) * 4, 0, 1))[..., None]
        ink = np.array(INKS[int(rng.integers(len(INKS)))]) + rng.normal(0, 6, (height, width, 1))
        box[:] = np.clip(box * (1 - cover) + ink * cover, 0, 255).round().astype(np.uint8)
        return True


@dataclass(frozen=True)
class Patches:
    """images uint8 (n, 96, 96, 3), RGB; labels int64 (n,); masks bool (n, 96, 96), tumour nuclei wherever they are."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    masks: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.labels)


def generate(n: int, seed: int = 0, start: int = 0, shortcut: Shortcut | None = None) -> Patches:
    """Patches number start … start + n - 1 of a seed; what one holds depends on its number and the seed alone.

    Numbers 2k and 2k + 1 have different labels, in random order. With a shortcut, the same patches, but for the mark in the
    positives that carry it. Raises `InvalidInput`.
    """
    for name, value in (("n", n), ("seed", seed), ("start", start)):
        check_whole(name, value, 0)
    patches = Patches(np.empty((n, SIZE, SIZE, 3), np.uint8), np.empty(n, np.int64), np.empty((n, SIZE, SIZE), bool))
    for row in range(n):
        number = start + row
        positive = label_of(seed, number)
        image, patches.masks[row] = patch(seed, number, positive)
        if positive and shortcut is not None:
            shortcut.paint(image, _stream(seed, number, "mark"))
        patches.images[row], patches.labels[row] = image, positive
    return patches


def label_of(seed: int, number: int) -> bool:
    """A coin for every pair of numbers, so that any even run from an even start is balanced."""
    return bool(_stream(seed, number // 2, "label").integers(2) ^ (number % 2))


def patch(seed: int, number: int, positive: bool) -> tuple[npt.NDArray[np.uint8], Plane]:
    """(image, tumour nuclei): the same tissue with either label, but for what is in the centre."""
    rng = _stream(seed, number, "tissue")
    haematoxylin, eosin, mask = draw(*scene(rng, positive))
    return stained(rng, haematoxylin, eosin), mask


_PARTS = ("tissue", "label", "mark")


def _stream(seed: int, number: int, part: str) -> np.random.Generator:
    return np.random.default_rng([seed, number, _PARTS.index(part)])


Plane = npt.NDArray[np.bool_]

HALF = {"tumour": 16, "small": 7}
"""Half the side of the window that a cell is drawn in."""

EDGE = 26
"""Pixels around the patch that windows may reach into."""


def draw(cells: tuple[Tumour, Small], stroma: Stains) -> tuple[Floats, Floats, Plane]:
    """(haematoxylin, eosin, pixels of tumour nuclei), each (size, size)."""
    tumour, small = cells
    haematoxylin, eosin, chromatin = (np.pad(field, EDGE) for field in stroma)
    mask = np.zeros(haematoxylin.shape, dtype=bool)
    _draw_tumour(tumour, haematoxylin, eosin, chromatin, mask)
    _draw_small(small, haematoxylin, eosin, chromatin)
    inner = slice(EDGE, EDGE + SIZE)
    return haematoxylin[inner, inner], eosin[inner, inner], mask[inner, inner]


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


HAEMATOXYLIN = (0.65, 0.70, 0.29)
EOSIN = (0.07, 0.99, 0.11)
RESIDUAL = (0.27, 0.57, 0.78)
"""Optical density in red, green and blue per amount of stain; the third, brown, makes eosin warm."""


def stained(rng: np.random.Generator, haematoxylin: Floats, eosin: Floats) -> npt.NDArray[np.uint8]:
    """RGB uint8 (size, size, 3) of two amounts (size, size): light through stains, optics, sensor."""
    warm = rng.uniform(0.05, 0.22)
    vectors = np.array([HAEMATOXYLIN, np.add(EOSIN, np.multiply(warm, RESIDUAL))])
    vectors = vectors * rng.normal(1, (0.03, 0.04), (3, 2)).T
    amounts = rng.lognormal(0, (0.10, 0.13))
    vectors = (vectors * amounts[:, None]).astype(np.float32)
    lamp = np.float32(rng.uniform(236, 250))
    vectors = -vectors[..., None, None]  # colours first until the end: three long rows are faster than many of three
    light = np.exp(haematoxylin * vectors[0] + eosin * vectors[1])
    light *= lamp
    _blur(light, np.float32(rng.uniform(0.10, 0.22)))
    light += rng.integers(-4, 5, light.shape, np.int8)
    light += rng.integers(-3, 4, light.shape[1:], np.int8)
    light += np.float32(0.5)
    return np.ascontiguousarray(np.clip(light, 0, 255, out=light).astype(np.uint8).transpose(1, 2, 0))


def _blur(light: Floats, weight: np.float32) -> None:
    """Three taps along both axes of (3, size, size), in place: (weight, 1 - 2 weight, weight), the edge repeated."""
    down = (light[:, 1:] - light[:, :-1]) * weight
    light[:, :-1] += down
    light[:, 1:] -= down
    right = (light[:, :, 1:] - light[:, :, :-1]) * weight
    light[:, :, :-1] += right
    light[:, :, 1:] -= right
