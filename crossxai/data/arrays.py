"""From what a user holds to the arrays of a model: NumPy, tensors, pictures, files, loaders; notes say what was changed."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from crossxai.data import files
from crossxai.errors import InvalidInput
from crossxai.files.records import labels_of_groups
from crossxai.model import Array, Inputs, Modality, Model

SAMPLES = 16
"""How many samples of a loader, a data set or a folder are taken, unless the user says so."""


@dataclass(frozen=True)
class Batch:
    """inputs: one array per modality; labels: of a loader or file that gives them; label_names: of files that name them; ids: the
    files' names, () where there are none; notes: what was changed on the way, a sentence each."""

    inputs: Inputs
    labels: npt.NDArray[Any] | None = None
    ids: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    label_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.inputs[0])


def read(
    model: Model,
    given: Any,
    *,
    samples: int = SAMPLES,
    layout: Literal["NHWC", "NCHW"] | None = None,
    checked: bool = True,
) -> Batch:
    """Inputs for a model.

    given: an array or tensor, a picture (PIL), the path of one, or a list of these; a tuple or a dict of them for several
    modalities; what `crossxai.data.files` reads, or a loader or data set of inputs or (inputs, label), of which the first
    `samples` are taken. layout: "NCHW" if images are channels first; as the model was wrapped, unless given here. checked:
    whether values outside of the declared range, NaN and infinity are refused.
    Raises `InvalidInput` that says what was given and what to write instead.
    """
    if samples < 1:
        raise InvalidInput(f"samples must be at least 1, got {samples}")
    reader = _Reader(model, str(layout or getattr(_recognised(model), "layout", "NHWC")), samples)
    loaded = _from_loader(given, samples, reader)
    values, labels = (given, None) if loaded is None else loaded
    names: tuple[str, ...] = ()
    if isinstance(values, str | Path) and files.is_files(Path(values)):
        listed = files.listed(Path(values), samples, model.modalities)
        reader.notes.extend(listed.notes)
        values, labels = listed.values, listed.labels
        if isinstance(labels, list):
            names, labels = tuple(labels), None
        labels = None if labels is None else as_labels(labels)
    inputs = reader.inputs(values)
    sizes = [len(v) for v in inputs]
    if len(set(sizes)) > 1:
        raise InvalidInput(f"the modalities hold different numbers of samples: {sizes}")
    if not sizes[0]:
        raise InvalidInput("there is no sample: the inputs are empty")
    for modality, array in zip(model.modalities, inputs, strict=True) if checked else ():
        modality.check(array)
    return Batch(inputs, labels, reader.ids, tuple(dict.fromkeys(reader.notes)), names)


def as_labels(given: Any) -> npt.NDArray[Any]:
    """Labels (n,) from a list, an array or a tensor; one-hot rows are refused with what to write."""
    labels = np.asarray(as_numpy(given))
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise InvalidInput(f"labels have shape (n,), got {labels.shape}: of one-hot rows write labels.argmax(axis=1)")
    return labels


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

    def __init__(self, model: Model, layout: str, samples: int) -> None:
        if layout not in ("NHWC", "NCHW"):
            raise InvalidInput(f'layout is "NHWC" or "NCHW", got {layout!r}')
        self.modalities, self.layout, self.samples = model.modalities, layout, samples
        self.size: tuple[int, int] | None = getattr(_recognised(model), "size", None)
        self.resize: Any = getattr(_recognised(model), "resize", None)
        self.ids: tuple[str, ...] = ()
        self.notes: list[str] = []

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
            self.notes.append(f"8-bit values of {modality.name!r} were scaled from 0 … 255 to {low:g} … {high:g}")
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

    def pictures(self, given: list[Any], modality: Modality) -> Array:
        """Pictures and paths as one array: colours as the model's channels, and the network's size, where that is known."""
        from PIL import Image, ImageOps

        modes = {1: "L", 3: "RGB", 4: "RGBA"}
        if not modality.spatial or len(modality.features) not in modes:
            raise InvalidInput(
                f"{modality.name!r} takes {len(modality.features)} {modality.axes[-1]}s, which no picture has: give arrays"
            )
        opened, paths = [], []
        for item in given:
            if isinstance(item, str | Path):
                paths.append(Path(item))
                item = files.open_picture(Path(item))
            opened.append(item.convert(modes[len(modality.features)]))
        if self.resize is not None:
            self.notes.append(str(self.resize))
            opened = [self.resize(p) for p in opened]
        elif self.size is not None and any(p.size != self.size[::-1] for p in opened):
            self.notes.append(
                f"pictures were resized, the shorter side to the network's, and cut to the middle {self.size[0]} × {self.size[1]}"
            )
            opened = [ImageOps.fit(p, self.size[::-1], Image.Resampling.BILINEAR) for p in opened]
        if len({p.size for p in opened}) > 1:
            raise InvalidInput(
                f"the pictures have different sizes ({opened[0].size}, {opened[-1].size}, …), and nothing says which the network "
                "takes: write size=(224, 224), say, in wrap"
            )
        for names in ([p.stem for p in paths], [f"{p.parent.name}/{p.stem}" for p in paths]):
            if len(set(names)) == len(given):
                self.ids = tuple(names)
                break
        arrays = np.stack([np.asarray(p) for p in opened])
        return self.scaled(arrays[..., None] if arrays.ndim == 3 else arrays, modality)


