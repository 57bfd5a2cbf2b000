"""Samples from files: a folder of pictures, with sub-folders or a CSV file of labels, a pattern, and arrays in .npy and .npz."""

from __future__ import annotations

import csv
import glob
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from crossxai.errors import DAMAGED_NPZ, InvalidFile, InvalidInput
from crossxai.model import Modality

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
LABELS = "labels"
"""The array of an .npz that holds labels; the others are inputs."""


@dataclass(frozen=True)
class Listed:
    """values: paths of pictures, an array, or arrays by modality. labels: an array of numbers, or a name for each sample; None
    where there are none. notes: what was left out, a sentence each."""

    values: Any
    labels: Any = None
    notes: tuple[str, ...] = ()


def is_files(path: Path) -> bool:
    """Whether a path stands for samples, and is not a picture itself."""
    return path.is_dir() or path.suffix.lower() in (".csv", ".npy", ".npz") or (_pattern(path) and not path.exists())


def listed(path: Path, most: int, modalities: Sequence[Modality]) -> Listed:
    """At most so many samples of a folder, a pattern, a CSV file with the columns file and label, an .npy or an .npz.

    Raises `InvalidInput` or `InvalidFile` with what is wrong. One file that cannot be read is an error, not a row.
    """
    if path.is_dir():
        return _folder(path, most)
    if path.suffix.lower() in (".npy", ".npz"):
        return _arrays(path, most, modalities)
    if path.suffix.lower() == ".csv":
        return _table(path, most)
    pictures = [Path(p) for p in sorted(glob.glob(str(path), recursive=True)) if _is_picture(Path(p))]
    if not pictures:
        raise InvalidInput(f"no picture ({', '.join(PICTURES)}) matches {path}")
    return Listed(pictures[:most], None, _first(most, len(pictures), f"that match {path.name}"))


def open_picture(path: Path) -> Any:
    """A picture as Pillow reads it, turned as its camera says, 16 bits brought to 8."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            turned = ImageOps.exif_transpose(picture)
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InvalidFile(f"{path} is no picture that Pillow can read: {error}") from error
    except (OSError, SyntaxError) as error:  # what Pillow raises for a damaged PNG
        raise InvalidFile(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if turned.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(turned) // 257).astype(np.uint8))
    if turned.mode in ("I", "F"):
        raise InvalidInput(
            f"{path} holds values of 32 bits, whose range nothing tells: give arrays (.npy) in the model's range"
        )
    return turned


def _pattern(path: Path) -> bool:
    return glob.has_magic(str(path))


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURES and path.is_file()


def _first(most: int, there: int, where: str) -> tuple[str, ...]:
    return (f"the first {most} of {there} pictures {where} (samples={most})",) if there > most else ()


def _folder(path: Path, most: int) -> Listed:
    """A folder's pictures by name; by its only CSV file if it has one; else those of its sub-folders, whose names are labels."""
    tables = sorted(p for p in path.iterdir() if p.suffix.lower() == ".csv")
    if len(tables) > 1:
        raise InvalidInput(f"{path} holds several tables ({', '.join(p.name for p in tables)}): name one of them")
    if tables:
        return _table(tables[0], most)
    pictures = sorted(p for p in path.iterdir() if _is_picture(p))
    if pictures:
        return Listed(pictures[:most], None, _first(most, len(pictures), f"of {path.name}"))
    classes = {d.name: sorted(p for p in d.iterdir() if _is_picture(p)) for d in sorted(path.iterdir()) if d.is_dir()}
    classes = {name: found for name, found in classes.items() if found}
    if not classes:
        raise InvalidInput(f"{path} holds no picture ({', '.join(PICTURES)}), and no folder of its holds one")
    rows = [[(p, name) for p in found] for name, found in classes.items()]
    turns = [row for row in chain.from_iterable(zip_longest(*rows)) if row is not None]  # one of each class in turn
    chosen = sorted(turns[:most])
    notes = (f"labels are the names of the folders in {path.name}: {', '.join(classes)}",)
    return Listed([p for p, _ in chosen], [name for _, name in chosen], (*notes, *_first(most, len(turns), "by turns")))


def _table(path: Path, most: int) -> Listed:
    """The pictures that a CSV file names in the column `file`, relative to itself; `label` is optional."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidFile(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not rows or not all(row.get("file") for row in rows):
        raise InvalidInput(f"{path} needs a column with the head file, and a value in every row; label is a second one")
    named = [row.get("label") or "" for row in rows]
    if any(named) and not all(named):
        raise InvalidInput(f"{path} gives a label for {sum(map(bool, named))} of {len(named)} rows: give all or none")
    files = [path.parent / row["file"] for row in rows]
    if missing := [row["file"] for row, file in zip(rows, files, strict=True) if not file.is_file()]:
        raise InvalidFile(
            f"{path} names {len(missing)} of {len(files)} files that are not there: {', '.join(missing[:3])}"
        )
    notes = _first(most, len(files), f"of {path.name}")
    return Listed(files[:most], named[:most] if any(named) else None, notes)


def _arrays(path: Path, most: int, modalities: Sequence[Modality]) -> Listed:
    """The array of an .npy, or those of an .npz by modality, with `labels` among them."""
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = {name: loaded[name] for name in loaded.files} if hasattr(loaded, "files") else {"": loaded}
    except DAMAGED_NPZ as error:
        raise InvalidFile(f"{path} is no NumPy file that can be read without running code: {error}") from error
    labels = arrays.pop(LABELS, None)
    names = [m.name for m in modalities]
    if len(arrays) == len(names) == 1:
        values: Any = next(iter(arrays.values()))
        there = len(values) if values.ndim else 0
        values = values[:most]
    elif set(arrays) == set(names):
        there = min(len(v) if v.ndim else 0 for v in arrays.values())
        values = {name: v[:most] for name, v in arrays.items()}
    else:
        wanted = "one array" if len(names) == 1 else f"the arrays {', '.join(names)}"
        raise InvalidInput(
            f"{path} holds {', '.join(arrays) or 'no array'}: the model takes {wanted}, and {LABELS} if known"
        )
    if labels is not None and len(np.atleast_1d(labels)) != there:
        raise InvalidInput(f"{path} holds {there} samples and labels of shape {labels.shape}")
    notes = (f"the first {most} of {there} samples of {path.name} (samples={most})",) if there > most else ()
    return Listed(values, None if labels is None else labels[:most], notes)
