"""From scans in files to volumes, one sample after the other: what cannot be read is left out, and the next one is taken."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crossxai.data import containers, outlines, scan_files, volumes
from crossxai.data.declared import Files
from crossxai.data.files import Entry
from crossxai.data.found import Found
from crossxai.data.odd import LeftOut, gigabytes, note_of, require_some
from crossxai.data.volumes import Rule
from crossxai.errors import InvalidFile, InvalidInput, MissingDependency
from crossxai.files.spaces import Space
from crossxai.model import Array, Modality
from crossxai.on_demand import HELD, OnDemand, Rows

BYTES = 2**32
"""The most memory that scans of one reading may take."""
REFUSED = ("images", "missing", "missing_values", "indices")


def takes(given: Any, modalities: Sequence[Modality]) -> bool:
    """Whether what a user holds are scans: `Files` or paths, and modalities with depth alone."""
    if not all(len(m.axes) == 4 for m in modalities):
        return False
    several = given if isinstance(given, list) and given else [given]
    if not all(isinstance(item, str | Path | Files) for item in several):
        return False
    places = [item.place if isinstance(item, Files) else Path(item) for item in several]
    return all(os.path.isdir(place) or place.suffix.lower() not in containers.ENDINGS for place in places)


@dataclass
class _Sample:
    entry: Entry
    values: dict[str, Array]
    spaces: dict[str, Space]
    mask: npt.NDArray[np.bool_] | None


@dataclass
class _Kept:
    samples: list[_Sample] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    labelled: bool = False
    there: int = 0
    on_demand: bool = False
    size: int = 0

    @property
    def outlined(self) -> bool:
        """Whether so much was read that the rest is not held."""
        return self.on_demand and self.size > HELD


def load(
    given: Any, most: int, modalities: Sequence[Modality], rule: Rule, notes: list[str], on_demand: bool = False
) -> Found:
    """At most so many scans of what `takes` says yes to. Raises `InvalidInput` or `InvalidFile` where nothing is left, or what
    holds for all is wrong; notes: what was done is told there. on_demand: whether volumes that take much memory may be read when
    they are asked for, which is refused otherwise."""
    kept = _Kept(on_demand=on_demand)
    several = given if isinstance(given, list) else [given]
    for item in several:
        _add(kept, item if isinstance(item, Files) else Files(item), most, modalities, rule, len(several) > 1)
    where = str(several[0].place.name if isinstance(several[0], Files) else Path(several[0]).name)
    require_some(kept.left_out, len(kept.samples), where)
    samples = sorted(kept.samples, key=lambda sample: sample.entry.place) if len(several) == 1 else kept.samples
    values = {m.name: outlines.stacked([s.values[m.name] for s in samples]) for m in modalities}
    spaces = {m.name: tuple(s.spaces[m.name] for s in samples) for m in modalities}
    notes.extend(kept.notes)
    if kept.there > len(samples) == most:
        notes.append(f"the first {most} of {kept.there} scans (samples={most})")
    for each in spaces.values():
        notes.extend(volumes.words(each, rule))
    masks = None
    if any(s.mask is not None for s in samples):
        empty = np.zeros(next(iter(values.values())).shape[1:-1], bool)
        masks = outlines.stacked([empty if s.mask is None else s.mask for s in samples])
        if lacking := sum(s.mask is None for s in samples):
            notes.append(f"{lacking} of {len(samples)} scans have no mask")
    notes.extend(note_of(kept.left_out, len(samples)))
    if kept.outlined:
        values, masks = _on_demand([s.entry for s in samples], modalities, rule, values, masks)
    labels = [s.entry.label for s in samples] if kept.labelled else None
    return Found(values, labels, masks, _names([s.entry for s in samples]), tuple(kept.left_out), spaces)


def _add(kept: _Kept, declared: Files, most: int, modalities: Sequence[Modality], rule: Rule, several: bool) -> None:
    """Add the scans of one path, until there are `most`."""
    if wrong := [key for key in REFUSED if key in declared.declared and (key != "images" or len(modalities) == 1)]:
        raise InvalidInput(f"{', '.join(wrong)} say nothing of scans in {declared.place.name}: leave them out")
    listing = scan_files.listing(declared, modalities)
    kept.there += len(listing.entries)
    kept.left_out.extend(listing.left_out)
    kept.notes.extend(note for note in listing.notes if note not in kept.notes)
    kept.labelled |= listing.labelled
    for entry in listing.entries:
        if len(kept.samples) == most:
            return
        if entry.problem:
            kept.left_out.append(LeftOut(entry.name, entry.problem))
            continue
        try:
            sample = _read(entry, modalities, rule, kept.notes)
        except MissingDependency:
            raise
        except (InvalidInput, InvalidFile) as error:
            if listing.alone and not several:
                raise
            kept.left_out.append(LeftOut(entry.name, _reason(entry, str(error))))
            continue
        _check(kept, sample, min(most, kept.there))
        kept.size += sum(v.nbytes for v in sample.values.values())
        if kept.outlined:
            shapes, mask = outlines.of(sample.values, sample.mask)
            sample = replace(sample, values=shapes, mask=mask)
        kept.samples.append(sample)


def _on_demand(
    entries: Sequence[Entry], modalities: Sequence[Modality], rule: Rule, values: Mapping[str, Any], masks: Any
) -> tuple[dict[str, Any], Any]:
    """Volumes and masks that are read again when they are asked for."""

    def volumes_of(modality: Modality, rows: Rows) -> npt.NDArray[Any]:
        return np.stack([volumes.fit(_path(entries[row], modality), modality, rule, [])[0] for row in rows])

    def masks_of(rows: Rows) -> npt.NDArray[Any]:
        read = (_read(entries[row], modalities[:1], rule, []).mask for row in rows)
        return np.stack([np.zeros(masks.shape[1:], bool) if mask is None else mask for mask in read])

    whole = {m.name: OnDemand(values[m.name].shape, values[m.name].dtype, partial(volumes_of, m)) for m in modalities}
    return whole, masks if masks is None else OnDemand(masks.shape, bool, masks_of)


def _reason(entry: Entry, words: str) -> str:
    """Why a scan is left out, without the folders that it lies in; of a series without its own folder's name, which may be a
    person's."""
    for path in entry.paths.values():
        words = (
            words.replace(f"{path.parent}/", "") if scan_files.is_nifti(path) else words.replace(str(path), entry.name)
        )
    return words


