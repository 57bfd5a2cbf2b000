"""Augmentation of patches that any framework can train on: NumPy and Pillow, uint8 in and out.

What sample `row` becomes in an epoch depends on (seed, epoch, row) alone: not on the batch, the order, or how many workers there
are, and a training that goes on in the middle of an epoch sees what it would have seen. The centre of a patch, which decides
its label, stays the centre.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from crossxai.errors import InvalidInput

Pixels = npt.NDArray[np.uint8]

GREY = np.array([0.299, 0.587, 0.114])
"""How much each channel counts in a pixel's luminance (ITU-R BT.601)."""


@dataclass(frozen=True)
class Augmentation:
    """flips: left to right, top to bottom, and the diagonal, each or not: all eight orientations alike. rotation: at most so many
    degrees more, either way, bilinear, the border reflected. brightness: each channel moves by at most so much of the full
    range. contrast, saturation: distances to the patch's mean colour, and to grey, grow or shrink by at most this share.
    """

    flips: bool = True
    rotation: float = 10
    brightness: float = 0.05
    contrast: float = 0.1
    saturation: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.rotation <= 45:
            raise InvalidInput(f"rotation is 0 to 45 degrees, got {self.rotation}: quarter turns come with flips")
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) < 1:
                raise InvalidInput(f"{name} is at least 0 and below 1, got {getattr(self, name)}")

    def batch(self, images: Pixels, rows: npt.NDArray[np.integer], seed: int, epoch: int) -> Pixels:
        """Patches (n, side, side, 3) of these rows as they are in this epoch."""
        return np.stack([self.one(x, int(row), seed, epoch) for x, row in zip(images, rows, strict=True)])

    def one(self, image: Pixels, row: int, seed: int, epoch: int) -> Pixels:
        """A patch (side, side, 3) of this row as it is in this epoch."""
        rng = np.random.default_rng([seed, epoch, row])
        # All numbers are drawn whatever is switched on, so that a switch changes nothing but what it names.
        orientation, draw = rng.random(3) < 0.5, 2 * rng.random(6) - 1
        if self.flips:
            image = oriented(image, orientation)
        if self.rotation:
            image = rotated(image, self.rotation * draw[0])
        if self.brightness or self.contrast or self.saturation:
            image = self._coloured(image, draw[1:])
        return np.ascontiguousarray(image)

    def _coloured(self, image: Pixels, draw: npt.NDArray[np.float64]) -> Pixels:
        # All three are one affine map of colours: saturation mixes channels, contrast scales about the mean, brightness moves.
        picture = Image.fromarray(np.ascontiguousarray(image))
        mean = np.asarray(picture.reduce(picture.size))[0, 0]
        keep, stretch = 1 + self.saturation * draw[0], 1 + self.contrast * draw[1]
        mixing = keep * np.eye(3) + (1 - keep) * GREY
        moved = (1 - stretch) * (mixing @ mean) + 255 * self.brightness * draw[2:5]
        matrix = np.column_stack([stretch * mixing, moved])
        return np.asarray(picture.convert("RGB", tuple(matrix.ravel().tolist())))


def oriented(image: Pixels, flips: npt.NDArray[np.bool_]) -> Pixels:
    """The patch upside down, left to right, along its diagonal; each as `flips` (3,) says."""
    image = image[::-1] if flips[0] else image
    image = image[:, ::-1] if flips[1] else image
    return image.transpose(1, 0, 2) if flips[2] else image


def rotated(image: Pixels, degrees: float) -> Pixels:
    """The square patch turned clockwise about its centre; what comes in over the border is the patch reflected at it."""
    side, angle = len(image), math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    pad = math.ceil(side / 2 * (abs(cos) + abs(sin) - 1)) + 1
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), "symmetric")
    half, middle = side / 2, side / 2 + pad
    # Pillow asks, for each pixel of the result, where it comes from: (x, y) → (a x + b y + c, d x + e y + f).
    place = (cos, sin, middle - half * (cos + sin), -sin, cos, middle - half * (cos - sin))
    turned = Image.fromarray(padded).transform((side, side), Image.Transform.AFFINE, place, Image.Resampling.BILINEAR)
    return np.asarray(turned)
