"""Scans in files (NIfTI, and folders with a DICOM series) as volumes of a model, with masks beside them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crossxai.adapters.checks import FILE, SCAN
from crossxai.data import dicom, scan_files
from crossxai.errors import InvalidFile, InvalidInput
from crossxai.files.spaces import Space
from crossxai.model import Array, Modality
from crossxai.process import require
from crossxai.resizing import bilinear

LPS = "LPS"
"""To which side x, y and z run unless the user says so: left, back, head, as in the slices of DICOM and in ITK."""
SIDES = {"L": "left", "R": "right", "P": "back", "A": "front", "S": "head", "I": "feet"}


@dataclass(frozen=True)
class Rule:
    """How scans become arrays. size: (z, y, x) to which they are brought, None for their own. levels: the values that become the
    ends of the model's range, "scan" for each scan's smallest and largest; None for the values as they are. orientation: to
    which side x, y and z run, or "file" for the file's own axes."""

    size: tuple[int, int, int] | None = None
    levels: tuple[float, float] | str | None = None
    orientation: str = LPS


def rule_of(recognised: Any) -> Rule:
    """What `wrap` was told, or found out, of how scans are read."""
    size = getattr(recognised, "size", None)
    three = size if size is not None and len(size) == 3 else None
    return Rule(three, getattr(recognised, "levels", None), getattr(recognised, "orientation", "") or LPS)


def fit(path: Path, modality: Modality, rule: Rule, notes: list[str]) -> tuple[Array, Space]:
    """A NIfTI file, or the folder of a series, as (z, y, x, channel) in the model's range and size, and where it lies. What was
    done to its values is added to the notes. Raises `InvalidInput` or `InvalidFile`."""
    levels: Any = rule.levels
    if scan_files.is_nifti(path):
        values, affine = load(path, notes)
    else:
        if not (slices := scan_files.slices(path) if path.is_dir() else []):
            raise InvalidFile(f"{path} is neither a NIfTI file (.nii, .nii.gz) nor a folder with a DICOM series")
        series = dicom.read(slices, str(path))
        values, affine = series.values, series.affine
        if levels is None and modality.range is not None and not _inside(values, modality) and series.levels:
            levels = series.levels
            notes.append(f"the window of the files was applied: {levels[0]:g} to {levels[1]:g}")
    where = str(path)
    values = values[..., None] if values.ndim == 3 else values
    if values.ndim != 4 or values.shape[-1] != len(modality.features):
        held = f"{values.shape[3:][0]} volumes" if values.ndim > 3 and values.shape[-1] > 1 else "one volume"
        raise InvalidInput(
            f"{where} holds {held}, and {modality.name!r} takes {len(modality.features)} channels: "
            + (f"shape {values.shape}" if values.ndim != 4 else "write a file for each volume, or declare the channels")
        )
    space = _space(affine, values.shape[:3], rule, where)
    turned = _turn(values, space)
    if space.size != space.grid:
        turned = np.moveaxis(bilinear(np.moveaxis(turned, -1, 0), *space.size), 0, -1)
    return _levelled(turned, modality, levels, where), space


def load(path: Path, notes: list[str]) -> tuple[Array, npt.NDArray[np.float64]]:
    """A NIfTI file's values (i, j, k, …) with its scale applied, and its affine."""
    nibabel = require("nibabel", "medical", "a NIfTI file")
    try:
        image = nibabel.load(path)
        values = np.asarray(image.dataobj, np.float32)
        header, affine = image.header, np.asarray(image.affine, np.float64)
    except FileNotFoundError as error:
        raise InvalidFile(f"{path}: there is no such file") from error
    except (nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError) as error:
        raise InvalidFile(f"{path} is no NIfTI file: {error}") from error
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise InvalidFile(f"{path} is a damaged NIfTI file: {error}") from error
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if not (int(header.get("sform_code", 1)) or int(header.get("qform_code", 1))):
        notes.append(f"{path.name} does not say where its axes point; taken as NIfTI's default, x to the left")
    return values, affine


def _space(affine: npt.NDArray[np.float64], shape: tuple[int, ...], rule: Rule, where: str) -> Space:
    orientations = require("nibabel.orientations", "medical", "the orientation of a scan")
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise InvalidFile(f"{where} has an affine without volume, which places no voxel: {affine[:3].tolist()}")
    own = orientations.io_orientation(affine)
    if rule.orientation == FILE:
        turned = np.array([[0, 1], [1, 1], [2, 1]])
        letters = "".join(orientations.aff2axcodes(affine))
    else:
        wanted = orientations.axcodes2ornt(tuple(rule.orientation))
        turned = orientations.ornt_transform(own, wanted).astype(int)
        letters = rule.orientation
    x, y, z = (int(size) for size in shape)
    space = Space((x, y, z), affine, turned, letters, (z, y, x))
    return Space((x, y, z), affine, turned, letters, rule.size or space.grid)


def _turn(values: npt.NDArray[Any], space: Space) -> npt.NDArray[Any]:
    """An array with the file's axes (i, j, k, …) as (z, y, x, …)."""
    mirrored = values[tuple(slice(None, None, int(step)) for step in space.turned[:, 1])]
    places = np.argsort(space.turned[:, 0])
    further = range(3, values.ndim)
    return np.ascontiguousarray(mirrored.transpose(*places[::-1], *further))