def _path(entry: Entry, modality: Modality) -> Path:
    return entry.paths[modality.name] if modality.name in entry.paths else entry.paths[""]


def _read(entry: Entry, modalities: Sequence[Modality], rule: Rule, notes: list[str]) -> _Sample:
    """One sample's volumes, where they lie, and its mask, which is of the first."""
    values, spaces, told = dict[str, Array](), dict[str, Space](), list[str]()
    for modality in modalities:
        values[modality.name], spaces[modality.name] = volumes.fit(_path(entry, modality), modality, rule, told)
    mask = None if entry.mask is None else volumes.mask(entry.mask, spaces[modalities[0].name], told)
    notes.extend(
        note for note in dict.fromkeys(told) if note not in notes
    )  # of samples that are left out nothing is told
    return _Sample(entry, values, spaces, mask)


def _check(kept: _Kept, sample: _Sample, n: int) -> None:
    """Raise `InvalidInput` where a scan has another size than those before, or all take too much memory."""
    size = n * sum(v.nbytes for v in sample.values.values())
    if size > BYTES and not kept.on_demand:
        raise InvalidInput(
            f"{n} samples of {volumes.times(next(iter(sample.values.values())).shape)} values take {gigabytes(size)}: ask for "
            "fewer, or write the size that scans are brought to, size=(z, y, x) in wrap"
        )
    for name, values in sample.values.items():
        first = kept.samples[0].values[name] if kept.samples else values
        if first.shape != values.shape:
            raise InvalidInput(
                f"scans have different sizes ({kept.samples[0].entry.name} {volumes.times(first.shape[:3])}, {sample.entry.name} "
                f"{volumes.times(values.shape[:3])}), and a model takes them together: write size=(z, y, x) in wrap, to which "
                "they are then brought by trilinear resampling"
            )


def _names(entries: Sequence[Entry]) -> tuple[str, ...]:
    """The shortest names that tell all samples apart."""
    paths = [next(iter(entry.paths.values())) for entry in entries]
    plain = [entry.relative.stem for entry in entries]
    longer = [f"{p.parent.name}/{n}" if scan_files.is_nifti(p) else n for p, n in zip(paths, plain, strict=True)]
    for names in (plain, longer):
        if len(set(names)) == len(names):
            return tuple(names)
    return tuple(f"{number} {name}" for number, name in enumerate(plain, 1))
