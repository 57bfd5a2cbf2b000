"""From what a user holds to the arrays of a model: NumPy, tensors, pictures, files, loaders; notes say what was changed."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from crossxai.data import files, from_files, from_scans, from_stores, loaders, pictures, volumes
from crossxai.data.declared import Files
from crossxai.data.found import Found
from crossxai.data.loaders import as_labels as as_labels
from crossxai.data.loaders import as_numpy as as_numpy
from crossxai.data.odd import LeftOut
from crossxai.errors import InvalidInput
from crossxai.files.records import labels_of_groups
from crossxai.files.spaces import Space
from crossxai.model import Array, Inputs, Modality, Model

SAMPLES = 16
"""How many samples of a loader, a data set or a folder are taken, unless the user says so."""


@dataclass(frozen=True)
class Batch:
    """inputs: one array per modality; labels: of a loader or file that gives them; label_names: of files that name them; ids: the
    files' names, () where there are none; notes: what was changed on the way, a sentence each; masks (n, *space): of files that
    have them; left_out: the files that are no samples, and why; spaces: by modality, where the voxels of scans lie."""

    inputs: Inputs
    labels: npt.NDArray[Any] | None = None
    ids: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    label_names: tuple[str, ...] = ()
    masks: npt.NDArray[np.bool_] | None = None
    left_out: tuple[LeftOut, ...] = ()
    spaces: Mapping[str, tuple[Space, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.inputs[0])

    def require_whole(self, **by_place: Any) -> None:
        """Raise `InvalidInput` where files were left out and something is given for each sample by its place, which no longer
        tells whose it is. What has no length, or is empty, belongs to no place."""
        for name, given in by_place.items():
            if self.left_out and isinstance(given, Sized) and len(given):
                raise InvalidInput(
                    f"{name} is given sample by sample, and {len(self.left_out)} files were left out, such as "
                    f"{self.left_out[0]}: take them away, or let files say what belongs to whom, such as xai.Files(…, labels=…)"
                )


def read(
    model: Model,
    given: Any,
    *,
    samples: int = SAMPLES,
    layout: Literal["NHWC", "NCHW"] | None = None,
    checked: bool = True,
    on_demand: bool = False,
) -> Batch:
    """Inputs for a model.

    given: an array or tensor, a picture (PIL), the path of one, or a list of these; a tuple or a dict of them for several
    modalities; a path or URL that `crossxai.data.files` reads, or `Files`, which says more of it; or a loader or data set of
    inputs or (inputs, label), of which the first `samples` are taken. layout: "NCHW" if images are channels first; as the model
    was wrapped, unless given here. checked: whether values outside of the declared range, NaN and infinity are refused.
    on_demand: whether inputs and masks in files may be `OnDemand` where they take much memory, which is refused otherwise.
    Raises `InvalidInput` that says what was given and what to write instead.
    """
    if samples < 1:
        raise InvalidInput(f"samples must be at least 1, got {samples}")
    given = from_stores.here(given)
    reader = _Reader(model, str(layout or getattr(_recognised(model), "layout", "NHWC")), samples, on_demand)
    if from_scans.takes(given, model.modalities):
        found = from_scans.load(given, samples, model.modalities, reader.rule, reader.notes, on_demand)
        inputs = tuple(found.values[m.name] for m in model.modalities)
    elif isinstance(given, Files) or (isinstance(given, str | Path) and files.is_files(Path(given))):
        given = given if isinstance(given, Files) else Files(given)
        found = from_files.load(given, samples, reader, checked)
        inputs = tuple(found.values[m.name] for m in model.modalities)
    else:
        loaded = loaders.first(given, samples, model.modalities, reader.notes)
        values, labels = (given, None) if loaded is None else loaded
        inputs = reader.inputs(values)
        found = Found({}, labels, reader.masks, reader.ids, (), reader.spaces)
    sizes = [len(v) for v in inputs]
    if len(set(sizes)) > 1:
        raise InvalidInput(f"the modalities hold different numbers of samples: {sizes}")
    if not sizes[0]:
        raise InvalidInput("there is no sample: the inputs are empty")
    for modality, array in zip(model.modalities, inputs, strict=True) if checked else ():
        modality.check(array)
    names = tuple(found.labels) if isinstance(found.labels, list) else ()
    given_labels = None if found.labels is None or names else as_labels(found.labels)
    notes = tuple(dict.fromkeys(reader.notes))
    return Batch(inputs, given_labels, found.ids, notes, names, found.masks, found.left_out, found.spaces)


def as_groups(given: Any, n: int) -> tuple[str, ...]:
    """The group of each of n samples as text, () if none is given; raises `InvalidInput` where there is not one label each, or
    one for all."""
    if given is None or len(given) == 0:
        return ()
    given = as_numpy(given)
    if isinstance(given, str | Mapping) or getattr(given, "ndim", 1) != 1:
        raise InvalidInput(
            f'groups are one label per sample, such as ["patient 1", "patient 1", "patient 2"]; got {reprlib.repr(given)}'
        )
    if len(given) != n:
        raise InvalidInput(f"groups name the group of each sample: got {len(given)} for {n} samples")
    labels = labels_of_groups(given)
    if n > 1 and len(set(labels)) == 1:
        raise InvalidInput(
            f"all {n} samples are of one group, {labels[0]!r}, which says nothing of other groups: take samples of several, or "
            "leave groups out"
        )
    return labels


def _recognised(model: Model) -> Any:
    return getattr(model, "recognised", None)


class _Reader:
    """What is known of the model while its inputs are read, and the notes about them."""

    def __init__(self, model: Model, layout: str, samples: int, on_demand: bool = False) -> None:
        if layout not in ("NHWC", "NCHW"):
            raise InvalidInput(f'layout is "NHWC" or "NCHW", got {layout!r}')
        self.modalities, self.layout, self.samples = model.modalities, layout, samples
        self.on_demand = on_demand
        size = getattr(_recognised(model), "size", None)
        self.size: tuple[int, int] | None = size if size is not None and len(size) == 2 else None
        self.rule = volumes.rule_of(_recognised(model))
        self.resize: Any = getattr(_recognised(model), "resize", None)
        self.ids: tuple[str, ...] = ()
        self.notes: list[str] = []
        self.masks: npt.NDArray[np.bool_] | None = None
        self.spaces: dict[str, tuple[Space, ...]] = {}

    def inputs(self, given: Any) -> Inputs:
        """One array per modality."""
        names = [m.name for m in self.modalities]
        if isinstance(given, Mapping):
            if set(given) != set(names):
                raise InvalidInput(f"the model takes {', '.join(names)}; got {', '.join(map(str, given))}")
            given = tuple(given[name] for name in names)
        elif not isinstance(given, tuple):
            given = (given,)
        if len(given) != len(names):
            advice = "a list of them, not a tuple" if len(names) == 1 else f"({', '.join(names)})"
            raise InvalidInput(
                f"the model takes {len(names)} inputs ({', '.join(names)}), got {len(given)}: write {advice}"
            )
        return tuple(self.array(values, m) for values, m in zip(given, self.modalities, strict=True))

    def array(self, given: Any, modality: Modality) -> Array:
        """The array (n, *axes) of one modality."""
        if from_scans.takes(given, (modality,)):
            return self.scans(given, modality)
        if _is_picture_or_path(given):
            given = [given]
        if isinstance(given, list | np.ndarray) and len(given) and _is_picture_or_path(given[0]):
            return self.pictures(list(given), modality)
        known = self.size is not None or self.resize is not None
        if isinstance(given, list) and known and all(_eight_bit(item) for item in given):
            from PIL import Image

            return self.pictures([Image.fromarray(item) for item in given], modality)
        if hasattr(given, "to_numpy") and not modality.spatial:  # a data frame, whose columns have names
            given = self.columns(given, modality)
        if isinstance(given, list) and given and np.ndim(as_numpy(given[0])) == len(modality.axes):
            rows = [np.asarray(as_numpy(row)) for row in given]
            if len({row.shape for row in rows}) > 1:
                raise InvalidInput(
                    f"the samples of {modality.name!r} have different shapes ({rows[0].shape}, {rows[-1].shape}, …), and a "
                    "model takes them together: resize or crop them to one"
                )
            given = np.stack(rows)
        values = np.asarray(as_numpy(given))
        if values.dtype == object or not (np.issubdtype(values.dtype, np.number) or values.dtype == bool):
            raise InvalidInput(
                f"{modality.name!r}: expected an array, a tensor, pictures (PIL), paths of pictures, or a loader of these; got "
                f"{type(given).__name__}"
            )
        return self.scaled(self.arranged(values, modality), modality)

    def arranged(self, values: npt.NDArray[Any], modality: Modality) -> npt.NDArray[Any]:
        """Channels last; an array whose axes do not fit is refused with the line to write."""
        axes, channels, place = len(modality.axes), len(modality.features), f"modality {modality.name!r}"
        expected = f"(n, {', '.join((*modality.axes[:-1], str(channels)))})"
        if values.ndim == axes:
            raise InvalidInput(f"{place} takes {expected}, got shape {values.shape}: of one sample write x[None]")
        if values.ndim != axes + 1:
            raise InvalidInput(f"{place} takes {expected}, got shape {values.shape}")
        if modality.spatial and self.layout == "NCHW":
            if values.shape[1] != channels:
                raise InvalidInput(f'{place}: layout="NCHW" says (n, {channels}, …), got shape {values.shape}')
            return np.moveaxis(values, 1, -1)
        if values.shape[-1] != channels:
            write = f"the last axis is its {modality.axes[-1]}s"
            if modality.spatial and values.shape[1] == channels:
                write = 'write layout="NCHW", or np.moveaxis(x, 1, -1)'
            raise InvalidInput(f"{place} takes {expected}, got shape {values.shape}: {write}")
        return values

    def scaled(self, values: npt.NDArray[Any], modality: Modality) -> Array:
        """Floats in the model's range; 8-bit pictures are scaled to it, with a note."""
        if values.dtype in (np.float32, np.float64):
            return np.ascontiguousarray(values)
        if modality.spatial and values.dtype == np.uint8 and modality.range not in (None, (0.0, 255.0)):
            low, high = modality.range or (0.0, 1.0)
            self._note(f"8-bit values of {modality.name!r} were scaled from 0 … 255 to {low:g} … {high:g}")
            return np.ascontiguousarray(low + values.astype(np.float32) / 255 * np.float32(high - low))
        if modality.spatial and values.dtype not in (np.uint8, np.float16) and modality.range == (0.0, 1.0):
            raise InvalidInput(
                f"{modality.name!r} takes values from 0 to 1, got {values.dtype} from {values.min()} to {values.max()}: divide "
                "by the largest value that they can have, x.astype(np.float32) / 65535 for 16 bits"
            )
        return np.ascontiguousarray(values, np.float32)

    def columns(self, frame: Any, modality: Modality) -> npt.NDArray[Any]:
        """A data frame's columns in the model's order; by position where the model's have no names of their own."""
        names = list(map(str, getattr(frame, "columns", ())))
        if set(modality.features) <= set(names):
            return np.asarray(frame[list(modality.features)].to_numpy())
        return np.asarray(frame.to_numpy())

    def scans(self, given: Any, modality: Modality) -> Array:
        """Scans of one modality in files; names and masks are those of the first modality that has them."""
        found = from_scans.load(given, self.samples, (modality,), self.rule, self.notes)
        if found.left_out:  # nothing tells which samples of other modalities they are
            raise InvalidInput(f"{modality.name!r}: {found.left_out[0]}")
        self.ids = self.ids or found.ids
        self.masks = found.masks if self.masks is None else self.masks
        self.spaces |= found.spaces
        return found.values[modality.name]

    def pictures(self, given: list[Any], modality: Modality) -> Array:
        """Pictures and paths as one array: colours as the model's channels, and the network's size, where that is known."""
        read, paths = [], []
        for item in given:
            if isinstance(item, str | Path):
                paths.append(Path(item))
                item = pictures.open_picture(Path(item), self.notes.append)
            read.append(self.picture(item, modality, self.notes.append))
        if len({p.shape for p in read}) > 1:
            raise InvalidInput(
                f"the pictures have different sizes ({read[0].shape[1::-1]}, {read[-1].shape[1::-1]}, …), and nothing says which "
                "the network takes: write size=(224, 224), say, in wrap"
            )
        for names in ([p.stem for p in paths], [f"{p.parent.name}/{p.stem}" for p in paths]):
            if len(set(names)) == len(given):
                self.ids = tuple(names)
                break
        return self.scaled(np.stack(read), modality)

    def picture(self, picture: Any, modality: Modality, remark: Callable[[str], object]) -> npt.NDArray[Any]:
        """A picture (y, x, channel) of 8 bits, in the network's size where that is known."""
        if not modality.spatial or len(modality.axes) != 3 or len(modality.features) not in (1, 3, 4):
            raise InvalidInput(
                f"{modality.name!r} takes {len(modality.features)} {modality.axes[-1]}s, which no picture has: give arrays"
            )
        values = np.asarray(self.fitted(pictures.colours(picture, len(modality.features), remark)))
        return values[..., None] if values.ndim == 2 else values

    def fitted(self, picture: Any) -> Any:
        """A picture in the network's size, where that is known."""
        from PIL import Image, ImageOps

        if self.resize is not None:
            self._note(str(self.resize))
            return self.resize(picture)
        if self.size is None or picture.size == self.size[::-1]:
            return picture
        self._note(
            f"pictures were resized, the shorter side to the network's, and cut to the middle {self.size[0]} × {self.size[1]}"
        )
        return ImageOps.fit(picture, self.size[::-1], Image.Resampling.BILINEAR)

    def _note(self, text: str) -> None:
        """Say once what is done to each of any number of samples, which may be read again and again."""
        if text not in self.notes:
            self.notes.append(text)


def _eight_bit(value: Any) -> bool:
    """Whether an array is a picture as libraries read them: (y, x) or (y, x, 3 or 4) of 8 bits."""
    if not isinstance(value, np.ndarray) or value.dtype != np.uint8:
        return False
    return value.ndim == 2 or (value.ndim == 3 and value.shape[-1] in (3, 4))


def _is_picture_or_path(value: Any) -> bool:
    return loaders.is_picture(value) or isinstance(value, str | Path)