def _inside(values: Array, modality: Modality) -> bool:
    low, high = modality.range or (-np.inf, np.inf)
    slack = 1e-5 * (high - low) if np.isfinite(high - low) else 0.0
    return bool(np.isfinite(values).all() and values.min() >= low - slack and values.max() <= high + slack)


def _levelled(values: Array, modality: Modality, levels: Any, where: str) -> Array:
    """Values between the levels put to the model's range, those beyond cut off; raises `InvalidInput` for values outside."""
    if not np.isfinite(values).all():
        raise InvalidInput(f"{where} holds NaN or infinity")
    if levels is None:
        if modality.range is not None and not _inside(values, modality):
            low, high = modality.range
            raise InvalidInput(
                f"{where} holds {values.min():g} to {values.max():g}, and {modality.name!r} takes {low:g} to {high:g}: "
                "write levels=(low, high) in wrap, the values that become its ends, such as (-160, 240) for soft tissue in "
                'CT, or levels="scan" for the smallest and largest of each scan; or declare range=…'
            )
        return values
    low, high = (float(values.min()), float(values.max())) if levels == SCAN else levels
    start, end = modality.range or (0.0, 1.0)
    share = np.clip((values.astype(np.float64) - low) / ((high - low) or 1.0), 0, 1)
    return np.asarray(start + share * (end - start), np.float32)


def mask(path: Path, space: Space, notes: list[str]) -> npt.NDArray[np.bool_]:
    """The mask of a scan (z, y, x), wherever the mask's own file has its axes; `InvalidInput` where it lies elsewhere."""
    values, affine = load(path, notes)
    if values.ndim != 3:
        raise InvalidInput(f"{path} holds {values.shape}: a mask is one volume of whole numbers, 0 outside")
    own = _space(affine, values.shape, Rule(space.size, None, space.orientation), str(path))
    gap = _apart(own, space)
    if own.grid != space.grid or gap > 0.05 * min(np.linalg.norm(space.affine[:3, :3], axis=0)):
        raise InvalidInput(
            f"{path} lies elsewhere than its scan: {times(own.grid)} against {times(space.grid)} voxels, corners up to "
            f"{gap:.3g} mm apart; resample it to the scan"
        )
    labels = np.unique(values)
    if len(labels) > 2 or (len(labels) == 2 and labels[0] != 0):
        notes.append(f"whatever is not 0 in masks counts: values {', '.join(f'{v:g}' for v in labels[:6])}")
    turned = _turn(values != 0, own)
    nearest = [
        np.floor((np.arange(new) + 0.5) * old / new).astype(int) for old, new in zip(own.grid, own.size, strict=True)
    ]
    return np.asarray(turned[np.ix_(*nearest)])


def _apart(one: Space, other: Space) -> float:
    """How far the corners of two scans, turned alike, lie apart, in millimetres."""
    return float(np.linalg.norm(_corners(one) - _corners(other), axis=1).max())


def _corners(space: Space) -> npt.NDArray[np.float64]:
    """The first voxel and the last one along x, y and z of the turned scan, in millimetres."""
    ends = np.array([[0 if step > 0 else size - 1, size - 1 if step > 0 else 0]
                     for size, step in zip(space.shape, space.turned[:, 1], strict=True)])  # fmt: skip
    corners = np.tile(ends[:, 0], (4, 1)).astype(float)
    for axis, target in enumerate(space.turned[:, 0].tolist()):
        corners[1 + target, axis] = ends[axis, 1]
    return np.asarray(corners @ space.affine[:3, :3].T + space.affine[:3, 3])


def words(spaces: Sequence[Space], rule: Rule) -> Iterator[str]:
    """How scans were turned and resampled, and how far apart their voxels are."""
    letters = list(dict.fromkeys(space.orientation for space in spaces))
    sides = "; ".join(
        ", ".join(f"{axis} to the {SIDES[side]}" for axis, side in zip("xyz", each, strict=True)) for each in letters
    )
    how = "as their files have them" if rule.orientation == FILE else f"turned to {rule.orientation}"
    yield f"scans are {how} (z, y, x): {sides}"
    if (most := max(space.oblique for space in spaces)) > 1:
        yield f"scans lie up to {most:.0f}° askew of these sides, and were not resampled to straighten them"
    steps = list(dict.fromkeys(tuple(round(s, 2) for s in space.spacing) for space in spaces))
    yield (
        "voxels are "
        + "; ".join(f"{times(step)} mm (z, y, x)" for step in steps[:3])
        + (f" and {len(steps) - 3} other sizes" if len(steps) > 3 else "")
    )
    grids = list(dict.fromkeys(space.grid for space in spaces if space.grid != space.size))
    if grids:
        yield f"scans of {times(grids[0])} voxels were resampled trilinearly to {times(spaces[0].size)}, each axis by itself"


def times(sizes: Sequence[float]) -> str:
    """Sizes in words."""
    return " × ".join(f"{size:g}" for size in sizes)
