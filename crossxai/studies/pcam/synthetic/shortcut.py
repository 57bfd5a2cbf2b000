"""A planted shortcut: a small pen mark in a corner of positives, which tells the label without any tissue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crossxai.errors import InvalidInput
from crossxai.studies.pcam.reading import CENTRE, SIZE

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
        apart = (self.rows, self.columns)
        if all(pair[0] < CENTRE.stop and pair[1] > CENTRE.start for pair in apart):
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
