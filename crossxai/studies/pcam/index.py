"""What is expensive to know of a split, known once: fingerprint and colours, kept in the user's cache folder.

The entry's name comes from the files' resolved path, size and time of change, so that a file that changed is read again. Rows are
listed by class from the labels, which are small and always read.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crossxai.errors import DAMAGED_NPZ, InvalidFile, InvalidInput
from crossxai.files.atomic import replacing
from crossxai.studies.pcam.reading import ROWS, PCam, Split, cache_folder

Rows = npt.NDArray[np.int64]
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
    def of(
        cls,
        root: str | os.PathLike[str],
        split: Split,
        cache: str | os.PathLike[str] | None = None,
    ) -> PCamIndex:
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
        """Mean and standard deviation (3,) of each channel over all pixels, RGB in [0, 1].

        Raises `InvalidInput` if a channel is constant.
        """
        return mean_and_sd(self._entry[1], repr(self.data))

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
        found = _kept(self.path, len(self.data))
        if found is None:
            found = _read(self.data)
            with suppress(InvalidFile), replacing(self.path) as temporary, open(temporary, "wb") as file:
                np.savez(file, allow_pickle=False, fingerprint=np.array(found[0]), colours=found[1])
        return found


def mean_and_sd(colours: Colours, name: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Of each channel, in [0, 1], from how often it takes each value (3, 256)."""
    values, n = np.arange(256) / 255, colours.sum(axis=1)
    mean = colours @ values / n
    sd = np.sqrt((colours * (values - mean[:, None]) ** 2).sum(axis=1) / n)
    if not (sd > 0).all():
        raise InvalidInput(f"{name}: a channel is constant (sd {sd.tolist()}): nothing to standardise by")
    return mean.astype(np.float32), sd.astype(np.float32)


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


def _kept(path: Path, n: int) -> tuple[str, Colours] | None:
    """The entry, or None if there is none that is whole: it is only a convenience."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            fingerprint, colours = str(archive["fingerprint"][()]), np.asarray(archive["colours"])
    except (*DAMAGED_NPZ, KeyError):
        return None
    whole = len(fingerprint) == 64 and colours.shape == (3, 256) and np.issubdtype(colours.dtype, np.integer)
    total: Any = n * ROWS["x"][0] * ROWS["x"][1]
    return (fingerprint, colours) if whole and (colours.sum(axis=1) == total).all() else None
