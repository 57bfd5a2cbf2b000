"""The HDF5 files that join explaining, evaluating and reporting; the format is specified in docs/file-format.md.

Every file is written under a temporary name and renamed, so that under its final name it is always whole.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from crossxai.attribution import Attribution, Scores
from crossxai.errors import InvalidFile, InvalidInput
from crossxai.files.atomic import replacing
from crossxai.files.parts import (
    data_of,
    read_modalities,
    read_origin,
    read_target,
    write_dimensions,
    write_modality,
    write_origin,
    write_strings,
    write_target,
)
from crossxai.files.records import Origin as Origin
from crossxai.files.records import Predictions as Predictions
from crossxai.files.records import Result as Result
from crossxai.files.records import Samples as Samples
from crossxai.files.records import Task as Task
from crossxai.model import Modality

FORMAT = "crossxai"
VERSION = 1


def write_samples(path: Path, samples: Samples) -> None:
    """Write `samples` to an HDF5 file, atomically."""
    with _writing(path, "samples") as file:
        write_strings(file, "ids", samples.ids)
        file["labels"] = samples.labels
        file.attrs["task"] = samples.task
        write_strings(file, "classes", samples.classes)
        if samples.groups:
            write_strings(file, "groups", samples.groups)
        for modality in samples.modalities:
            values = samples.inputs[modality.name]
            write_modality(file.create_dataset(f"inputs/{modality.name}", data=values, compression="gzip"), modality)
        file.attrs["modalities"] = json.dumps([m.name for m in samples.modalities])
        # HDF5 sorts by name, and the first mask of a segmentation is its region.
        file.attrs["masks"] = json.dumps(list(samples.masks))
        for name, mask in samples.masks.items():
            file.create_dataset(f"masks/{name}", data=mask.astype(np.uint8), compression="gzip")
        for name, truth in samples.truth.items():
            file.create_dataset(f"truth/{name}", data=truth.astype(np.uint8), compression="gzip")


def read_samples(path: Path) -> Samples:
    """Read what `write_samples` wrote; raises `InvalidFile`, or `InvalidInput` for samples that are none."""
    with _reading(path, "samples") as file:
        modalities = read_modalities(file, "inputs")
        contents: dict[str, Any] = {
            "ids": _strings(file, "ids"),
            "inputs": {m.name: file[f"inputs/{m.name}"][()] for m in modalities},
            "labels": file["labels"][()],
            "classes": _strings(file, "classes"),
            "masks": {name: file[f"masks/{name}"][()] for name in _mask_names(file)},
            "truth": {name: data[()] for name, data in file.get("truth", {}).items()},
            "task": file.attrs.get("task", "classification"),
            "groups": _strings(file, "groups") if "groups" in file else (),
        }
    try:
        return Samples(modalities=tuple(modalities), **contents)
    except InvalidInput as error:
        raise InvalidInput(f"{path.name}: {error}") from error


def _mask_names(file: Any) -> list[str]:
    """In the order of the samples that were written; by name in files older than the attribute."""
    given = file.attrs.get("masks")
    return list(file.get("masks", {})) if given is None else [str(name) for name in json.loads(given)]


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write one model's outputs to an HDF5 file, atomically."""
    with _writing(path, "predictions") as file:
        for key in ("model", "framework", "target"):
            file.attrs[key] = getattr(predictions, key)
        file.attrs["info"] = json.dumps(predictions.info)
        file["outputs"] = predictions.outputs
        file["score"] = predictions.score


def read_predictions(path: Path) -> Predictions:
    """Read what `write_predictions` wrote; raises `InvalidFile`."""
    with _reading(path, "predictions") as file:
        return Predictions(
            model=file.attrs["model"],
            framework=file.attrs["framework"],
            outputs=file["outputs"][()],
            score=file["score"][()],
            target=file.attrs["target"],
            info=json.loads(file.attrs["info"]),
        )


