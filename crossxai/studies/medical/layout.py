"""The files of the three sets: which names there are, and which arrays each holds."""

from __future__ import annotations

from crossxai.studies.medical.samples import MASKS, MODALITIES, PREFIXES, TASKS

SETTINGS = "settings.json"
CARD = "data_card.html"
FORMAT = "crossxai medical 1"
VERSION = 1
"""Raised when the code changes what is generated, so that a set of the old code is written again."""

IMAGES = {"ct": "images", "t1": "t1", "t2": "t2", "flair": "flair", "t1ce": "t1ce"}
"""Modality -> what its file is called after the prefix; the array inside is called `images`."""


def file_name(task: str, part: str, xai: bool = False) -> str:
    """cls_images.npz, or cls_xai_images.npz; part "metadata" is a CSV."""
    return f"{PREFIXES[task]}_{'xai_' if xai else ''}{part}.{'csv' if part == 'metadata' else 'npz'}"


def parts(task: str) -> tuple[str, ...]:
    """What the files of a task are called after their prefix, in the order in which they are written."""
    images = tuple(IMAGES[m] for m in MODALITIES[task] if m in IMAGES)
    rest = {
        "classification": ("tabular", "metadata"),
        "regression": ("scores",),
        "segmentation": ("masks",),
    }[task]
    return (*images, *rest, "truth")


def every_file() -> tuple[str, ...]:
    """All data files of a folder: three tasks, training and explanation sets."""
    return tuple(file_name(t, p, xai) for t in TASKS for xai in (False, True) for p in parts(t))


def truth_names(task: str) -> tuple[str, ...]:
    """The arrays of a truth file: the masks by name, then the truth by modality."""
    return (*MASKS[task], *(m for m in MODALITIES[task] if m in IMAGES))
