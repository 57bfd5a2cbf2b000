"""A series of DICOM slices as one scan. Of each file the attributes listed here are read and nothing else, so that what names a
person, a place or a date reaches no memory, no file and no page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crossxai.errors import InvalidFile, InvalidInput
from crossxai.model import Array
from crossxai.process import require

Floats = npt.NDArray[np.float64]

GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")
VALUES = ("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction")
PIXELS = (
    "PixelData",
    "FloatPixelData",
    "DoubleFloatPixelData",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
)
SERIES = "SeriesInstanceUID"
"""Compared within a folder, and then forgotten."""
READ = (*GEOMETRY, *VALUES, *PIXELS, SERIES)
"""All that is read of a file, beside how its pixels are encoded."""
ENDINGS = (".dcm", ".dicom", ".ima")
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""DICOM counts millimetres to the left and to the back, NIfTI to the right and to the front."""
UNEVEN = 0.02
"""Distances of neighbouring slices that differ by less than this share, or 0.01 mm, are one distance written in few digits."""


@dataclass(frozen=True)
class Series:
    """values (i, j, k): columns, rows, slices in order. affine (4, 4): from these to millimetres, as NIfTI has it. levels: the
    values that the file's own window shows as black and white, None where slices have none or several."""

    values: Array
    affine: Floats
    levels: tuple[float, float] | None


@dataclass(frozen=True)
class _Slice:
    path: Path
    series: str
    place: Floats
    along: Floats  # (2, 3): the directions of a row and of a column
    spacing: tuple[float, float]
    shape: tuple[int, int]
    levels: tuple[float, float] | None


def is_dicom(path: Path) -> bool:
    """Whether a file is a DICOM image, by its ending or its first bytes."""
    if path.name.startswith(".") or path.name == "DICOMDIR" or not path.is_file():
        return False
    if path.suffix.lower() in ENDINGS:
        return True
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read(paths: Sequence[Path], where: str) -> Series:
    """The scan that these slices are; where: their folder's name, for messages. Raises `InvalidInput` or `InvalidFile` for slices
    of several series, of several sizes or planes, that are missing, or that lie at one place."""
    pydicom = require("pydicom", "medical", "a DICOM series")
    with pydicom.config.disable_value_validation():  # whose warnings quote values
        return _series([_header(path) for path in paths], where)


def _series(slices: list[_Slice], where: str) -> Series:
    first = slices[0]
    if (number := len({s.series for s in slices})) > 1:
        raise InvalidInput(f"{where} holds slices of {number} series: give each series a folder of its own")
    if len(shapes := {s.shape for s in slices}) > 1:
        listed = ", ".join(f"{y} × {x}" for y, x in sorted(shapes))
        raise InvalidInput(f"{where} holds slices of several sizes ({listed}): take those of one acquisition")
    if any(np.abs(s.along - first.along).max() > 1e-3 for s in slices):
        raise InvalidInput(f"{where} holds slices of several planes, such as a localiser's: take those of one plane")
    if any(np.abs(np.subtract(s.spacing, first.spacing)).max() > 1e-3 for s in slices):
        raise InvalidInput(f"{where} holds slices whose pixels differ in size: take those of one acquisition")
    if len(slices) == 1:
        raise InvalidInput(f"{where} holds one slice, and a volume has several")
    normal = np.cross(*first.along)
    slices.sort(key=lambda s: float(s.place @ normal))
    step = _step(slices, normal, where)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = first.along[0] * first.spacing[1], first.along[1] * first.spacing[0]
    affine[:3, 2], affine[:3, 3] = step, slices[0].place
    values = np.empty((first.shape[1], first.shape[0], len(slices)), np.float32)
    for number, one in enumerate(slices):
        values[:, :, number] = _pixels(one.path).T
    levels = {s.levels for s in slices}
    return Series(values, LPS @ affine, levels.pop() if len(levels) == 1 else None)


def _step(slices: Sequence[_Slice], normal: Floats, where: str) -> Floats:
    """From one slice to the next, in millimetres; raises `InvalidInput` unless all lie equally far apart."""
    gaps = np.diff([float(s.place @ normal) for s in slices])
    usual = float(np.median(gaps))
    allowed = max(0.01, UNEVEN * usual)
    if (gaps < 1e-3).any():
        number = int(np.argmax(gaps < 1e-3)) + 1
        raise InvalidInput(f"{where}: slices {number} and {number + 1} of {len(slices)} lie at the same place")
    if (np.abs(gaps - usual) > allowed).any():
        number = int(np.argmax(np.abs(gaps - usual))) + 1
        raise InvalidInput(
            f"{where}: slices {number} and {number + 1} of {len(slices)} lie {gaps[number - 1]:.4g} mm apart, the others "
            f"{usual:.4g} mm: slices are missing, or there are too many"
        )
    step: Floats = (slices[-1].place - slices[0].place) / (len(slices) - 1)
    placed = slices[0].place + np.arange(len(slices))[:, None] * step
    if np.abs(placed - [s.place for s in slices]).max() > max(0.1, allowed):
        raise InvalidInput(f"{where}: slices do not lie on one line, as if they were of several acquisitions")
    return step


