"""From (seed, number) to a patch: its label, its image, and where its tumour nuclei are; any number of them in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from crossxai.errors import InvalidInput
from crossxai.studies.pcam.reading import SIZE
from crossxai.studies.pcam.synthetic.nuclei import Plane, draw
from crossxai.studies.pcam.synthetic.scene import scene
from crossxai.studies.pcam.synthetic.shortcut import Shortcut
from crossxai.studies.pcam.synthetic.stain import stained


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
    for name, value, least in (("n", n, 0), ("seed", seed, 0), ("start", start, 0)):
        whole(name, value, least)
    made = Patches(np.empty((n, SIZE, SIZE, 3), np.uint8), np.empty(n, np.int64), np.empty((n, SIZE, SIZE), bool))
    for row in range(n):
        number = start + row
        positive = label_of(seed, number)
        image, made.masks[row] = patch(seed, number, positive)
        if positive and shortcut is not None:
            shortcut.paint(image, _stream(seed, number, "mark"))
        made.images[row], made.labels[row] = image, positive
    return made


def label_of(seed: int, number: int) -> bool:
    """A coin for every pair of numbers, so that any even run from an even start is balanced."""
    return bool(_stream(seed, number // 2, "label").integers(2) ^ (number % 2))


def patch(seed: int, number: int, positive: bool) -> tuple[npt.NDArray[np.uint8], Plane]:
    """(image, tumour nuclei): the same tissue with either label, but for what is in the centre."""
    rng = _stream(seed, number, "tissue")
    cells, texture = scene(rng, positive)
    haematoxylin, eosin, mask = draw(cells, texture)
    return stained(rng, haematoxylin, eosin), mask


def whole(name: str, value: Any, least: int) -> None:
    """Raise `InvalidInput` unless the value is a whole number from `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InvalidInput(f"{name} is {value!r}; write a whole number from {least}")


_PARTS = ("tissue", "label", "mark")


def _stream(seed: int, number: int, part: str) -> np.random.Generator:
    return np.random.default_rng([seed, number, _PARTS.index(part)])
