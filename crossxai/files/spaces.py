"""Where the voxels of scans lie, which goes with their maps, so that these go back to where the scan's file has them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from crossxai.errors import InvalidFile, InvalidInput
from crossxai.model import Array
from crossxai.resizing import bilinear

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Space:
    """How a scan in a file became an array (z, y, x, channel).

    shape: voxels of the file along its own axes (i, j, k). affine (4, 4): from these indices to millimetres, as NIfTI has it: to
    the right, to the front and up. turned (3, 2): of each axis of the file, which of x, y, z (0, 1, 2) it became, and 1, or -1
    where it was mirrored. orientation: to which side x, y and z then run, such as "LPS": left, posterior (back) and superior
    (head). size: (z, y, x) of the array, another one than the scan's where that was resampled.
    """

    shape: tuple[int, int, int]
    affine: Floats
    turned: npt.NDArray[np.intp]
    orientation: str
    size: tuple[int, int, int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "affine", np.asarray(self.affine, np.float64))
        object.__setattr__(self, "turned", np.asarray(self.turned, np.intp))
        order = sorted(self.turned[:, 0].tolist()) if self.turned.shape == (3, 2) else []
        if self.affine.shape != (4, 4) or order != [0, 1, 2] or not np.isin(self.turned[:, 1], (-1, 1)).all():
            raise InvalidInput(f"no place of a scan: affine {self.affine.shape}, axes {self.turned.tolist()}")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Space):
            return NotImplemented
        plain = (self.shape, self.orientation, self.size) == (other.shape, other.orientation, other.size)
        return plain and np.array_equal(self.affine, other.affine) and np.array_equal(self.turned, other.turned)

    def __hash__(self) -> int:
        return hash((self.shape, self.size, self.orientation))

    @property
    def grid(self) -> tuple[int, int, int]:
        """(z, y, x) of the scan itself, turned and not resampled."""
        sizes = [0, 0, 0]
        for size, (axis, _) in zip(self.shape, self.turned.tolist(), strict=True):
            sizes[axis] = size
        return sizes[2], sizes[1], sizes[0]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres between neighbouring voxels of the array along z, y, x."""
        steps = np.linalg.norm(self.affine[:3, :3], axis=0)
        along = np.empty(3)
        along[self.turned[:, 0]] = steps
        z, y, x = (float(s) * old / new for s, old, new in zip(along[::-1], self.grid, self.size, strict=True))
        return z, y, x

    @property
    def oblique(self) -> float:
        """By how many degrees at most an axis is off the side that its letter names."""
        columns = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(np.degrees(np.arccos(np.clip(np.abs(columns).max(axis=0), 0, 1))).max())

    def in_file(self, values: Array) -> Array:
        """A map (*size, channels), brought to the scan's own voxels (linearly, where it was resampled), with the file's axes
        (i, j, k, channels)."""
        if values.shape[:3] != self.size:
            raise InvalidInput(f"a map of {values.shape[:3]} voxels is none of a scan that was read as {self.size}")
        if self.size != self.grid:
            values = np.moveaxis(bilinear(np.moveaxis(values, -1, 0), *self.grid), 0, -1)
        order = self.turned[:, 0]
        own = values.transpose(2, 1, 0, 3).transpose(*order, 3)
        mirrored = tuple(slice(None, None, int(step)) for step in self.turned[:, 1])
        return np.ascontiguousarray(own[mirrored])


Spaces = Mapping[str, Sequence[Space]]
"""By modality, one for each sample; only those that were read from scans."""


def write_spaces(file: Any, spaces: Spaces) -> None:
    """Write the spaces of samples beside what they are of."""
    for name, each in spaces.items():
        group = file.create_group(f"spaces/{name}")
        for key in ("shape", "affine", "turned", "size"):
            group[key] = np.stack([getattr(space, key) for space in each])
        group.attrs["orientation"] = json.dumps([space.orientation for space in each])


def read_spaces(file: Any, n: int) -> dict[str, tuple[Space, ...]]:
    """What `write_spaces` wrote for n samples; raises `InvalidFile`."""
    spaces = {}
    for name, group in file.get("spaces", {}).items():
        try:
            columns = [group[key][()] for key in ("shape", "affine", "turned", "size")]
            letters = json.loads(group.attrs["orientation"])
            rows = zip(*columns, letters, strict=True)
            spaces[str(name)] = tuple(
                Space(_three(shape), affine, turned, str(orientation), _three(size))
                for shape, affine, turned, size, orientation in rows
            )
        except (KeyError, ValueError, TypeError, IndexError, InvalidInput) as error:
            raise InvalidFile(f"{file.filename}: spaces/{name} does not say where voxels lie: {error}") from error
        if len(spaces[str(name)]) != n:
            raise InvalidFile(f"{file.filename}: spaces/{name} has {len(spaces[str(name)])} places for {n} samples")
    return spaces


def _three(sizes: Any) -> tuple[int, int, int]:
    x, y, z = (int(size) for size in sizes)
    return x, y, z
