"""The three medical tasks, and training a fusion network on one: from samples in memory to a checkpoint with held-out figures."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from crossxai.errors import InvalidInput, UnknownName
from crossxai.model import Array, Modality, Model
from crossxai.process import require
from crossxai.studies.networks import weight_files
from crossxai.studies.networks.loading import load
from crossxai.studies.training.patch_loop import Metrics, Plan
from crossxai.studies.training.resnet18 import metrics_of

if TYPE_CHECKING:
    import torch

    from crossxai.studies.medical import MedicalSet
    from crossxai.studies.training.fusion_loop import Status


RECIPE = 1
"""Raised when the code changes what is trained, so that checkpoints of the old code are not taken for the new."""

Rows = npt.NDArray[np.intp]
Values = npt.NDArray[Any]


@dataclass(frozen=True)
class Task:
    """architecture: the network's name. outputs: width of its last layer. modalities: in the network's order; features: names of
    a table's columns. epochs, patience: defaults, measured on 300 samples."""

    name: str
    architecture: str
    outputs: int
    modalities: tuple[str, ...]
    epochs: int
    patience: int
    batch_size: int

    def declared(self, features: tuple[str, ...]) -> tuple[Modality, ...]:
        """The network's modalities; features name the columns of the table."""
        return tuple(
            Modality.table(features, name) if name == "table" else Modality.image(name, ("intensity",))
            for name in self.modalities
        )

    def targets(self, data: MedicalSet) -> npt.NDArray[Any]:
        """What the network should say: labels int64 (n,), scores float32 (n, 1), masks float32 (n, size, size, 1)."""
        if data.task != self.name:
            raise InvalidInput(f"the data are of task {data.task!r}, not {self.name!r}")
        if self.name == "classification":
            return np.asarray(data.labels, np.int64)
        if self.name == "regression":
            return np.asarray(data.labels, np.float32)[:, None]
        return np.asarray(data.masks["tumour"], np.float32)[..., None]

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy; mean squared error; binary cross-entropy plus 1 - soft Dice, where small masks count as much."""
        from torch.nn import functional

        if self.name == "classification":
            return functional.cross_entropy(outputs, targets)
        if self.name == "regression":
            return functional.mse_loss(outputs, targets)
        inside = outputs.sigmoid()
        axes = (1, 2, 3)
        overlap = 2 * (inside * targets).sum(axes) + 1
        dice = overlap / (inside.sum(axes) + targets.sum(axes) + 1)
        return functional.binary_cross_entropy_with_logits(outputs, targets) + (1 - dice).mean()

    def metrics(self, outputs: Array, targets: npt.NDArray[Any]) -> Metrics:
        """Held-out figures of raw outputs (n, *out), channels last, and the number of samples."""
        if self.name == "classification":
            return metrics_of(outputs, targets)
        if self.name == "regression":
            error = outputs.astype(np.float64) - targets
            constant = len(targets) < 2 or np.ptp(outputs) == 0 or np.ptp(targets) == 0
            r = float("nan") if constant else float(np.corrcoef(outputs[:, 0], targets[:, 0])[0, 1])
            rmse, mae = float(np.sqrt((error**2).mean())), float(abs(error).mean())
            return {"n": len(targets), "rmse": rmse, "r": r, "mae": mae}
        region, true = outputs > 0, targets > 0.5
        overlap = (region & true).sum((1, 2, 3))
        both, either = region.sum((1, 2, 3)) + true.sum((1, 2, 3)), (region | true).sum((1, 2, 3))
        empty = both == 0  # nothing found where nothing is: all right
        return {
            "n": len(targets),
            "dice": float(np.where(empty, 1, 2 * overlap / np.maximum(both, 1)).mean()),
            "iou": float(np.where(empty, 1, overlap / np.maximum(either, 1)).mean()),
        }


BY_NAME = {
    task.name: task
    for task in (
        Task("classification", "fusion_classifier", 2, ("ct", "table"), 12, 4, 16),
        Task("regression", "fusion_regressor", 1, ("t1", "t2"), 12, 6, 16),
        Task("segmentation", "fusion_unet", 1, ("flair", "t1ce"), 12, 4, 8),
    )
}


class FusionSettings(BaseModel):
    """How to train. epochs, batch_size, patience: None for the task's own. learning_rate: where the cosine starts.

    encoder: the classifier's for the CT. frozen: leave a ResNet-18 encoder as its weights are. weights: a file (.npz of this
    project, or a .pth state_dict), "imagenet" for torchvision's, "" to begin at random. uninformative: a modality whose values
    are shuffled among samples, so that it tells nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=0, ge=0)
    epochs: int | None = Field(default=None, ge=1)
    batch_size: int | None = Field(default=None, ge=2)
    patience: int | None = Field(default=None, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0, ge=0)
    encoder: Literal["plain", "resnet18"] = "plain"
    frozen: bool = False
    weights: str = ""
    uninformative: str = ""

    def of(self, task: Task) -> FusionSettings:
        """With the task's own epochs, batch size and patience where none are given; raises `InvalidInput` for what does not go
        together."""
        if self.encoder == "resnet18" and task.name != "classification":
            raise InvalidInput(f"encoder 'resnet18' is the classifier's; {task.name} has its own, 'plain'")
        if self.encoder == "plain" and (self.frozen or self.weights):
            raise InvalidInput(
                "only the encoder 'resnet18' takes weights or can be frozen: write encoder='resnet18' (--encoder resnet18)"
            )
        if self.frozen and not self.weights:
            raise InvalidInput("a frozen encoder needs weights: name a file, or 'imagenet' for torchvision's")
        if self.uninformative and self.uninformative not in task.modalities:
            raise UnknownName(f"modality of {task.name}", self.uninformative, task.modalities)
        own = {"epochs": task.epochs, "batch_size": task.batch_size, "patience": task.patience}
        return self.model_copy(update={name: value for name, value in own.items() if getattr(self, name) is None})