_TEXT = ("model", "framework", "label", "library", "status", "reason", "task", "convention", "check")


def write_result(path: Path, result: Result) -> None:
    """Write maps, scores and curves of one explainer on one model to an HDF5 file, atomically."""
    attribution = result.attribution
    with _writing(path, "explanation") as file:
        _write_maps(file, replace(attribution, values=tuple(v.astype(np.float32) for v in attribution.values)))
        for key in _TEXT:
            file.attrs[key] = getattr(result, key)
        file.attrs["judged"] = json.dumps(dict(result.score_hashes))
        write_strings(file, "degenerate", result.degenerate)
        for name, scores in result.scores.items():
            group = file.create_group(f"scores/{name}")
            group.attrs["metric"] = scores.metric
            group.attrs["higher_is_better"] = scores.higher_is_better
            group.attrs["params"] = json.dumps(scores.params)
            group["value"] = scores.value
            if scores.curve is not None:
                group["curve"] = scores.curve
                group["fractions"] = scores.fractions
            for key, per_sample in scores.extras.items():
                group[f"extras/{key}"] = per_sample


def read_result(path: Path) -> Result:
    """Read what `write_result` wrote; raises `InvalidFile`."""
    with _reading(path, "explanation") as file:
        text: dict[str, Any] = {key: str(file.attrs[key]) for key in _TEXT if key != "check"}
        return Result(
            **text,
            attribution=_read_maps(path, file),
            scores={name: _read_scores(name, group) for name, group in file.get("scores", {}).items()},
            degenerate=_strings(file, "degenerate"),
            score_hashes=json.loads(file.attrs["judged"]),
            check=str(file.attrs.get("check", "on")),  # older files do not say
        )


def write_attribution(path: Path, attribution: Attribution, inputs: bool = True) -> Path:
    """Write an attribution to an HDF5 file, atomically; returns the path. inputs: whether with the samples that it explains."""
    with _writing(path, "attribution") as file:
        _write_maps(file, attribution)
        write_target(file, attribution.target)
        if attribution.origin is not None:
            write_origin(file, attribution.origin, inputs)
        write_dimensions(file, attribution)
    return path


def read_attribution(path: Path) -> Attribution:
    """Read what `write_attribution` wrote; raises `InvalidFile`."""
    with _reading(path, "attribution") as file:
        maps = _read_maps(path, file)
        try:
            origin, target = read_origin(file), read_target(file)
        except InvalidInput as error:
            raise InvalidFile(f"{path}: {error}") from error
        known = {} if origin is None else origin.by_name
        rows = [*known.values(), *(() if origin is None else (origin.outputs,)), target]
        if any(hasattr(values, "__len__") and len(values) != len(maps) for values in rows):
            raise InvalidFile(f"{path}: maps of {len(maps)} samples, with inputs, outputs or a target of others")
        inputs = tuple(known[m.name] for m in maps.modalities) if known else None
        return replace(maps, origin=origin, inputs=inputs, target=target)


def _write_maps(file: Any, attribution: Attribution) -> None:
    file.attrs["explainer"], file.attrs["profile"] = attribution.explainer, attribution.profile
    file.attrs["params"] = json.dumps(attribution.params, default=repr)
    file.attrs["seconds"], file.attrs["notes"] = attribution.seconds, json.dumps(attribution.notes)
    write_strings(file, "ids", attribution.ids)
    file.attrs["modalities"] = json.dumps([m.name for m in attribution.modalities])
    for modality, values in zip(attribution.modalities, attribution.values, strict=True):
        chunks = (1, *values.shape[1:]) if modality.spatial and values.size else None  # a sample is read alone
        data = file.create_dataset(
            f"values/{modality.name}", data=values, compression="gzip", shuffle=True, chunks=chunks
        )
        write_modality(data, modality)
    for name, extra in attribution.extras.items():
        file[f"extras/{name}"] = extra


