"""One task's samples from the files that `write` wrote, checked before they are used."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from crossxai.errors import InvalidFile, UnknownName
from crossxai.studies.medical.layout import IMAGES, SETTINGS, file_name, truth_names
from crossxai.studies.medical.samples import MASKS, MODALITIES, TASKS, Array, MedicalSet
from crossxai.studies.medical.table import FEATURES
from crossxai.studies.medical.writing import settings_of


def read(root: str | os.PathLike[str], task: str, xai: bool = False) -> MedicalSet:
    """The samples of one task; xai=True reads the explanation set. Raises `InvalidFile` and `UnknownName`."""
    if task not in TASKS:
        raise UnknownName("task", str(task), TASKS)
    folder = Path(root)
    settings = settings_of(folder)
    if settings is None:
        raise InvalidFile(f"{folder}: no {SETTINGS} there; write the set with `crossxai data medical --out {folder}`")
    if "files" not in settings:
        raise InvalidFile(f"{folder}: was not finished; call `crossxai data medical --out {folder}` again")
    inputs: dict[str, Array] = {}
    for modality in MODALITIES[task]:
        if modality in IMAGES:
            path = folder / file_name(task, IMAGES[modality], xai)
            (images,) = _arrays(path, ("images",))
            if images.dtype != np.float32 or images.ndim != 3 or not len(images):
                raise InvalidFile(f"{path}: images are {images.dtype} {images.shape}, not float32 (n, height, width)")
            if not (images.min() >= 0 and images.max() <= 1):  # NaN fails too
                raise InvalidFile(f"{path}: images leave [0, 1]")
            inputs[modality] = images[..., None]
    n, height, width = next(iter(inputs.values())).shape[:3]
    labels, ids = _labels(folder, task, xai, inputs)
    path = folder / file_name(task, "truth", xai)
    known = dict(zip(truth_names(task), _arrays(path, truth_names(task)), strict=True))
    for name, mask in known.items():
        if mask.dtype != np.bool_ or mask.shape != (n, height, width):
            raise InvalidFile(f"{path}: {name} is {mask.dtype} {mask.shape}, not bool {(n, height, width)}")
    for what, count in (("labels", len(labels)), ("ids", len(ids)), *((m, len(v)) for m, v in inputs.items())):
        if count != n:
            raise InvalidFile(f"{folder}: {task} has {n} images and {count} {what}; write the set again")
    masks = {name: known[name] for name in MASKS[task]}
    truth = {name: known[name] for name in MODALITIES[task] if name in known}
    return MedicalSet(task, tuple(str(name) for name in ids), inputs, labels, masks, truth)


def _labels(folder: Path, task: str, xai: bool, inputs: dict[str, Array]) -> tuple[Array, Array]:
    """(labels, ids); adds the table to the inputs of the classification."""
    if task == "classification":
        path = folder / file_name(task, "tabular", xai)
        values, features, labels, ids = _arrays(path, ("values", "features", "labels", "ids"))
        if tuple(features.tolist()) != FEATURES or values.ndim != 2 or values.shape[1] != len(FEATURES):
            raise InvalidFile(f"{path}: columns are {features.tolist()} {values.shape}, not {list(FEATURES)}")
        if values.dtype != np.float32 or not np.isfinite(values).all():
            raise InvalidFile(f"{path}: values are {values.dtype}, or not all finite; they must be finite float32")
        inputs["table"] = values
        return labels, ids
    if task == "regression":
        scores, ids = _arrays(folder / file_name(task, "scores", xai), ("scores", "ids"))
        return scores, ids
    _, ids = _arrays(folder / file_name(task, "masks", xai), ("masks", "ids"))
    return np.zeros(len(ids), dtype=np.int64), ids


def _arrays(path: Path, wanted: Iterable[str]) -> list[Array]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            missing = [name for name in wanted if name not in found]
            if missing:
                raise InvalidFile(f"{path}: has no array {missing[0]!r}, only {', '.join(found) or 'none'}")
            return [found[name] for name in wanted]
    except FileNotFoundError as error:
        raise InvalidFile(f"{path}: missing; write the set again") from error
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InvalidFile(f"{path}: not a whole npz file ({error}); write the set again") from error
