"""Which files are scans: NIfTI files, DICOM series, folders and patterns of these, folders of classes, and masks beside them."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from crossxai.data import csv_files, dicom, files
from crossxai.data.csv_files import Row
from crossxai.data.declared import Files
from crossxai.data.files import Entry, Listing, by_turns, inside
from crossxai.data.odd import readable
from crossxai.errors import InvalidFile, InvalidInput
from crossxai.model import Modality

NIFTI = (".nii", ".nii.gz")
MASK = "_mask"
"""A file's name with this at its end holds the mask of the scan of that name."""


def is_nifti(path: Path) -> bool:
    """Whether a name is that of a NIfTI file."""
    return path.name.lower().endswith(NIFTI) and not path.name.startswith(".")


def stem(path: Path) -> str:
    """A scan's name: of a NIfTI file without its ending, of a series its folder's."""
    return path.name[: path.name.lower().rindex(".nii")] if is_nifti(path) else path.name


def slices(folder: Path) -> list[Path]:
    """The DICOM files of a folder."""
    return [p for p in inside(folder) if not is_nifti(p) and dicom.is_dicom(p)]


def listing(declared: Files, modalities: Sequence[Modality]) -> Listing:
    """The scans of a path, or of a CSV file's columns, each with its label and mask. Raises `InvalidInput` or `InvalidFile`."""
    path = declared.place
    tables = [p for p in inside(path) if p.suffix.lower() in csv_files.ENDINGS] if path.is_dir() else []
    own = str(declared.table) and declared.path(declared.table)
    if path.suffix.lower() in csv_files.ENDINGS or [p for p in tables if not own or not p.samefile(own)]:
        found = files.listing(declared, modalities)
        shorter = [replace(e, relative=e.relative.with_name(f"{stem(e.relative)}.nii")) for e in found.entries]
        return replace(found, entries=tuple(map(_with_mask_beside, shorter)))
    if len(modalities) != 1:
        raise InvalidInput(
            f"{path} holds one scan a sample, and the model takes {len(modalities)}: write a CSV file with a column for each"
        )
    scans = _find(path)
    classes = any(label for _, label in scans)
    entries = []
    for place, (scan, label) in enumerate(scans):
        name = readable(stem(scan)) if is_nifti(scan) else f"series {place + 1}"
        relative = Path(label, f"{name}.nii") if is_nifti(scan) else Path(f"{name}.nii")
        entries.append(Entry(name, place, {"": scan}, relative, Row(name, {}), label))
    notes = []
    if not all(is_nifti(scan) for scan, _ in scans):
        notes.append("DICOM series are named by their place in the order of their folders, not by what files say")
    if classes:
        names = sorted({label for _, label in scans})
        notes.append(f"labels are the names of the folders: {', '.join(map(readable, names))}")
    alone = len(scans) == 1
    given = Listing(
        path.name, tuple(entries), labelled=classes, notes=tuple(notes), words=f"of {path.name}", alone=alone
    )
    found = files.completed(given, replace(declared, masks=""), modalities, files.table_of(declared))
    return replace(found, entries=tuple(_with_masks(found.entries, declared)))


def _with_masks(entries: Sequence[Entry], declared: Files) -> Iterator[Entry]:
    """Each with the mask that is declared for its name, or lies beside it."""
    masks = str(declared.masks)
    if not masks:
        yield from map(_with_mask_beside, entries)
        return
    place = declared.path(masks)
    if "{}" not in masks and not place.is_dir():
        raise InvalidInput(f"masks = {masks!r} is no folder, and holds no {{}} for a scan's name")
    known: dict[str, list[Path]] = {}
    for path in () if "{}" in masks else sorted(place.rglob("*")):
        if is_nifti(path):
            known.setdefault(stem(path), []).append(path)
    for entry in entries:
        (scan,) = entry.paths.values()
        name = stem(scan)
        if "{}" in masks:
            path = Path(str(place).replace("{}", name))
            yield replace(entry, mask=path if os.path.lexists(path) else None)
            continue
        named = [p for wanted in (f"{name}{MASK}", name) for p in known.get(wanted, ()) if p != scan]
        yield replace(entry, mask=named[-1] if named else None)


def _with_mask_beside(entry: Entry) -> Entry:
    """With the file of the first scan's name and `MASK`, if there is one, and no other was named."""
    scan = next(iter(entry.paths.values()))
    beside = (scan.with_name(f"{stem(scan)}{MASK}{ending}") for ending in NIFTI)
    return replace(entry, mask=entry.mask or next((p for p in beside if p.is_file()), None))


def _find(path: Path) -> list[tuple[Path, str]]:
    """(NIfTI file or folder of a series, label or "") of a file, a pattern, a folder of either, or a folder per class."""
    if path.is_dir():
        if found := _folder(path):
            return found
        raise InvalidInput(f"{path} holds no scan: NIfTI files (.nii, .nii.gz), a DICOM series, or folders of these")
    if path.is_file() and dicom.is_dicom(path):
        raise InvalidInput(f"{path} is one slice of a series: name the folder that holds them all, {path.parent}")
    if not path.exists() and glob.has_magic(str(path)):
        matching = _scans([Path(p) for p in sorted(glob.glob(str(path), recursive=True))])
        if not matching:
            raise InvalidInput(f"no NIfTI file (.nii, .nii.gz) matches {path}")
        return [(p, "") for p in matching]
    if not path.is_file():
        raise InvalidFile(f"{path}: there is no such file")
    if not is_nifti(path):
        raise InvalidInput(f"{path} is no scan: NIfTI ends with .nii or .nii.gz, and a DICOM series is a folder")
    return [(path, "")]


def _folder(path: Path) -> list[tuple[Path, str]]:
    """A folder's own scans; else those of its sub-folders, which are series, or classes of scans."""
    if own := _own(path):
        return [(p, "") for p in own]
    folders = [p for p in inside(path) if p.is_dir()]
    inner = {p.name: _own(p) for p in folders}
    found = [one for each in inner.values() for one in each]
    if found and not any(is_nifti(one) for one in found):  # a folder of series
        return [(p, "") for p in found]
    if not found:  # classes of series
        inner = {p.name: [one for q in inside(p) if q.is_dir() for one in _own(q)] for p in folders}
    rows = [[(one, name) for one in each] for name, each in inner.items()]
    return by_turns(rows)


def _own(folder: Path) -> list[Path]:
    """A folder's NIfTI files, or itself where it holds the slices of a series."""
    return _scans(inside(folder)) or ([folder] if slices(folder) else [])


def _scans(paths: Sequence[Path]) -> list[Path]:
    """NIfTI files that are no masks of others, and no masks of series beside them."""
    nifti = [p for p in paths if is_nifti(p) and p.is_file()]
    named = {p.parent / stem(p) for p in nifti} | {p for p in paths if p.is_dir()}
    return [p for p in nifti if not (stem(p).endswith(MASK) and p.parent / stem(p).removesuffix(MASK) in named)]
