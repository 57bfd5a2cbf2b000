"""Parts that several kinds of files hold: modalities, what was explained, and the model and samples that maps were made of."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from crossxai.files.records import Origin
from crossxai.model import Modality
from crossxai.target import Target

_TEXT = ("model", "framework", "weights")
_JSON = ("preprocessing", "versions")


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
    stored |= {key: json.loads(group.attrs[key]) for key in _JSON}
    inputs = tuple(group[f"inputs/{m.name}"][()] for m in modalities)
    for modality, values in zip(modalities, inputs, strict=True):
        modality.check(values)
    return Origin(**stored, outputs=group["outputs"][()], modalities=modalities, inputs=inputs)
