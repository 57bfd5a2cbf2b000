"""What one task's samples are: inputs, labels, masks and the truth; their random streams; and their split into training rows."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from crossxai.errors import InvalidInput

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

TASKS = ("classification", "regression", "segmentation")
PREFIXES = {"classification": "cls", "regression": "reg", "segmentation": "seg"}
MODALITIES = {"classification": ("ct", "table"), "regression": ("t1", "t2"), "segmentation": ("flair", "t1ce")}
MASKS = {
    "classification": ("nodule",),
    "regression": ("t1_lesion", "t2_lesion"),
    "segmentation": ("tumour", "core", "ring", "oedema"),
}


@dataclass(frozen=True)
class MedicalSet:
    """One task's samples.

    ids: stable names. inputs: modality -> (n, size, size, 1) float32 in [0, 1], or (n, 12) float32 in the features' units.
    labels: int64 (n,) 0 benign, 1 malignant; float32 (n,) score in [0, 10]; int64 zeros for segmentation.
    masks: name -> (n, size, size) bool. truth: image modality -> (n, size, size) bool, every pixel that the planted signal
    may change in it, and no other.
    """

    task: str
    ids: tuple[str, ...]
    inputs: Mapping[str, Array]
    labels: Array
    masks: Mapping[str, Mask]
    truth: Mapping[str, Mask]

    def __len__(self) -> int:
        return len(self.ids)


def names(task: str, n: int, xai: bool = False) -> tuple[str, ...]:
    """The samples' ids: cls-0007, or cls-xai-0007 for the explanation set."""
    return tuple(f"{PREFIXES[task]}-{'xai-' if xai else ''}{number:04d}" for number in range(n))


def stream(seed: int, task: str, number: int, part: str) -> np.random.Generator:
    """The random numbers of one part of one sample: they depend on nothing else, so neither n nor workers matter."""
    return np.random.default_rng([seed, TASKS.index(task), number, zlib.crc32(part.encode())])


Rows = npt.NDArray[np.intp]
SHARES = {"valid": 0.15, "test": 0.15}


def split(n: int, seed: int = 0, labels: npt.ArrayLike | None = None) -> dict[str, Rows]:
    """Disjoint rows of all n samples: "train" 70 %, "valid" 15 %, "test" 15 %; with classes as labels, of each class.

    Rows are sorted. Raises `InvalidInput` where a part would be empty: below 4 samples, or 4 of one class.
    """
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 4:
        raise InvalidInput(f"n is {n!r}; three parts need at least 4 samples")
    classes = np.zeros(n, dtype=int) if labels is None else np.asarray(labels)
    if classes.shape != (n,):
        raise InvalidInput(f"labels have the shape {classes.shape}; write one of each of the {n} samples")
    if not np.issubdtype(classes.dtype, np.integer):
        raise InvalidInput(
            f"labels are {classes.dtype}; only whole-number classes can be spread evenly: leave labels out"
        )
    rng = np.random.default_rng(seed)
    parts: dict[str, list[Rows]] = {"train": [], "valid": [], "test": []}
    for value in np.unique(classes):
        rows = rng.permutation(np.flatnonzero(classes == value))
        if len(rows) < 4:
            raise InvalidInput(f"class {value} has {len(rows)} samples; three parts need at least 4 of each class")
        start = 0
        for name, share in SHARES.items():
            count = max(1, round(share * len(rows)))
            parts[name].append(rows[start : start + count])
            start += count
        parts["train"].append(rows[start:])
    return {name: np.sort(np.concatenate(rows)) for name, rows in parts.items()}