def as_numpy(value: Any) -> Any:
    """A torch or TensorFlow tensor as a NumPy array; everything else as it is."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        return (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    return value.numpy() if hasattr(value, "numpy") and not isinstance(value, np.ndarray) else value


def _eight_bit(value: Any) -> bool:
    """Whether an array is a picture as libraries read them: (y, x) or (y, x, 3 or 4) of 8 bits."""
    if not isinstance(value, np.ndarray) or value.dtype != np.uint8:
        return False
    return value.ndim == 2 or (value.ndim == 3 and value.shape[-1] in (3, 4))


def _is_picture(value: Any) -> bool:
    return any(c.__name__ == "Image" and c.__module__.startswith("PIL.") for c in type(value).__mro__)


def _is_picture_or_path(value: Any) -> bool:
    return _is_picture(value) or isinstance(value, str | Path)


def _from_loader(given: Any, samples: int, reader: _Reader) -> tuple[Any, npt.NDArray[Any] | None] | None:
    """(inputs, labels or None) of the first samples of a loader or data set; None for anything else."""
    items = _items(given)
    if items is None:
        return None
    batches: list[list[npt.NDArray[Any]]] = []
    keys: list[str] | None = None
    labels: list[npt.NDArray[Any]] = []
    n = 0
    for item in items:
        inputs, label = item if isinstance(item, tuple | list) and len(item) == 2 else (item, None)
        if isinstance(inputs, Mapping):
            keys, inputs = list(inputs), tuple(inputs.values())
        parts = list(inputs) if isinstance(inputs, tuple | list) else [inputs]
        if len(parts) != len(reader.modalities):
            raise InvalidInput(
                f"the loader gives {len(parts)} inputs per item; the model takes {len(reader.modalities)}: let it give "
                "(inputs, label), inputs a tuple or dict of the modalities"
            )
        arrays = [np.asarray(as_numpy(part)) for part in parts]
        if arrays[0].ndim == len(reader.modalities[0].axes):  # one sample at a time
            arrays = [array[None] for array in arrays]
            label = None if label is None else np.asarray(as_numpy(label))[None]
        batches.append(arrays)
        if label is not None:
            labels.append(as_labels(label))
        n += len(arrays[0])
        if n >= samples:
            break
    if not batches:
        raise InvalidInput(f"the {type(given).__name__} gives no sample")
    reader.notes.append(f"the first {min(n, samples)} samples of the {type(given).__name__} (samples={samples})")
    whole = tuple(np.concatenate(arrays)[:samples] for arrays in zip(*batches, strict=True))
    return (
        dict(zip(keys, whole, strict=True)) if keys is not None else whole,
        np.concatenate(labels)[:samples] if labels else None,
    )


def _items(given: Any) -> Iterator[Any] | None:
    """What a loader or data set gives, item by item; None for anything that is none."""
    kinds = {(c.__module__.split(".")[0], c.__name__) for c in type(given).__mro__}
    numbered = ("torch", "Dataset") in kinds and hasattr(given, "__getitem__") and hasattr(given, "__len__")
    if numbered or ("keras", "PyDataset") in kinds:
        return (given[i] for i in range(len(given)))
    if isinstance(given, Mapping | Sequence | np.ndarray | str | Path) or hasattr(given, "__array__"):
        return None
    return iter(given) if hasattr(given, "__iter__") and not _is_picture(given) else None