def _dataset(path: Path, pixels: bool) -> Any:
    pydicom = require("pydicom", "medical", "a DICOM series")
    tags = [*READ] if pixels else [tag for tag in READ if tag not in PIXELS[:3]]
    try:
        return pydicom.dcmread(path, specific_tags=tags, stop_before_pixels=not pixels)
    except pydicom.errors.InvalidDicomError as error:
        raise InvalidFile(f"{path} is no DICOM file") from error
    except OSError as error:
        raise InvalidFile(f"{path} cannot be read: {error.strerror or 'it is cut short'}") from error
    except (EOFError, ValueError, KeyError, NotImplementedError) as error:
        raise InvalidFile(f"{path} is a damaged DICOM file ({type(error).__name__})") from error


def _header(path: Path) -> _Slice:
    """Where a slice lies; raises `InvalidFile` where that is not told, in words that hold nothing of the file but names of its
    attributes."""
    dataset = _dataset(path, pixels=False)
    lacking = [key for key in GEOMETRY if dataset.get(key) in (None, "")]
    if int(_number(dataset, "NumberOfFrames", path) or 1) > 1:
        raise InvalidInput(f"{path} holds several frames: convert it to NIfTI, with dcm2niix for example")
    if lacking:
        raise InvalidInput(f"{path} lacks {', '.join(lacking)}: without it a slice has no place in a volume")
    if int(_number(dataset, "SamplesPerPixel", path) or 1) != 1:
        raise InvalidInput(f"{path} holds colours, and a scan one value for each voxel")
    if str(dataset.get("PhotometricInterpretation", "MONOCHROME2")) != "MONOCHROME2":
        raise InvalidInput(f"{path} is not of the kind MONOCHROME2, where larger values are brighter: convert it")
    if "ModalityLUTSequence" in dataset:
        raise InvalidInput(f"{path} gives its values by a table (ModalityLUTSequence), which is not read: convert it")
    try:
        place, along = (np.array([float(v) for v in dataset[key].value]) for key in GEOMETRY[:2])
        spacing = tuple(float(v) for v in dataset["PixelSpacing"].value)
        whole = place.size == 3 and along.size == 6 and len(spacing) == 2 and min(spacing) > 0
        rows = along.reshape(2, 3) if whole else np.zeros((2, 3))
        whole = whole and np.abs(rows @ rows.T - np.eye(2)).max() < 1e-3
    except (TypeError, ValueError):
        whole = False
    if not whole:
        raise InvalidFile(f"{path} has no usable {', '.join(GEOMETRY[:3])}")
    shape = int(dataset.Rows), int(dataset.Columns)
    return _Slice(path, str(dataset.get(SERIES, "")), place, rows, (spacing[0], spacing[1]), shape, _levels(dataset))


def _number(dataset: Any, key: str, path: Path) -> float | None:
    try:
        value = dataset.get(key)
        return None if value in (None, "") else float(value)
    except (TypeError, ValueError) as error:
        raise InvalidFile(f"{path} has no usable {key}") from error


def _levels(dataset: Any) -> tuple[float, float] | None:
    """The ends of the first window of a file, by DICOM PS3.3 C.11.2.1.2; None where there is none, or it is no line."""
    given = [_several(dataset.get(key)) for key in ("WindowCenter", "WindowWidth")]
    if not all(given):
        return None
    try:
        centre, width = (float(values[0]) for values in given)
    except (TypeError, ValueError):
        return None
    kind = str(dataset.get("VOILUTFunction") or "LINEAR")
    if kind == "LINEAR":
        centre, width = centre - 0.5, width - 1
    return (centre - width / 2, centre + width / 2) if width > 0 and kind in ("LINEAR", "LINEAR_EXACT") else None


def _several(value: Any) -> list[Any]:
    if value in (None, ""):
        return []
    return list(value) if hasattr(value, "__iter__") and not isinstance(value, str) else [value]


def _pixels(path: Path) -> Array:
    """A slice (rows, columns), in the units of its rescale slope and intercept."""
    dataset = _dataset(path, pixels=True)
    try:
        stored = dataset.pixel_array
    except (ImportError, RuntimeError, NotImplementedError) as error:
        raise InvalidFile(
            f"{path} holds compressed pixels, which pydicom cannot read here: pip install pylibjpeg[all], or convert it"
        ) from error
    except (AttributeError, ValueError, KeyError, EOFError, OSError) as error:
        raise InvalidFile(f"{path} holds no readable pixels ({type(error).__name__})") from error
    slope, intercept = (_number(dataset, key, path) for key in ("RescaleSlope", "RescaleIntercept"))
    scaled = stored.astype(np.float64) * (1.0 if slope is None else slope) + (intercept or 0.0)
    return np.asarray(scaled, np.float32)
