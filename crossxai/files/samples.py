"""Files of samples, and of what each model said of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from crossxai.errors import InvalidInput
from crossxai.files.opening import reading, rows_of, strings, write_strings, writing
from crossxai.files.parts import read_modalities, write_modality, write_origin, write_target
from crossxai.files.records import Origin, Predictions, Samples
from crossxai.files.spaces import read_spaces, write_spaces
from crossxai.model import Array
from crossxai.on_demand import HELD, PART, OnDemand, Rows

KEPT = "kept"
"""The attribute of a data set that holds the rows of samples whose maps were kept, and no others."""
LEFT_OUT = ("left_out/files", "left_out/reasons")
"""Files that are no samples, and why."""


def write_samples(path: Path, samples: Samples, kept: Rows | None = None) -> None:
    """Write `samples` to an HDF5 file, atomically. kept: the places of those whose images are written, in order; all if None."""
    with writing(path, "samples") as file:
        if kept is not None:
            file["kept"] = kept
        write_strings(file, "ids", samples.ids)
        file["labels"] = samples.labels
        file.attrs["task"] = samples.task
        write_strings(file, "classes", samples.classes)
        if samples.groups:
            write_strings(file, "groups", samples.groups)
        if samples.left_out:
            for key, texts in zip(LEFT_OUT, zip(*samples.left_out, strict=True), strict=True):
                write_strings(file, key, texts)
        write_spaces(file, samples.spaces)
        for modality in samples.modalities:
            some = kept is not None and modality.spatial
            values = samples.inputs[modality.name][kept if some else slice(None)]
            data = file.create_dataset(f"inputs/{modality.name}", data=values, **_stored(values))
            write_modality(data, modality)
            if some:
                data.attrs[KEPT] = True
        file.attrs["modalities"] = json.dumps([m.name for m in samples.modalities])
        # HDF5 sorts by name, and the first mask of a segmentation is its region.
        file.attrs["masks"] = json.dumps(list(samples.masks))
        for name, mask in samples.masks.items():
            file.create_dataset(f"masks/{name}", data=mask.astype(np.uint8), **_stored(mask))
        for name, truth in samples.truth.items():
            file.create_dataset(f"truth/{name}", data=truth.astype(np.uint8), **_stored(truth))


def _stored(values: Any) -> dict[str, Any]:
    """How a data set is stored: compressed, and of images so that one sample is read alone."""
    return {"compression": "gzip", "chunks": (1, *values.shape[1:]) if values.ndim > 2 and values.size else None}


def read_samples(path: Path) -> Samples:
    """Read what `write_samples` wrote; raises `InvalidFile`, or `InvalidInput` for samples that are none. Of more inputs than
    `HELD`, or masks than `PART`, and where some images were not kept, rows are read when they are asked for."""
    with reading(path, "samples") as file:
        modalities = read_modalities(file, "inputs")
        kept = file["kept"][()] if "kept" in file else None
        ids = strings(file, "ids")
        contents: dict[str, Any] = {
            "ids": ids,
            "inputs": {m.name: _rows(path, file[f"inputs/{m.name}"], ids, kept) for m in modalities},
            "labels": file["labels"][()],
            "classes": strings(file, "classes"),
            "masks": {name: _rows(path, file[f"masks/{name}"], ids, most=PART) for name in _mask_names(file)},
            "truth": {name: _rows(path, data, ids, most=PART) for name, data in file.get("truth", {}).items()},
            "task": file.attrs.get("task", "classification"),
            "groups": strings(file, "groups") if "groups" in file else (),
            "left_out": tuple(zip(*(strings(file, key) for key in LEFT_OUT if key in file), strict=True)),
            "spaces": read_spaces(file, len(file["ids"])),
        }
    try:
        return Samples(modalities=tuple(modalities), **contents)
    except InvalidInput as error:
        raise InvalidInput(f"{path.name}: {error}") from error


def _rows(path: Path, data: Any, ids: tuple[str, ...], kept: Rows | None = None, most: int = HELD) -> Any:
    """The rows of a data set, of those kept where it holds no others."""
    kept = kept if data.attrs.get(KEPT) else None
    if kept is None and data.nbytes <= most:
        return data[()]
    name = data.name

    def read(rows: Rows) -> Array:
        places = rows if kept is None else np.searchsorted(kept, rows)
        if kept is not None and not np.isin(rows, kept).all():
            lost = ids[rows[~np.isin(rows, kept)][0]]
            raise InvalidInput(f"{path}: the image of {lost} was not kept, as its maps were not (keep_maps)")
        with reading(path, "samples") as file:
            return np.asarray(rows_of(file[name], places))

    return OnDemand((len(ids), *data.shape[1:]), data.dtype, read)


def _mask_names(file: Any) -> list[str]:
    """In the order of the samples that were written; by name in files older than the attribute."""
    given = file.attrs.get("masks")
    return list(file.get("masks", {})) if given is None else [str(name) for name in json.loads(given)]


def write_predictions(
    path: Path,
    predictions: Predictions,
    target: Any = None,
    origin: Origin | None = None,
    samples: Samples | None = None,
) -> None:
    """Write one model's outputs to an HDF5 file, atomically. target, origin: of the maps that a run makes of this model, by which
    they are evaluated elsewhere; inputs are written where they are not those of the run's samples."""
    with writing(path, "predictions") as file:
        for key in ("model", "framework", "target"):
            file.attrs[key] = getattr(predictions, key)
        file.attrs["info"] = json.dumps(predictions.info)
        write_target(file, target)
        if origin is not None:
            known = {} if samples is None else samples.inputs
            file.attrs["modalities"] = json.dumps([m.name for m in origin.modalities])
            pairs = zip(origin.modalities, origin.inputs, strict=True)
            own = [(m, values) for m, values in pairs if not np.array_equal(values, known.get(m.name, ()))]
            modalities, inputs = tuple(m for m, _ in own), tuple(values for _, values in own)
            write_origin(file, replace(origin, modalities=modalities, inputs=inputs), inputs=True)
        file["outputs"] = predictions.outputs if origin is None else file["origin/outputs"]
        file["score"] = predictions.score


def read_predictions(path: Path) -> Predictions:
    """Read what `write_predictions` wrote; raises `InvalidFile`."""
    with reading(path, "predictions") as file:
        return Predictions(
            model=file.attrs["model"],
            framework=file.attrs["framework"],
            outputs=file["outputs"][()],
            score=file["score"][()],
            target=file.attrs["target"],
            info=json.loads(file.attrs["info"]),
        )
