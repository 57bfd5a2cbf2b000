"""The first samples of a loader or data set of PyTorch, TensorFlow or Keras, and tensors as NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crossxai.errors import InvalidInput
from crossxai.model import Modality


def as_numpy(value: Any) -> Any:
    """A torch or TensorFlow tensor as a NumPy array; everything else as it is."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        return (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    return value.numpy() if hasattr(value, "numpy") and not isinstance(value, np.ndarray) else value


def as_labels(given: Any) -> npt.NDArray[Any]:
    """Labels (n,) from a list, an array or a tensor; one-hot rows are refused with what to write."""
    labels = np.asarray(as_numpy(given))
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise InvalidInput(f"labels have shape (n,), got {labels.shape}: of one-hot rows write labels.argmax(axis=1)")
    return labels


def is_picture(value: Any) -> bool:
    """Whether a value is a picture of Pillow, which is not imported to tell."""
    return any(c.__name__ == "Image" and c.__module__.startswith("PIL.") for c in type(value).__mro__)


def first(
    given: Any, samples: int, modalities: Sequence[Modality], notes: list[str]
) -> tuple[Any, npt.NDArray[Any] | None] | None:
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
        if len(parts) != len(modalities):
            raise InvalidInput(
                f"the loader gives {len(parts)} inputs per item; the model takes {len(modalities)}: let it give "
                "(inputs, label), inputs a tuple or dict of the modalities"
            )
        arrays = [np.asarray(as_numpy(part)) for part in parts]
        if arrays[0].ndim == len(modalities[0].axes):  # one sample at a time
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
    notes.append(f"the first {min(n, samples)} samples of the {type(given).__name__} (samples={samples})")
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
    return iter(given) if hasattr(given, "__iter__") and not is_picture(given) else None