def fit_fusion(
    data: MedicalSet,
    rows: Mapping[str, Rows],
    out: str | os.PathLike[str],
    settings: FusionSettings | None = None,
    *,
    features: tuple[str, ...] = (),
    progress: bool = True,
) -> tuple[Path, bool]:
    """Train on the rows "train", choose the epoch by "valid", and write the checkpoint; figures are for `certified`.

    out: a file (.npz) or a folder, in which the file is called by task, encoder and what it was trained without. features: names
    of the table's columns. Returns the file, and whether it was trained now: one of the same data and settings is left as it is.
    A call that was killed goes on after its last whole epoch. Raises `InvalidInput`, and `MissingDependency` without torch.
    """
    task = BY_NAME[data.task]
    chosen = (settings or FusionSettings()).of(task)
    path = named(out, task, chosen)
    if lacking := {"train", "valid", "test"} - set(rows):
        raise InvalidInput(f"rows lacks {', '.join(sorted(lacking))}: write crossxai.studies.medical.split(...)")
    modalities = task.declared(features)
    inputs = shuffled(data, task, chosen)
    identity = _identity(data, rows, chosen)
    if weight_files.finished(path, identity):
        return path, False
    require("torch", "torch", "training (Keras then gets the same weights)")
    standardise = {m.name: statistics(inputs[m.name][rows["train"]], m) for m in modalities}
    targets = task.targets(data)
    if task.name == "classification" and any(len(np.unique(targets[rows[part]])) < 2 for part in ("train", "valid")):
        raise InvalidInput("all labels of the training or validation rows are the same: nothing to learn or measure by")
    architecture = task.architecture + ("_resnet18" if chosen.encoder == "resnet18" else "")
    state = path.with_suffix(".training.pt")
    state.parent.mkdir(parents=True, exist_ok=True)
    weights, status = _learn(task, architecture, chosen, inputs, targets, rows, standardise, state, identity, progress)
    meta = {
        "architecture": architecture,
        "n_classes": task.outputs,
        "task": task.name,
        "modalities": [asdict(m) for m in modalities],
        "size": int(inputs[task.modalities[0]].shape[1]),
        "trained_without": chosen.uninformative,
        "settings": chosen.model_dump(),
        "identity": identity,
        "history": status.history,
        "best_epoch": status.best_epoch,
        "metrics": {},
    }
    weight_files.write_modalities(path, weights, standardise, meta)
    state.unlink(missing_ok=True)
    return path, True


def named(out: str | os.PathLike[str], task: Task, settings: FusionSettings) -> Path:
    """`out` itself if it is an .npz, else the file in that folder: task[-resnet18[-frozen]][-without-modality].npz."""
    if Path(out).suffix == ".npz":
        return Path(out)
    encoder = "" if settings.encoder == "plain" else f"-{settings.encoder}{'-frozen' if settings.frozen else ''}"
    without = f"-without-{settings.uninformative}" if settings.uninformative else ""
    return Path(out) / f"{task.name}{encoder}{without}.npz"


def shuffled(data: MedicalSet, task: Task, settings: FusionSettings) -> dict[str, Values]:
    """The inputs in the model's order, the uninformative one's rows exchanged among all samples."""
    inputs = {name: np.asarray(data.inputs[name]) for name in task.modalities}
    if settings.uninformative:
        order = np.random.default_rng([settings.seed, 1]).permutation(len(data.labels))
        inputs[settings.uninformative] = inputs[settings.uninformative][order]
    return inputs


