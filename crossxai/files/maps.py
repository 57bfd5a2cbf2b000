"""Files of maps: those that travel alone, and those of a run, whose samples and outputs lie beside them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crossxai.attribution import Attribution
from crossxai.errors import InvalidFile, InvalidInput
from crossxai.files.opening import reading, rows_of, strings, write_strings, writing
from crossxai.files.parts import (
    data_of,
    read_modalities,
    read_origin,
    read_target,
    write_dimensions,
    write_modality,
    write_origin,
    write_target,
)
from crossxai.files.records import Samples, extras_of
from crossxai.files.samples import read_samples
from crossxai.files.spaces import read_spaces, write_spaces
from crossxai.model import Array, Modality


def write_attribution(path: Path, attribution: Attribution, inputs: bool = True) -> Path:
    """Write an attribution to an HDF5 file, atomically; returns the path. inputs: whether with the samples that it explains."""
    with writing(path, "attribution") as file:
        write_strings(file, "ids", attribution.ids)
        write_words(file, attribution)
        write_values(file, attribution)
        write_target(file, attribution.target)
        write_spaces(file, attribution.spaces)
        if attribution.origin is not None:
            write_origin(file, attribution.origin, inputs)
        write_dimensions(file, attribution)
    return path


def read_attribution(path: Path) -> Attribution:
    """Read what `write_attribution` wrote, or maps of a run, with what lies beside them; raises `InvalidFile`."""
    with reading(path, "attribution", "explanation") as file:
        maps = read_maps(path, file)
        if file.attrs["kind"] == "explanation":
            if file.attrs["status"] != "ok":
                raise InvalidFile(f"{path} holds no maps: {file.attrs['reason']}")
            return _of_run(path, maps)
        try:
            origin, target, spaces = read_origin(file), read_target(file), read_spaces(file, len(maps))
        except InvalidInput as error:
            raise InvalidFile(f"{path}: {error}") from error
        known = {} if origin is None else origin.by_name
        rows = [*known.values(), *(() if origin is None else (origin.outputs,)), target]
        if any(hasattr(values, "__len__") and len(values) != len(maps) for values in rows):
            raise InvalidFile(f"{path}: maps of {len(maps)} samples, with inputs, outputs or a target of others")
        inputs = tuple(known[m.name] for m in maps.modalities) if known else None
        return replace(maps, origin=origin, inputs=inputs, target=target, spaces=spaces)


def _of_run(path: Path, maps: Attribution) -> Attribution:
    """Maps of explanations/<model>/<label>.h5 with the samples, target and origin that the run's other files hold."""
    run, model = path.resolve().parent.parent.parent, path.resolve().parent.name
    if not (run / "samples.h5").is_file():
        raise InvalidFile(
            f"{path} is part of a run, and {run / 'samples.h5'} is not there: leave it in the run's folder, or save the maps "
            "alone, xai.Run(folder).maps[…].save(…)"
        )
    return with_run(maps, run, model, read_samples(run / "samples.h5"))


def with_run(maps: Attribution, run: Path, model: str, samples: Samples) -> Attribution:
    """Maps of a run with samples, target and origin, of the samples whose maps were kept; with samples alone where the run is
    older than 0.6. Raises `InvalidFile`."""
    every = len(maps) == len(samples.ids)
    if not every:
        places = {name: place for place, name in enumerate(samples.ids)}
        if not set(maps.ids) <= set(places):
            raise InvalidFile(f"{run}: maps of {maps.explainer} are of other samples than samples.h5")
        rows = np.array([places[name] for name in maps.ids], dtype=np.intp)
        maps, samples = replace(maps, extras=extras_of(maps.extras, rows, len(samples.ids))), samples[rows]
    explained = tuple(samples.inputs[m.name] for m in maps.modalities)
    maps = replace(maps, spaces=samples.spaces)
    with reading(run / "predictions" / f"{model}.h5", "predictions") as file:
        own, target = read_origin(file), read_target(file)
        if own is not None and not every:
            own = replace(own, inputs=tuple(v[rows] for v in own.inputs), outputs=own.outputs[rows])
        target = target[rows] if not every and hasattr(target, "__getitem__") else target
        if own is None:
            return replace(maps, inputs=explained)
        names = json.loads(file.attrs["modalities"])
        inputs = {**samples.inputs, **own.by_name}
        modalities = {m.name: m for m in (*samples.modalities, *own.modalities)}
        params = {k: v for k, v in maps.params.items() if v is not None and k not in ("profile", "seed")}
        spec = {"name": maps.explainer, "profile": maps.profile, "params": params}
        origin = replace(
            own,
            modalities=tuple(modalities[name] for name in names),
            inputs=tuple(inputs[name] for name in names),
            recipe={**own.recipe, "seed": maps.params.get("seed", 0), "explainer": spec},
        )
    return replace(maps, origin=origin, inputs=tuple(inputs[m.name] for m in maps.modalities), target=target)


