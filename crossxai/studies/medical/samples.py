"""What one task's samples are and their files are called, how samples are generated, and their split into training rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crossxai.errors import InvalidInput, UnknownName
from crossxai.studies.generation import Pool, check_whole, pool
from crossxai.studies.medical import ct, mri
from crossxai.studies.medical.ct import label_of, row
from crossxai.studies.medical.drawing import TASKS, Array, Mask

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


IMAGES = {"ct": "images", "t1": "t1", "t2": "t2", "flair": "flair", "t1ce": "t1ce"}
"""Modality -> what its file is called after the prefix; the array inside is called `images`."""

OTHERS = {"classification": ("tabular", "metadata"), "regression": ("scores",), "segmentation": ("masks",)}
"""What the files beside the images and the truth are called after the prefix."""


def file_name(task: str, part: str, xai: bool = False) -> str:
    """cls_images.npz, or cls_xai_images.npz; part "metadata" is a CSV."""
    return f"{PREFIXES[task]}_{'xai_' if xai else ''}{part}.{'csv' if part == 'metadata' else 'npz'}"


def every_file() -> tuple[str, ...]:
    """All data files of a folder: three tasks, training and explanation sets; of each, as they are written."""
    parts = {task: [*(IMAGES[m] for m in MODALITIES[task] if m in IMAGES), *OTHERS[task], "truth"] for task in TASKS}
    return tuple(file_name(task, part, xai) for task in TASKS for xai in (False, True) for part in parts[task])


def truth_names(task: str) -> tuple[str, ...]:
    """The arrays of a truth file: the masks by name, then the truth by modality."""
    return (*MASKS[task], *(m for m in MODALITIES[task] if m in IMAGES))


def names(task: str, n: int, xai: bool = False) -> tuple[str, ...]:
    """The samples' ids: cls-0007, or cls-xai-0007 for the explanation set."""
    return tuple(f"{PREFIXES[task]}-{'xai-' if xai else ''}{number:04d}" for number in range(n))


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
        raise InvalidInput(f"labels are {classes.dtype}; only whole-number classes can be spread: leave labels out")
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


CHUNK = 5
"""Samples that a process makes at a time: enough to hide what sending them costs, few enough for a steady bar."""

SIZES = (32, 1024)

Sample = dict[str, Array]


def generate(
    task: str, n: int, seed: int, planted: bool = True, workers: int | None = 1, size: int = 224, xai: bool = False
) -> MedicalSet:
    """One task's samples. Sample i depends on (task, seed, i) alone: a larger n goes on where a smaller one ends.

    planted=False is the control set: the same anatomy, labels, scores and masks, but no nodule, lesion or tumour in the images
    and a table that knows nothing of the class. workers: processes, None for the number of cores; with more than one, a script
    needs `if __name__ == "__main__":`. size: pixels, for tests; the anatomy scales. xai: ids of the explanation set. Raises
    `InvalidInput` and `UnknownName`.
    """
    check(task, n, seed, size)
    with pool(workers, -(-n // CHUNK)) as processes:
        return collect(processes, task, n, seed, planted, size, xai)


def check(task: str, n: int, seed: int, size: int) -> None:
    """Raise if these settings make no set."""
    if task not in TASKS:
        raise UnknownName("task", str(task), TASKS)
    check_whole("n", n, 1)
    check_whole("seed", seed, 0)
    if isinstance(size, bool) or not isinstance(size, int) or not SIZES[0] <= size <= SIZES[1]:
        raise InvalidInput(f"size is {size!r}; write a whole number of pixels from {SIZES[0]} to {SIZES[1]}")


def collect(
    processes: Pool,
    task: str,
    n: int,
    seed: int,
    planted: bool,
    size: int,
    xai: bool,
    done: Callable[[int], None] = lambda count: None,
) -> MedicalSet:
    """All samples, in their order; `done` hears how many more are ready."""
    chunks = [range(start, min(start + CHUNK, n)) for start in range(0, n, CHUNK)]
    arrays: Sample = {}
    results = processes.map(_chunk, [(task, seed, chunk, planted, size) for chunk in chunks])
    for chunk, part in zip(chunks, results, strict=True):
        for name, values in part.items():
            if name not in arrays:
                arrays[name] = np.empty((n, *values.shape[1:]), values.dtype)
            arrays[name][chunk.start : chunk.stop] = values
        done(len(chunk))
    masks = {name: arrays[name] for name in MASKS[task]}
    inputs = {name: arrays[name] for name in MODALITIES[task]}
    return MedicalSet(task, names(task, n, xai), inputs, arrays["labels"], masks, truth(task, masks))


def truth(task: str, masks: dict[str, Array]) -> dict[str, Array]:
    """By image modality, the pixels that the planted signal may change."""
    if task == "classification":
        return {"ct": masks["nodule"]}
    if task == "regression":
        return {"t1": masks["t1_lesion"], "t2": masks["t2_lesion"]}
    return {"flair": masks["tumour"], "t1ce": masks["core"] | masks["ring"]}


def _chunk(task: str, seed: int, numbers: range, planted: bool, size: int) -> Sample:
    """Runs in another process: one array per name, the samples stacked."""
    samples = [_SAMPLE[task](seed, number, planted, size) for number in numbers]
    return {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}


def _image(field: Array) -> Array:
    return field.astype(np.float32)[..., None]


def _classification(seed: int, number: int, planted: bool, size: int) -> Sample:
    image, nodule = ct.slice_of(seed, number, size, planted)
    label = np.array(label_of(number), np.int64)
    return {"ct": _image(image), "table": row(seed, number, planted), "labels": label, "nodule": nodule}


def _regression(seed: int, number: int, planted: bool, size: int) -> Sample:
    t1, t2, dark, bright = mri.lesion_pair(seed, number, size, planted)
    label = np.array(mri.score(seed, number), np.float32)
    return {"t1": _image(t1), "t2": _image(t2), "labels": label, "t1_lesion": dark, "t2_lesion": bright}


def _segmentation(seed: int, number: int, planted: bool, size: int) -> Sample:
    flair, t1ce, masks = mri.tumour_pair(seed, number, size, planted)
    return {"flair": _image(flair), "t1ce": _image(t1ce), "labels": np.array(0, np.int64), **masks}


_SAMPLE: dict[str, Callable[[int, int, bool, int], Sample]] = {
    "classification": _classification,
    "regression": _regression,
    "segmentation": _segmentation,
}
