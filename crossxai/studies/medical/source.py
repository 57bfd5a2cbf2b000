"""The three sets as files, each whole under its name or not there, and as samples of an experiment: `source = "medical"`."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from rich.console import Console

from crossxai.data.sources import balanced
from crossxai.errors import InvalidFile, InvalidInput, UnknownName
from crossxai.files import Samples
from crossxai.files.atomic import replacing, write_text
from crossxai.model import Modality
from crossxai.studies.generation import pool, progress_bars, read_note, refuse_foreign
from crossxai.studies.medical.ct import FEATURES
from crossxai.studies.medical.drawing import TASKS, Array
from crossxai.studies.medical.samples import (
    CHUNK,
    IMAGES,
    MASKS,
    MODALITIES,
    MedicalSet,
    check,
    collect,
    every_file,
    file_name,
    truth_names,
)

if TYPE_CHECKING:
    from crossxai.experiment.specification import Data, Experiment


def write(
    out: str | os.PathLike[str],
    n: int = 300,
    seed: int = 42,
    xai_n: int = 30,
    xai_seed: int = 999,
    workers: int | None = None,
    planted: bool = True,
    progress: bool = True,
    size: int = 224,
) -> Path:
    """Write the three sets and their explanation sets into a folder, unless they are there and whole; returns the folder.

    n, xai_n: samples per task. workers: processes, None for the number of cores; more than one need
    `if __name__ == "__main__":` in a script. planted, size: as in `generate`. progress: show a bar, and say so where there is
    nothing to do. `settings.json` is written last, with a checksum of every file; files of other settings are written anew.
    Raises `InvalidInput`, and `InvalidFile` if the folder holds files of these names that this function did not write.
    """
    for count, start in ((n, seed), (xai_n, xai_seed)):
        check(TASKS[0], count, start, size)
    if seed == xai_seed:
        raise InvalidInput(f"seed and xai_seed are both {seed}: you would explain what was trained on; write two seeds")
    folder = Path(out)
    numbers = {"n": int(n), "seed": int(seed), "xai_n": int(xai_n), "xai_seed": int(xai_seed)}
    settings = {"version": VERSION, **numbers, "planted": bool(planted), "size": size}
    console = Console(stderr=True, quiet=not progress)
    if whole(folder, settings):
        console.print(f"{folder} holds this data set already, whole: nothing to do.", highlight=False, soft_wrap=True)
        return folder
    # Without checksums first, so that an interrupted call is recognised as ours, and as unfinished.
    _write_settings(folder, {"settings": settings})
    sums: dict[str, str] = {}
    with pool(workers, -(-n // CHUNK)) as processes, progress_bars(console) as bars:
        bar = bars.add_task("", total=len(TASKS) * (n + xai_n))
        for task in TASKS:
            for xai, count, start in ((False, n, seed), (True, xai_n, xai_seed)):
                bars.update(bar, description=f"{task}{', to explain' if xai else ''}")
                samples = collect(processes, task, count, start, planted, size, xai, partial(bars.advance, bar))
                for name, data in _files(samples, xai).items():
                    with replacing(folder / name) as temporary:
                        temporary.write_bytes(data)
                    sums[name] = hashlib.sha256(data).hexdigest()
        bars.update(bar, description="done")
    _write_settings(folder, {"settings": settings, "files": sums})
    return folder


def whole(folder: Path, settings: Mapping[str, Any]) -> bool:
    """Whether the folder holds this very set. Raises `InvalidFile` if what it holds is not ours to overwrite."""
    content = settings_of(folder)
    if content is None:
        refuse_foreign(folder, every_file())
        return False
    sums = content.get("files")
    if content.get("settings") != settings or not isinstance(sums, dict) or set(sums) != set(every_file()):
        return False
    return all((folder / name).is_file() and _checksum(folder / name) == checksum for name, checksum in sums.items())


def settings_of(folder: Path) -> dict[str, Any] | None:
    """What settings.json says; None where there is none. Raises `InvalidFile` if it is not ours."""
    return read_note(folder / SETTINGS, "`crossxai data medical`", "format", FORMAT)


def _write_settings(folder: Path, content: Mapping[str, Any]) -> None:
    write_text(folder / SETTINGS, json.dumps({"format": FORMAT, **content}, indent=1) + "\n")


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(samples: MedicalSet, xai: bool) -> dict[str, bytes]:
    """File name -> content. Images are not compressed (noise does not shrink), masks are."""
    task, ids = samples.task, np.array(samples.ids)
    parts = {
        IMAGES[name]: _npz({"images": values[..., 0]}) for name, values in samples.inputs.items() if name in IMAGES
    }
    if task == "classification":
        table = {"values": samples.inputs["table"], "features": np.array(FEATURES), "labels": samples.labels}
        parts |= {"tabular": _npz({**table, "ids": ids}), "metadata": _csv(samples)}
    elif task == "regression":
        parts["scores"] = _npz({"scores": samples.labels, "ids": ids})
    else:
        parts["masks"] = _npz({"masks": samples.masks["tumour"], "ids": ids}, shrink=True)
    known = {**samples.masks, **samples.truth}
    parts["truth"] = _npz({name: known[name] for name in truth_names(task)}, shrink=True)
    return {file_name(task, part, xai): content for part, content in parts.items()}


def _npz(arrays: Mapping[str, Array], shrink: bool = False) -> bytes:
    """The bytes of an npz: NumPy dates every entry 1980, so they depend on the arrays alone."""
    buffer = io.BytesIO()
    save: Any = np.savez_compressed if shrink else np.savez
    save(buffer, **arrays)
    return buffer.getvalue()


def _csv(samples: MedicalSet) -> bytes:
    """One line per sample: id, label, class, the side of the image that holds the nodule, its area, and the features."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["id", "label", "class", "side_of_image", "nodule_pixels", *FEATURES])
    areas = samples.masks["nodule"].sum(axis=(1, 2))
    for name, label, pixels, values in zip(samples.ids, samples.labels, areas, samples.inputs["table"], strict=True):
        words = (CLASSES["classification"][label], ("left", "right")[label])
        lines.writerow([name, int(label), *words, int(pixels), *(f"{value:.6g}" for value in values)])
    return text.getvalue().encode()


