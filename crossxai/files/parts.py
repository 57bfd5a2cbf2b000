"""Parts that several kinds of files hold: modalities, what was explained, and the model and samples that maps were made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from crossxai.attribution import Attribution
from crossxai.files.opening import write_strings
from crossxai.files.records import Origin
from crossxai.model import Modality
from crossxai.target import Target

_TEXT = ("model", "framework", "weights")
SCALE = b"DIMENSION_SCALE"
_JSON = ("preprocessing", "versions", "recipe")


def write_modality(data: Any, modality: Modality) -> None:
    """Write a modality's axes, names and range as attributes of its data."""
    data.attrs["axes"] = json.dumps(modality.axes)
    data.attrs["features"] = json.dumps(modality.features)
    data.attrs["range"] = json.dumps(modality.range)


def read_modalities(file: Any, group: str, attribute: str = "modalities") -> list[Modality]:
    """The modalities of the data sets of a group, in the order that the attribute says."""
    modalities = []
    for name in json.loads(file.attrs[attribute]):
        stored = {key: json.loads(file[group][name].attrs[key]) for key in ("axes", "features", "range")}
        limits = stored["range"]
        axes, features = tuple(stored["axes"]), tuple(stored["features"])
        modalities.append(Modality(name, axes, features, tuple(limits) if limits else None))
    return modalities


def write_dimensions(file: Any, attribution: Attribution) -> None:
    """Name every axis of a file of maps as netCDF does, by which xarray and what turns HDF5 into zarr know them: a dimension
    scale for each, beside the data; of samples and features with their names."""
    ids = attribution.ids
    file["ids"].make_scale("ids")
    if "target" in file and file["target"].ndim:
        _name_axes(file, "target", ("ids", *(f"output_{k}" for k in range(1, file["target"].ndim))), {})
    for name in [*file.get("extras", {})]:
        further = (f"{name}_{k}" for k in range(1, file["extras"][name].ndim))
        _name_axes(file["extras"], name, ("sample", *further), {"sample": ids})
    known = attribution.origin.modalities if "origin/inputs" in file else ()
    for place, modalities in (("values", attribution.modalities), ("origin/inputs", known)):
        for m in modalities:
            axes = tuple(f"{m.name}_{axis}" for axis in m.axes)
            _name_axes(file[place], m.name, ("sample", *axes), {"sample": ids, axes[-1]: m.features})
    if "origin" in file:
        further = (f"output_{k}" for k in range(1, file["origin/outputs"].ndim))
        _name_axes(file["origin"], "outputs", ("sample", *further), {"sample": ids})


def _name_axes(group: Any, data: str, axes: tuple[str, ...], names: Mapping[str, tuple[str, ...]]) -> None:
    """names: by axis, of its places; left out where the data has another number of them, as a map per pixel has channels."""
    values = group[data]
    for place, axis in enumerate(axes):
        size = values.shape[place]
        if axis not in group:
            if len(names.get(axis, ())) == size:
                write_strings(group, axis, names[axis]).make_scale(axis)
            else:  # netCDF's words for an axis without coordinates
                empty = f"This is a netCDF dimension but not a netCDF variable. {size:9d}"
                group.create_dataset(axis, (size,), "f4").make_scale(empty)
        if group[axis].attrs.get("CLASS") == SCALE:  # an input may have the name of an axis
            values.dims[place].attach_scale(group[axis])


def data_of(group: Any) -> dict[str, Any]:
    """The data sets of a group that are no names of axes."""
    return {name: data for name, data in group.items() if data.attrs.get("CLASS") != SCALE}


def write_target(file: Any, target: Any) -> None:
    """Write what was explained: weights with their link, or classes; nothing of a measure that is neither."""
    if isinstance(target, Target):
        file.create_dataset("target", data=target.weights, compression="gzip").attrs["link"] = target.link
    elif isinstance(target, int | np.integer | np.ndarray):
        file["target"] = target


def read_target(file: Any) -> Any:
    """What `write_target` wrote; None where nothing was written."""
    if "target" not in file:
        return None
    values, link = file["target"][()], file["target"].attrs.get("link")
    return values if link is None else Target(values, link)


def write_origin(file: Any, origin: Origin, inputs: bool) -> None:
    """Write where maps come from; inputs: whether with the samples themselves."""
    group = file.create_group("origin")
    for key in _TEXT:
        group.attrs[key] = getattr(origin, key)
    for key in _JSON:
        group.attrs[key] = json.dumps(getattr(origin, key))
    group["outputs"] = origin.outputs
    if inputs and origin.inputs:
        for modality, values in zip(origin.modalities, origin.inputs, strict=True):
            data = group.create_dataset(f"inputs/{modality.name}", data=values, compression="gzip", shuffle=True)
            write_modality(data, modality)
        group.attrs["modalities"] = json.dumps([m.name for m in origin.modalities])


def read_origin(file: Any) -> Origin | None:
    """What `write_origin` wrote; None of maps that do not say where they come from. Raises `InvalidInput` for samples that
    are not as their modalities declare."""
    if "origin" not in file:
        return None
    group = file["origin"]
    modalities = tuple(read_modalities(group, "inputs")) if "inputs" in group else ()
    stored: dict[str, Any] = {key: str(group.attrs[key]) for key in _TEXT}
    stored |= {key: json.loads(group.attrs.get(key, "{}")) for key in _JSON}
    inputs = tuple(group[f"inputs/{m.name}"][()] for m in modalities)
    for modality, values in zip(modalities, inputs, strict=True):
        modality.check(values)
    return Origin(**stored, outputs=group["outputs"][()], modalities=modalities, inputs=inputs)