def write_words(file: Any, attribution: Attribution) -> None:
    """Write who made maps and how, and what else the explainer learnt."""
    file.attrs["explainer"], file.attrs["profile"] = attribution.explainer, attribution.profile
    file.attrs["params"] = json.dumps(attribution.params, default=repr)
    file.attrs["seconds"], file.attrs["notes"] = attribution.seconds, json.dumps(attribution.notes)
    for name, extra in attribution.extras.items():
        file[f"extras/{name}"] = extra


HALF = "float16"
"""Maps in half precision, each by a scale of its own, so that neither small nor large ones are lost."""


def write_values(file: Any, attribution: Attribution, half: bool = False) -> None:
    """Write the maps themselves."""
    file.attrs["modalities"] = json.dumps([m.name for m in attribution.modalities])
    for modality, values in zip(attribution.modalities, attribution.values, strict=True):
        chunks = (1, *values.shape[1:]) if modality.spatial and values.size else None  # a sample is read alone
        if half:
            values, file[f"scales/{modality.name}"] = _halved(values)
        data = file.create_dataset(
            f"values/{modality.name}", data=values, compression="gzip", shuffle=True, chunks=chunks
        )
        write_modality(data, modality)


def _halved(values: Array) -> tuple[Array, Array]:
    """Maps in half precision, and the largest absolute value of each, by which they were divided."""
    sizes = np.abs(np.where(np.isfinite(values), values, 0)).reshape(len(values), -1).max(axis=1, initial=0)
    scales = np.where(sizes > 0, sizes, 1).astype(np.float32)
    return (values / scales.reshape(-1, *[1] * (values.ndim - 1))).astype(np.float16), scales


def _values(file: Any, name: str, data: Any, places: npt.NDArray[np.intp] | None = None) -> Array:
    values = np.asarray(data[()] if places is None else rows_of(data, places))
    if "scales" not in file:
        return values
    scales = file["scales"][name][()]
    scales = scales if places is None else scales[places]
    return np.asarray(values.astype(np.float32) * scales.reshape(-1, *[1] * (values.ndim - 1)))


def kept_rows(path: Path, file: Any) -> npt.NDArray[np.intp] | None:
    """The places of the samples whose maps a file holds, None for all; raises `InvalidFile`."""
    if "kept" not in file:
        return None
    rows: npt.NDArray[np.intp] = file["kept"][()]
    n = len(file["ids"])
    if len(rows) and not (rows[0] >= 0 and (np.diff(rows) > 0).all() and rows[-1] < n):
        raise InvalidFile(f"{path}: kept is no list of samples among {n}")
    return rows


def read_maps(path: Path, file: Any, values: bool = True, rows: npt.NDArray[np.intp] | None = None) -> Attribution:
    """The maps of a file, of those samples alone whose maps were kept, or of these alone; without their values, all that is said
    of them."""
    ids, maps = strings(file, "ids"), data_of(file.get("values", {})) if values else {}
    held, places = kept_rows(path, file) if values else None, None
    n = len(ids) if held is None else len(held)
    for name, data in maps.items():
        if len(data) != n or not np.issubdtype(data.dtype, np.floating):
            raise InvalidFile(f"{path}: values/{name} is {data.dtype} {data.shape} for {n} samples")
    if rows is not None and values:
        places = rows if held is None else np.searchsorted(held, rows)
        held = rows
    ids = ids if held is None else tuple(ids[row] for row in held)
    if "modalities" in file.attrs:
        modalities = read_modalities(file, "values")
    else:  # files of a run up to 0.5 leave them to its samples
        modalities = [m for m in _modalities_of_run(path) if m.name in maps] if maps else []
    modalities = modalities if values else []
    try:
        return Attribution(
            values=tuple(_values(file, m.name, maps[m.name], places) for m in modalities),
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
    with reading(path.parents[2] / "samples.h5", "samples") as file:
        return read_modalities(file, "inputs")