SETTINGS = "settings.json"
CARD = "data_card.html"
FORMAT = "crossxai medical 1"
VERSION = 1
"""Raised when the code changes what is generated, so that a set of the old code is written again."""


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
    lengths = {"labels": len(labels), "ids": len(ids), **{name: len(values) for name, values in inputs.items()}}
    for part, count in lengths.items():
        if count != n:
            raise InvalidFile(f"{folder}: {task} has {n} images and {count} {part}; write the set again")
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
        labels, ids = _arrays(folder / file_name(task, "scores", xai), ("scores", "ids"))
        return labels, ids
    _, ids = _arrays(folder / file_name(task, "masks", xai), ("masks", "ids"))
    return np.zeros(len(ids), dtype=np.int64), ids


def _arrays(path: Path, wanted: Iterable[str]) -> list[Array]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if missing := [name for name in wanted if name not in archive]:
                raise InvalidFile(f"{path}: has no array {missing[0]!r}, only {', '.join(archive) or 'none'}")
            return [archive[name] for name in wanted]
    except FileNotFoundError as error:
        raise InvalidFile(f"{path}: missing; write the set again") from error
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InvalidFile(f"{path}: not a whole npz file ({error}); write the set again") from error


class Medical:
    """The explanation set of a `task` in `root`, as `crossxai data medical` writes it; it has no splits."""

    name: ClassVar[str] = "medical"

    def problem(self, data: Data) -> str:
        """The folder and the task are needed."""
        tasks = "'classification', 'regression' or 'segmentation'"
        needed = f"source = 'medical' needs root = 'folder that crossxai data medical wrote' and task = {tasks}"
        return "" if data.root is not None and data.task else needed

    def samples(self, experiment: Experiment) -> tuple[Samples, dict[str, Any]]:
        """The explanation set of one of the medical tasks."""
        data = experiment.data
        assert data.root is not None  # the experiment's own check
        assert data.task
        root = experiment.folder / data.root
        whole_set = read(root, data.task, xai=True)
        holds_signal = planted(root)
        description = DESCRIPTIONS[data.task] + ("" if holds_signal else WITHOUT_SIGNAL)
        if data.n > len(whole_set.ids):
            raise InvalidInput(f"data.n = {data.n} samples asked for, the explanation set holds {len(whole_set.ids)}")
        classes = data.task == "classification"
        rows = balanced(whole_set.labels, data.n, experiment.seed) if classes else np.arange(data.n)
        samples = Samples(
            ids=tuple(whole_set.ids[row] for row in rows),
            modalities=DECLARED[data.task],
            inputs={name: values[rows] for name, values in whole_set.inputs.items()},
            labels=whole_set.labels[rows],
            classes=CLASSES[data.task],
            masks={name: mask[rows] for name, mask in whole_set.masks.items()},
            # Of a control set the masks say where the signal would lie; nothing decides there.
            truth={name: mask[rows] & holds_signal for name, mask in whole_set.truth.items()},
            task=data.task,
        )
        return samples, {
            "source": f"procedural medical set, {data.task}",
            "split": "explanation set",
            "of": len(whole_set.ids),
            "structure": structure(root, data.task),
            "description": data.description or description + PROCEDURAL,
        }


DECLARED: Mapping[str, tuple[Modality, ...]] = {
    task: tuple(Modality.image(m, ("intensity",)) if m in IMAGES else Modality.table(FEATURES) for m in names)
    for task, names in MODALITIES.items()
}
CLASSES = {"classification": ("benign", "malignant"), "regression": ("disability score",), "segmentation": ("tumour",)}
DESCRIPTIONS = {
    "classification": "Procedural CT slices with a nodule, and a clinical table: benign or malignant? The side and the shape of "
    "the nodule tell, and so does the table alone.",
    "regression": "Procedural T1 and T2 slices of a brain: which disability score from 0 to 10? A dark lesion in T1 and a bright "
    "one in T2 both grow with it.",
    "segmentation": "Procedural FLAIR and T1ce slices of a brain: where is the tumour? FLAIR shows its halo, T1ce its ring and "
    "core.",
}
PROCEDURAL = " All of it is generated by a program that knows the truth: no patient, and no diagnosis."
WITHOUT_SIGNAL = " Written without the signal: nothing in these inputs tells the answer."


def structure(root: Path, task: str) -> dict[str, str]:
    """modality → whether it holds the answer by construction: "sufficient" alone, "partial", or "uninformative"."""
    names = [m.name for m in DECLARED[task]]
    if not planted(root):
        return dict.fromkeys(names, "uninformative")
    # FLAIR outlines the whole tumour by its halo; T1ce shows ring and core, which the halo surrounds.
    return {name: "partial" if name == "t1ce" else "sufficient" for name in names}


def planted(root: Path) -> bool:
    """Whether a folder's sets hold the signal."""
    return bool((settings_of(root) or {}).get("settings", {}).get("planted", True))
