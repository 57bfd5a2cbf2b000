"""From files to arrays, one sample after the other: what cannot be read is left out, and the next one is taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crossxai.data import containers, files, outlines, pictures
from crossxai.data.columns import Columns, Filler
from crossxai.data.declared import Files
from crossxai.data.files import Entry, Listing
from crossxai.data.found import Found, Reader, numbers
from crossxai.data.from_arrays import Arrays
from crossxai.data.odd import BYTES, LeftOut, Odd, gigabytes, note_of, readable, require_some
from crossxai.errors import InvalidInput
from crossxai.model import Array, Modality
from crossxai.on_demand import HELD, OnDemand, Rows

OTHERS = 5
"""How many files a sentence names."""


def load(declared: Files, most: int, reader: Reader, checked: bool = True) -> Found:
    """At most so many samples. Raises `InvalidInput` or `InvalidFile` where nothing is left, or what holds for all is wrong."""
    place = declared.place
    if place.suffix.lower() in containers.ENDINGS and not place.is_dir():
        return Arrays(declared, reader, checked).load(most)
    if "indices" in declared.declared:
        raise InvalidInput(f"indices are of arrays in .npy, .npz and HDF5; {place.name} is none of them")
    return _Rows(declared, reader).load(most)


@dataclass
class _Rows:
    """Samples that have files, or rows of a table, of their own."""

    declared: Files
    reader: Reader
    remarks: dict[str, list[str]] = field(default_factory=dict)
    told: bool = False

    def load(self, most: int) -> Found:
        listing = files.listing(self.declared, self.reader.modalities)
        filler = Filler(self.declared)
        tables = {m.name: Columns(self.declared, listing, m, filler) for m in self.reader.modalities if not m.spatial}
        left_out, kept = list(listing.left_out), list[tuple[Entry, dict[str, Array], Any]]()
        size, again = 0, False
        for entry in listing.entries:
            if len(kept) == most:
                break
            try:
                if entry.problem:
                    raise Odd(entry.name, entry.problem)
                values, mask = self._sample(entry, tables)
            except Odd as odd:
                if listing.alone:
                    raise
                left_out.append(LeftOut(entry.name, odd.reason))
                continue
            size += sum(v.nbytes for v in values.values())
            if size > BYTES and not self.reader.on_demand:
                raise InvalidInput(
                    f"{len(kept) + 1} samples of {listing.where} take {gigabytes(size)}: ask for fewer, or write the size that "
                    "pictures are brought to, such as size=(224, 224)"
                )
            again = again or (self.reader.on_demand and size > HELD)
            kept.append((entry, *(outlines.of(values, mask) if again else (values, mask))))
        require_some(left_out, len(kept), listing.where)
        kept.sort(key=lambda sample: sample[0].place)
        self._tell(listing, len(kept), most, left_out, filler)
        entries = [entry for entry, _, _ in kept]
        values = {m.name: _stacked([v[m.name] for _, v, _ in kept], entries) for m in self.reader.modalities}
        masks = self._masks(kept)
        if again:
            self.told = True
            values, masks = self._on_demand(entries, tables, values, masks)
        labels = [entry.label for entry in entries] if listing.labelled else None
        return Found(values, labels, masks, _ids(entries), tuple(left_out))

    def _on_demand(
        self, entries: Sequence[Entry], tables: Mapping[str, Columns], values: dict[str, Any], masks: Any
    ) -> tuple[dict[str, Any], Any]:
        """Pictures and masks that are read again when they are asked for, in place of outlines of them."""

        def pictures_of(name: str, rows: Rows) -> npt.NDArray[Any]:
            return np.stack([self._sample(entries[row], tables)[0][name] for row in rows])

        def masks_of(rows: Rows) -> npt.NDArray[Any]:
            read = (self._sample(entries[row], tables)[1] for row in rows)
            return np.stack([np.zeros(masks.shape[1:], bool) if mask is None else mask for mask in read])

        for name in (m.name for m in self.reader.modalities if m.spatial):
            values[name] = OnDemand(values[name].shape, values[name].dtype, partial(pictures_of, name))
        return values, masks if masks is None else OnDemand(masks.shape, bool, masks_of)

    def _sample(self, entry: Entry, tables: Mapping[str, Columns]) -> tuple[dict[str, Array], Any]:
        """One sample's values by modality, and its mask; raises `Odd`."""
        values, size = {}, None
        for modality in self.reader.modalities:
            if not modality.spatial:
                values[modality.name] = tables[modality.name].row(entry)
                continue
            path = entry.paths[modality.name]
            if path.suffix.lower() == files.ARRAY:
                values[modality.name] = self._array(path, modality)
                continue
            remark = partial(self._remark, entry.name)
            picture = pictures.open_picture(path, remark)
            size = size or picture.size
            try:
                small = self.reader.picture(picture, modality, remark)
                values[modality.name] = self.reader.scaled(small[None], modality)[0]
            except InvalidInput as error:  # such as a picture too narrow to be resized
                raise Odd(path, f"cannot be used: {error}") from error
        if entry.mask is None:
            return values, None
        if size is None:
            raise Odd(entry.mask, "is a mask of what is no picture: give both as arrays in one .npz")
        return values, np.asarray(self.reader.fitted(pictures.open_mask(entry.mask, size, entry.label))) > 127

    def _remark(self, name: str, text: str) -> None:
        if not self.told:
            self.remarks.setdefault(text, []).append(name)

    def _array(self, path: Path, modality: Modality) -> Array:
        """One sample of an .npy."""
        with containers.opened(path) as arrays:
            whole = arrays.get("")
            if whole is None or not whole.shape:
                raise Odd(path, "is no array of one sample")
            values = numbers(whole.rows(np.arange(len(whole))), str(path))
        try:
            made = self.reader.scaled(self.reader.arranged(values[None], modality), modality)[0]
        except InvalidInput as error:
            raise Odd(path, f"is no sample: {error}") from error
        if not np.isfinite(made).all():
            raise Odd(path, "holds NaN or infinity")
        return np.asarray(made)

    def _masks(self, kept: Sequence[tuple[Entry, dict[str, Array], Any]]) -> npt.NDArray[np.bool_] | None:
        """Masks (n, y, x), empty for samples that have none; None if none has."""
        if not self.declared.masks:
            return None
        shown = next(m.name for m in self.reader.modalities if m.spatial)
        none = [entry.name for entry, _, mask in kept if mask is None]
        if len(none) == len(kept):
            raise InvalidInput(
                f"masks = {str(self.declared.masks)!r}: none of {len(kept)} samples has a mask, such as {none[0]}"
            )
        if none:
            self.reader.notes.append(f"{len(none)} of {len(kept)} samples have no mask, and an empty one stands for it")
        return outlines.stacked([np.zeros(v[shown].shape[:2], bool) if mask is None else mask for _, v, mask in kept])

    def _tell(self, listing: Listing, n: int, most: int, left_out: Sequence[LeftOut], filler: Filler) -> None:
        """Notes on what was taken, changed and left out."""
        notes, there = self.reader.notes, len(listing.entries)
        notes.extend(listing.notes)
        if there - sum(bool(e.problem) for e in listing.entries) > n == most:
            kind = "pictures" if any(e.paths for e in listing.entries) else "rows"
            notes.append(
                f"the first {most} of {there} {kind} {listing.words.format(where=listing.where)} (samples={most})"
            )
        for remark, names in self.remarks.items():
            names = list(dict.fromkeys(names))
            some = ", ".join(names[:OTHERS]) + (", …" if len(names) > OTHERS else "")
            notes.append(f"{remark} ({len(names)} of {n} files: {some})" if len(names) < n else f"{remark} (all files)")
        notes.extend((*filler.notes, *note_of(left_out, n)))


def _stacked(values: Sequence[Array], entries: Sequence[Entry]) -> Array:
    if len({v.shape for v in values}) > 1:
        one = values[0]
        row, other = next((e, v) for e, v in zip(entries, values, strict=True) if v.shape != one.shape)
        sizes = f"{entries[0].name} of {one.shape[1]} × {one.shape[0]}, {row.name} of {other.shape[1]} × {other.shape[0]}, …"
        raise InvalidInput(
            f"the pictures have different sizes ({sizes}), and nothing says which the network takes: write size=(224, 224), say, "
            "in wrap"
        )
    return outlines.stacked(values)


def _ids(entries: Sequence[Entry]) -> tuple[str, ...]:
    """The shortest names that tell all samples apart: of files without folder and ending, else with more of them."""
    ways = (
        [readable(e.relative.stem) for e in entries],
        [readable(f"{e.relative.parent.name}/{e.relative.stem}") for e in entries],
        [readable(e.relative.with_suffix("").as_posix()) for e in entries],
        [readable(e.relative.as_posix()) for e in entries],
        [e.name for e in entries],
        [e.row.name for e in entries],
    )
    return tuple(next((names for names in ways if len(set(names)) == len(entries)), ()))
