"""What a finished checkpoint is worth: figures on held-out samples, and the same of its Keras twin."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crossxai.model import Array, Model
from crossxai.studies.networks import checkpoint
from crossxai.studies.networks.loading import load
from crossxai.studies.training.fusion import FusionSettings, Rows, Values, shuffled
from crossxai.studies.training.tasks import BY_NAME

if TYPE_CHECKING:
    from crossxai.studies.medical import MedicalSet


def certified(path: str | os.PathLike[str], data: MedicalSet, rows: Mapping[str, Rows], keras: bool) -> dict[str, Any]:
    """The checkpoint's meta with "metrics": {"valid": …, "test": …} by torch, and with `keras` "keras": {"test": …,
    "largest_difference": of outputs on the test rows, "largest_output": …}; what is missing is measured and written to the file.

    Each framework's figures are those of the model that `crossxai.studies.networks.loading.load` gives.
    """
    held = checkpoint.read(path, None)
    meta = dict(held.meta)
    if meta.get("metrics") and ("keras" in meta or not keras):
        return meta
    task = BY_NAME[meta["task"]]
    inputs, targets = shuffled(data, task, FusionSettings(**meta["settings"])), task.targets(data)
    first = load(path, "torch").model
    outputs = {part: predicted(first, inputs, rows[part]) for part in ("valid", "test")}
    meta["metrics"] = {part: task.metrics(found, targets[rows[part]]) for part, found in outputs.items()}
    if keras:
        twin = predicted(load(path, "tensorflow").model, inputs, rows["test"])
        meta["keras"] = {
            "test": task.metrics(twin, targets[rows["test"]]),
            "largest_difference": float(np.abs(twin - outputs["test"]).max()),
            "largest_output": float(np.abs(outputs["test"]).max()),
        }
    checkpoint.write_modalities(Path(path), held.weights, held.standardise, meta)
    return meta


def predicted(model: Model, inputs: Mapping[str, Values], rows: Rows, batch_size: int = 16) -> Array:
    """Outputs of some samples, raw inputs by modality."""
    parts = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    return np.concatenate([model.predict(tuple(inputs[m.name][part] for m in model.modalities)) for part in parts])
