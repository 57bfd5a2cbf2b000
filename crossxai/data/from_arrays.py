"""From the arrays of one file, .npy, .npz or HDF5, to samples: which rows, and which of them are none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crossxai.data import containers, pictures
from crossxai.data.columns import Filler
from crossxai.data.containers import Stored
from crossxai.data.declared import Files
from crossxai.data.found import Found, Reader, numbers
from crossxai.data.odd import LeftOut, note_of, require_some
from crossxai.errors import InvalidInput
from crossxai.model import Array, Modality
from crossxai.on_demand import HELD, OnDemand, Rows, blocks, some

LABELS = "labels"
"""The array of an .npz or HDF5 file that holds labels, unless the user names another."""


@dataclass
class Arrays:
    """Samples that are rows of arrays in one file."""

    declared: Files
    reader: Reader
    checked: bool

    def load(self, most: int) -> Found:
        declared, path = self.declared, self.declared.place
        for key in ("table", "key", "root"):
            if key in declared.declared:
                raise InvalidInput(
                    f"{key} is of pictures and CSV files; {path.name} holds arrays: put the table into it"
                )
        with containers.opened(path) as arrays:
            own = LABELS if LABELS in list(arrays) else ""
            labels = self._named(arrays, declared.labels or own, "labels")
            masks = self._named(arrays, str(declared.masks), "masks")
            said = (LABELS, declared.labels, str(declared.masks), str(declared.indices))
            inputs = self._inputs(arrays, {name for name in said if name})
            there = self._same_length(inputs, labels, masks)
            rows = self._chosen(arrays, there)
            taken = rows[:most]
            values = {name: numbers(self._rows(stored, taken), stored.where) for name, stored in inputs.items()}
            given = None if labels is None else labels.rows(taken)
            inside = None if masks is None else self._rows(masks, taken)
        if len(rows) > most:
            self.reader.notes.append(f"the first {most} of {len(rows)} samples of {path.name} (samples={most})")
        return self._checked(values, _labels(given, path), inside, taken)

    def _rows(self, stored: Stored, taken: Rows) -> Any:
        """These rows of an array; of images on demand where they take much memory; of an .npz at once, since it is packed."""
        size = len(taken) * prod(stored.shape[1:]) * max(stored.dtype.itemsize, 4)
        packed = self.declared.place.suffix.lower() == ".npz"
        if (
            packed
            or not self.reader.on_demand
            or len(stored.shape) < 3
            or size <= HELD
            or stored.dtype.kind not in "biuf"
        ):
            return stored.rows(taken)

        def read(rows: Rows) -> npt.NDArray[Any]:
            with containers.opened(self.declared.place) as arrays:
                return arrays[stored.key].rows(taken[rows])

        return OnDemand((len(taken), *stored.shape[1:]), stored.dtype.newbyteorder("="), read)

    def _taken(self, values: Any, modality: Modality) -> Any:
        """Values as the model takes them."""
        if not isinstance(values, OnDemand):
            return self.reader.scaled(self.reader.arranged(values, modality), modality)
        one = self._taken(values[:1], modality)
        return OnDemand((len(values), *one.shape[1:]), one.dtype, lambda rows: self._taken(values[rows], modality))

    def _named(self, arrays: Mapping[str, Stored], name: str, key: str) -> Stored | None:
        if not name:
            return None
        if name not in arrays and not self._nested(arrays, name):
            raise InvalidInput(
                f"{key} = {name!r}: {self.declared.place.name} holds {containers.listed(arrays)}: write one of these"
            )
        return arrays[name]

    def _nested(self, arrays: Mapping[str, Stored], name: str) -> bool:
        """Whether a name of an HDF5 file may be more than what was listed, such as a link, of which it says more itself."""
        return self.declared.place.suffix.lower() in containers.HDF5

    def _inputs(self, arrays: Mapping[str, Stored], others: set[str]) -> dict[str, Stored]:
        """The array of each modality: the one that is named, else of the modality's name, else the only one that is left."""
        names, images = [m.name for m in self.reader.modalities], self.declared.images
        if isinstance(images, Mapping):
            if set(images) - set(names):
                raise InvalidInput(f"images names {', '.join(images)}; the model takes {', '.join(names)}")
            wanted = {name: images.get(name, name) for name in names}
        elif images and len(names) == 1:
            wanted = {names[0]: images}
        elif images:
            first = next((m.name for m in self.reader.modalities if m.spatial), names[0])
            wanted = {name: images if name == first else name for name in names}
        else:
            left = [name for name in arrays if name not in others]
            wanted = {names[0]: left[0]} if len(left) == len(names) == 1 else {name: name for name in names}
        place = self.declared.place
        lacking = [name for name, key in wanted.items() if key not in arrays and not images]
        if lacking:
            needed = "one array" if len(names) == 1 else f"the arrays {', '.join(names)}"
            raise InvalidInput(
                f'{place} holds {containers.listed(arrays)}: the model takes {needed}, and {LABELS} if known; write images = "…" '
                'and labels = "…" with the names of arrays'
            )
        return {name: self._named(arrays, key, "images") or arrays[key] for name, key in wanted.items()}

    def _same_length(self, inputs: Mapping[str, Stored], labels: Stored | None, masks: Stored | None) -> int:
        for stored in inputs.values():
            if not stored.shape:
                raise InvalidInput(f"{stored.where} is one number, and has no axis of samples")
        lengths = {stored.where: len(stored) for stored in inputs.values()}
        there = next(iter(lengths.values()))
        if len(set(lengths.values())) > 1:
            raise InvalidInput(
                f"arrays hold different numbers of samples: {', '.join(f'{k} {v}' for k, v in lengths.items())}"
            )
        for key, other in (("labels", labels), ("masks", masks)):
            if other is not None and len(other) != there:
                raise InvalidInput(f"{self.declared.place} holds {there} samples and {key} of shape {other.shape}")
        return there

    def _chosen(self, arrays: Mapping[str, Stored], there: int) -> npt.NDArray[np.intp]:
        indices = self.declared.indices
        if isinstance(indices, str) and indices:
            stored = self._named(arrays, indices, "indices")
            assert stored is not None
            indices = stored.rows(np.arange(len(stored)))  # type: ignore[assignment]
        rows = np.arange(there) if len(indices) == 0 else np.asarray(indices)
        if rows.ndim != 1 or rows.dtype.kind not in "iu":
            raise InvalidInput(
                f"indices are whole numbers of rows, such as [0, 5, 9]; got {rows.dtype} of shape {rows.shape}"
            )
        if rows.size and (rows.min() < 0 or rows.max() >= there):
            raise InvalidInput(
                f"indices go from {rows.min()} to {rows.max()}; {self.declared.place.name} has rows 0 … {there - 1}"
            )
        return rows.astype(np.intp)

    def _checked(
        self, values: dict[str, Any], labels: Any, masks: npt.NDArray[Any] | None, taken: npt.NDArray[np.intp]
    ) -> Found:
        """Values as the model takes them, without the rows that hold what is no number."""
        place, filler = self.declared.place, Filler(self.declared)
        made: dict[str, Array] = {}
        bad: dict[int, str] = {}
        for modality in self.reader.modalities:
            array = self._taken(values[modality.name], modality)
            if not modality.spatial and (self.checked or self.declared.missing is not None):
                array = self._filled(array, modality, filler, taken)
            made[modality.name] = array
            if self.checked:
                axes = tuple(range(1, array.ndim))
                wrong = np.concatenate([~np.isfinite(block).all(axis=axes) for block in blocks(array)])
                bad.update(dict.fromkeys(np.flatnonzero(wrong).tolist(), f"{modality.name!r} holds NaN or infinity"))
        left_out = tuple(LeftOut(f"{place.name}, row {taken[row]}", bad[row]) for row in sorted(bad))
        kept = np.array([row for row in range(len(taken)) if row not in bad], np.intp)
        require_some(left_out, len(kept), place.name)
        self.reader.notes.extend((*filler.notes, *note_of(left_out, len(kept))))
        if left_out:
            made = {name: some(array, kept) for name, array in made.items()}
            labels = (
                labels if labels is None else [labels[i] for i in kept] if isinstance(labels, list) else labels[kept]
            )
        named = left_out or len(self.declared.indices)
        ids = (
            tuple(str(row) for row in taken[kept].tolist())
            if named and len(set(taken[kept].tolist())) == len(kept)
            else ()
        )
        inside = None if masks is None else self._regions(some(masks, kept), labels, made)
        return Found(made, labels, inside, ids, left_out)

    def _filled(self, array: Array, modality: Modality, filler: Filler, taken: npt.NDArray[np.intp]) -> Array:
        """A table without its missing values, by the rule that is declared."""
        array = array.copy()
        for text in self.declared.absent:
            if text.replace(".", "", 1).lstrip("-").isdecimal():
                array[array == np.asarray(float(text), array.dtype)] = np.nan
        known = array.copy()
        for row, column in np.argwhere(np.isnan(array)).tolist():
            where = f"{self.declared.place.name}, row {taken[row]}"
            array[row, column] = filler.fill(float("nan"), modality.features[column], where, known[:, column])
        return array

    def _regions(self, masks: Any, labels: Any, made: Mapping[str, Array]) -> Any:
        first = next((m for m in self.reader.modalities if m.spatial), None)
        if first is None:
            raise InvalidInput("masks are of images and volumes; the model takes none")
        if masks.shape[-1:] == (1,) and masks.ndim == made[first.name].ndim:
            flat = isinstance(masks, OnDemand)
            masks = masks.changed(lambda read, _: read[..., 0], shape=masks.shape[:-1]) if flat else masks[..., 0]
        if masks.shape != made[first.name].shape[:-1]:
            raise InvalidInput(
                f"masks have shape {masks.shape}; those of {first.name!r} need {made[first.name].shape[:-1]}"
            )
        names = [""] * len(masks) if labels is None else [str(label) for label in labels]
        place = self.declared.place

        def read(given: npt.NDArray[Any], rows: Rows) -> npt.NDArray[Any]:
            return np.stack([pictures.inside(mask, names[row], place) for mask, row in zip(given, rows, strict=True)])

        if isinstance(masks, OnDemand):
            return masks.changed(read, bool)
        return read(masks, np.arange(len(masks)))


def _labels(given: npt.NDArray[Any] | None, path: Path) -> Any:
    """Labels of an array: numbers as they are, names as text."""
    if given is None or given.dtype.kind in "biuf":
        return given
    if given.ndim != 1 or given.dtype.kind not in "SU":
        raise InvalidInput(
            f"{path} holds labels of {given.dtype} and shape {given.shape}: write numbers or names, one a sample"
        )
    return [text.decode(errors="replace") if isinstance(text, bytes) else str(text) for text in given.tolist()]
