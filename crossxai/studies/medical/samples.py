"""What one task's samples are: inputs, labels, masks and the truth; and each sample's own random streams."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

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