def statistics(values: Values, modality: Modality) -> tuple[Values, Values]:
    """Mean and standard deviation (channels,) over samples and space; a constant column is left as wide as it is."""
    flat = values.reshape(-1, len(modality.features)).astype(np.float64)
    sd = flat.std(axis=0)
    return flat.mean(axis=0).astype(np.float32), np.where(sd > 1e-6, sd, 1).astype(np.float32)


def _learn(
    task: Task,
    architecture: str,
    settings: FusionSettings,
    inputs: Mapping[str, Values],
    targets: Values,
    rows: Mapping[str, Rows],
    standardise: Mapping[str, tuple[Values, Values]],
    state: Path,
    identity: str,
    progress: bool,
) -> tuple[weight_files.Weights, Status]:
    import torch

    from crossxai.studies.networks import torch_networks
    from crossxai.studies.training import fusion_loop as loop

    scores = targets[rows["train"]]
    centre, scale = np.float32(0), np.float32(1)
    if task.name == "regression":
        centre, scale = np.float32(scores.mean()), np.float32(scores.std() or 1)

    def split(part: str) -> loop.Split:
        index = rows[part]
        inputs_of_part = tuple(loop.tensor((inputs[m][index] - mean) / sd) for m, (mean, sd) in standardise.items())
        expected = targets[index] if task.name == "classification" else (targets[index] - centre) / scale
        return loop.Split(inputs_of_part, loop.tensor(expected))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        module: Any = torch_networks.fusion_network(architecture)
        if settings.weights:
            weight_files.into(module.ct, settings.weights)
        if settings.frozen:
            for name, parameter in module.ct.named_parameters():
                parameter.requires_grad_(name.startswith("fc."))  # the last layer is new
        if task.name == "regression":
            loop.standardise_pooled(module)
        plan = Plan(**settings.model_dump(include={"epochs", "batch_size", "learning_rate", "patience", "seed"}))
        status = loop.train(
            module,
            task.loss,
            split("train"),
            split("valid"),
            plan,
            settings.weight_decay,
            state,
            identity,
            progress,
            module.ct if settings.frozen else None,
        )
    weights = loop.fold_pooled({name: np.array(values.numpy(), order="C") for name, values in status.best.items()})
    if task.name == "regression":  # the last layer gives points, not standard deviations
        weights["fusion.fc2.weight"] = (weights["fusion.fc2.weight"] * scale).astype(np.float32)
        weights["fusion.fc2.bias"] = (weights["fusion.fc2.bias"] * scale + centre).astype(np.float32)
    return weights, status


def _identity(data: MedicalSet, rows: Mapping[str, Rows], settings: FusionSettings) -> str:
    """sha256 over everything that the result depends on: data, rows, settings, weights to begin with, recipe."""
    digest = hashlib.sha256(json.dumps({"recipe": RECIPE, "settings": settings.model_dump()}, sort_keys=True).encode())
    for part in sorted(rows):
        digest.update(part.encode() + np.asarray(rows[part], np.int64).tobytes())
    arrays = {**data.inputs, "labels": data.labels, **data.masks}
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {values.dtype} {values.shape}".encode() + values.tobytes())
    digest.update(weight_files.content(settings.weights))
    return digest.hexdigest()


def certified(path: str | os.PathLike[str], data: MedicalSet, rows: Mapping[str, Rows], keras: bool) -> dict[str, Any]:
    """The checkpoint's meta with "metrics": {"valid": …, "test": …} by torch, and with `keras` "keras": {"test": …,
    "largest_difference": of outputs on the test rows, "largest_output": …}; what is missing is measured and written to the file.

    Each framework's figures are those of the model that `crossxai.studies.networks.loading.load` gives.
    """
    checkpoint = weight_files.read(path, None)
    meta = dict(checkpoint.meta)
    if meta.get("metrics") and ("keras" in meta or not keras):
        return meta
    task = BY_NAME[meta["task"]]
    inputs, targets = shuffled(data, task, FusionSettings(**meta["settings"])), task.targets(data)
    first = load(path, "torch").model
    outputs = {part: predicted(first, inputs, rows[part]) for part in ("valid", "test")}
    meta["metrics"] = {part: task.metrics(predictions, targets[rows[part]]) for part, predictions in outputs.items()}
    if keras:
        twin = predicted(load(path, "tensorflow").model, inputs, rows["test"])
        meta["keras"] = {
            "test": task.metrics(twin, targets[rows["test"]]),
            "largest_difference": float(np.abs(twin - outputs["test"]).max()),
            "largest_output": float(np.abs(outputs["test"]).max()),
        }
    weight_files.write_modalities(Path(path), checkpoint.weights, checkpoint.standardise, meta)
    return meta


def predicted(model: Model, inputs: Mapping[str, Values], rows: Rows, batch_size: int = 16) -> Array:
    """Outputs of some samples, raw inputs by modality."""
    parts = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    return np.concatenate([model.predict(tuple(inputs[m.name][part] for m in model.modalities)) for part in parts])
