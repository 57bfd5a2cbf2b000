"""Patches to train on: a dataset for torch's DataLoader, augmentation for any framework, and a cache of what a split holds.

What sample `row` becomes in an epoch depends on (seed, epoch, row) alone, not on batch, order or workers. Augmentation keeps the
centre of a patch, which decides its label, in the centre."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from crossxai.data.fetching import cache_folder
from crossxai.errors import DAMAGED_NPZ, InvalidFile, InvalidInput
from crossxai.files.atomic import replacing
from crossxai.studies.pcam.reading import ROWS, PCam, Split

Labels = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PatchDataset:
    """Some rows of a split, augmented; sample i is (patch uint8 (96, 96, 3), label).

    rows: of the split, all without. augmentation: None for the patches as they are. epoch: decides, with the seed and the row,
    how a patch is augmented; `at` gives the dataset of another. Reads lazily and holds no open file when it is pickled or
    forked, so it goes into `torch.utils.data.DataLoader` with any number of workers, forked or spawned.
    """

    data: PCam
    rows: Rows | None = None
    augmentation: Augmentation | None = None
    seed: int = 0
    epoch: int = 0

    def __len__(self) -> int:
        return len(self.data) if self.rows is None else len(self.rows)

    def at(self, epoch: int) -> PatchDataset:
        """The same samples as they are in this epoch."""
        return replace(self, epoch=epoch)

    def __getitem__(self, i: int) -> tuple[Pixels, int]:
        images, labels = self.batch(np.array([range(len(self))[i]]))
        return images[0], int(labels[0])

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Pixels, int]]:
        """What DataLoader calls for a batch: one read instead of many."""
        images, labels = self.batch(np.asarray(indices))
        return list(zip(images, labels.tolist(), strict=True))

    def batch(self, indices: npt.NDArray[np.integer], reading: Lock | None = None) -> tuple[Pixels, Labels]:
        """Patches (n, 96, 96, 3) and labels (n,) of some samples. reading: held while the file is read."""
        chosen = np.asarray(indices, np.int64) if self.rows is None else self.rows[indices]
        with reading or Lock():
            images = self.data.pixels(chosen)
        if self.augmentation is not None:
            images = self.augmentation.batch(images, chosen, self.seed, self.epoch)
        return images, self.data.labels(chosen)

    def batches(self, parts: Iterable[npt.NDArray[np.integer]], workers: int = 1) -> Iterator[tuple[Pixels, Labels]]:
        """The batches of these samples, in order; `workers` threads make as many and one ahead (0: none), byte for byte alike."""
        if not workers:
            yield from (self.batch(part) for part in parts)
            return
        left, reading = iter(parts), Lock()  # threads share the reader; h5py would let only one of them read anyway
        ready: deque[Future[tuple[Pixels, Labels]]] = deque()
        pool = ThreadPoolExecutor(workers, thread_name_prefix="patches")
        try:
            ready.extend(pool.submit(self.batch, part, reading) for part in islice(left, workers + 1))
            while ready:
                batch = ready.popleft().result()
                ready.extend(pool.submit(self.batch, part, reading) for part in islice(left, 1))
                yield batch
        finally:
            pool.shutdown(cancel_futures=True)


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


Colours = npt.NDArray[np.int64]

VERSION = 1
"""Raised when the code below changes what an entry holds, so that entries of the old code are not taken for the new."""

PATCHES = 256
"""Read at a time; counting takes eight bytes a pixel."""


@dataclass(frozen=True, eq=False)
class PCamIndex:
    """One split with what the cache knows of it. data: the reader. path: the cache's entry, whether it is there or not."""

    data: PCam
    path: Path

    @classmethod
    def of(cls, root: str | os.PathLike[str], split: Split, cache: str | os.PathLike[str] | None = None) -> PCamIndex:
        """The index of a split of a folder; raises `InvalidFile` as `PCam` does."""
        data = PCam(root, split)
        folder = cache_folder() / "pcam-index" if cache is None else Path(cache)
        return cls(data, folder / f"{_key(data)}.npz")

    @cached_property
    def rows(self) -> dict[int, Rows]:
        """Class → its rows, ascending."""
        labels = self.data.labels()
        return {int(label): np.flatnonzero(labels == label).astype(np.int64) for label in np.unique(labels)}

    def fingerprint(self) -> str:
        """`PCam.fingerprint`."""
        return self._entry[0]

    def statistics(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Mean and sd (3,) of each channel over all pixels, RGB in [0, 1]; raises `InvalidInput` if a channel is constant."""
        colours, values = self._entry[1], np.arange(256) / 255
        n = colours.sum(axis=1)
        mean = colours @ values / n
        sd = np.sqrt((colours * (values - mean[:, None]) ** 2).sum(axis=1) / n)
        if not (sd > 0).all():
            raise InvalidInput(f"{self.data!r}: a channel is constant (sd {sd.tolist()}): nothing to standardise by")
        return mean.astype(np.float32), sd.astype(np.float32)

    def fraction(self, share: float, seed: int = 0) -> Rows:
        """Rows of this share of each class (at least one), ascending; with one seed, a smaller share's are among a larger's."""
        if not 0 < share <= 1:
            raise InvalidInput(f"a fraction lies above 0 and is at most 1, got {share}")
        chosen = [
            np.random.default_rng([seed, label]).permutation(rows)[: max(1, round(share * len(rows)))]
            for label, rows in self.rows.items()
        ]
        return np.sort(np.concatenate(chosen))

    @cached_property
    def _entry(self) -> tuple[str, Colours]:
        entry = _cached(self.path, len(self.data))
        if entry is None:
            entry = _read(self.data)
            with suppress(InvalidFile), replacing(self.path) as temporary, open(temporary, "wb") as file:
                np.savez(file, allow_pickle=False, fingerprint=np.array(entry[0]), colours=entry[1])
        return entry


def _key(data: PCam) -> str:
    """Changes when a file does: of every file the resolved path, the size and the time of change."""
    files = [(part, str(path.resolve()), path.stat()) for part, path in sorted(data.paths.items())]
    key = [VERSION, *([part, path, stat.st_size, stat.st_mtime_ns] for part, path, stat in files)]
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]


def _read(data: PCam) -> tuple[str, Colours]:
    """Fingerprint and colours; the images are read once for the colours and once for the fingerprint, a chunk at a time."""
    colours = np.zeros((3, 256), np.int64)
    for start in range(0, len(data), PATCHES):
        pixels = data.pixels(np.arange(start, min(start + PATCHES, len(data))))
        for channel in range(3):
            colours[channel] += np.bincount(pixels[..., channel].ravel(), minlength=256)
    return data.fingerprint(), colours


def _cached(path: Path, n: int) -> tuple[str, Colours] | None:
    """The entry, or None if there is none that is whole: it is only a convenience."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            fingerprint, colours = str(archive["fingerprint"][()]), np.asarray(archive["colours"])
    except (*DAMAGED_NPZ, KeyError):
        return None
    whole = len(fingerprint) == 64 and colours.shape == (3, 256) and np.issubdtype(colours.dtype, np.integer)
    total: Any = n * ROWS["x"][0] * ROWS["x"][1]
    return (fingerprint, colours) if whole and (colours.sum(axis=1) == total).all() else None