def _read_maps(path: Path, file: Any) -> Attribution:
    ids, maps = _strings(file, "ids"), data_of(file.get("values", {}))
    for name, data in maps.items():
        if len(data) != len(ids) or not np.issubdtype(data.dtype, np.floating):
            raise InvalidFile(f"{path}: values/{name} is {data.dtype} {data.shape} for {len(ids)} samples")
    if "modalities" in file.attrs:
        modalities = read_modalities(file, "values")
    else:  # files of a run up to 0.5 leave them to its samples
        modalities = [m for m in _modalities_of_run(path) if m.name in maps] if maps else []
    try:
        return Attribution(
            values=tuple(maps[m.name][()] for m in modalities),
            modalities=tuple(modalities),
            ids=ids,
            explainer=str(file.attrs["explainer"]),
            profile=str(file.attrs["profile"]),
            params=json.loads(file.attrs["params"]),
            extras={name: data[()] for name, data in data_of(file.get("extras", {})).items()},
            seconds=float(file.attrs["seconds"]),
            notes=tuple(map(str, json.loads(file.attrs.get("notes", "[]")))),  # older files have none
        )
    except InvalidInput as error:
        raise InvalidFile(f"{path}: {error}") from error


def _modalities_of_run(path: Path) -> list[Modality]:
    """Those of the samples beside explanations/<model>/<label>.h5."""
    with _reading(path.parents[2] / "samples.h5", "samples") as file:
        return read_modalities(file, "inputs")


def _read_scores(name: str, group: Any) -> Scores:
    return Scores(
        metric=group.attrs.get("metric", name),
        value=group["value"][()],
        higher_is_better=bool(group.attrs["higher_is_better"]),
        curve=group["curve"][()] if "curve" in group else None,
        fractions=group["fractions"][()] if "fractions" in group else None,
        extras={key: data[()] for key, data in group.get("extras", {}).items()},
        params=json.loads(group.attrs["params"]),
    )


def ours(path: Path) -> bool:
    """Whether a file is one of these, so that a run may replace or remove it."""
    try:
        with h5py.File(path, "r") as file:
            return bool(file.attrs.get("format") == FORMAT)
    except OSError:
        return False


def writable_folder(path: Path) -> Path:
    """Make a folder, and prove that a file can be written in it; raises `InvalidFile`."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InvalidFile(f"cannot write in {path}: {error.strerror or error}; choose another by --out") from error
    return path


@contextmanager
def _writing(path: Path, kind: str) -> Iterator[Any]:
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs["version"] = VERSION
        file.attrs["kind"] = kind
        yield file


@contextmanager
def _reading(path: Path, kind: str) -> Iterator[Any]:
    if not path.is_file():
        raise InvalidFile(f"{path} does not exist")
    try:
        with h5py.File(path, "r") as file:
            header = (file.attrs.get("format"), file.attrs.get("kind"))
            if header != (FORMAT, kind):
                raise InvalidFile(
                    f"{path} is no CrossXAI {kind} file: it says format {header[0]!r}, kind {header[1]!r}"
                )
            if file.attrs["version"] > VERSION:
                newer = file.attrs["version"]
                raise InvalidFile(f"{path} has format version {newer}; this CrossXAI reads up to {VERSION}")
            yield file
    except InvalidFile:
        raise
    except OSError as error:
        raise InvalidFile(f"{path} cannot be read as HDF5 (truncated or damaged?): {error}") from error
    except (KeyError, json.JSONDecodeError) as error:
        raise InvalidFile(f"{path} lacks what a CrossXAI {kind} file holds: {error}") from error
    except (RuntimeError, TypeError, AttributeError, UnicodeDecodeError) as error:  # what h5py makes of flipped bytes
        raise InvalidFile(f"{path} is damaged: {error}") from error


def _strings(file: Any, name: str) -> tuple[str, ...]:
    return tuple(text.decode() for text in file[name][()])
