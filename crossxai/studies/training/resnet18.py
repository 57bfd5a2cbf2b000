"""Train ResNet-18 on a data set in PatchCamelyon's format, in PyTorch or in Keras: one path, one checkpoint for both."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator
from rich.console import Console
from scipy.special import logsumexp
from scipy.stats import rankdata

from crossxai.errors import InvalidFile, InvalidInput
from crossxai.model import Array
from crossxai.process import require
from crossxai.studies.networks import weight_files
from crossxai.studies.networks.weight_files import Weights, initial
from crossxai.studies.pcam.dataset import Augmentation, Labels, PatchDataset, PCamIndex
from crossxai.studies.training import patch_loop
from crossxai.studies.training.patch_loop import Learner, Metrics, Rules, StateFile

RECIPE = 2
"""Raised when the code changes what is trained, so that checkpoints of the old code are not taken for the new."""

Predict = Callable[[npt.NDArray[np.float32]], Array]

PREDICTED = 64
"""Patches at once where nothing is learnt."""


class TrainSettings(BaseModel):
    """How to train. learning_rate: the peak of a one-cycle schedule. patience: epochs without a better validation.

    flips … saturation: how patches are varied, as `Augmentation` says. fraction: share of each class of the training and of the
    validation split; the test split is always whole. weights: to begin with, as `initial` says; "" draws them. frozen: only
    the last layer learns. framework: which one trains.
    """

    # Defaults become floats, too: 1 and 1.0 are one setting, and one checkpoint.
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    seed: int = Field(default=0, ge=0)
    epochs: int = Field(default=4, ge=1)
    batch_size: int = Field(default=32, ge=2)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    label_smoothing: float = Field(default=0.05, ge=0, lt=1)
    flips: bool = True
    rotation: float = Field(default=10, ge=0, le=45)
    brightness: float = Field(default=0.05, ge=0, lt=1)
    contrast: float = Field(default=0.1, ge=0, lt=1)
    saturation: float = Field(default=0.1, ge=0, lt=1)
    patience: int = Field(default=2, ge=1)
    fraction: float = Field(default=1, gt=0, le=1)
    weights: str = ""
    frozen: bool = False
    framework: Literal["torch", "tensorflow"] = "torch"

    @model_validator(mode="after")
    def _together(self) -> TrainSettings:
        if self.frozen and not self.weights:
            raise ValueError("a frozen network needs weights: name a file, or 'imagenet' for torchvision's")
        return self

    @property
    def augmentation(self) -> Augmentation:
        """How patches are varied."""
        return Augmentation(self.flips, self.rotation, self.brightness, self.contrast, self.saturation)


def fit(
    data_root: str | os.PathLike[str],
    settings: TrainSettings | None = None,
    out_dir: str | os.PathLike[str] = "models",
    progress: bool = True,
    *,
    workers: int = 1,
    save_seconds: float = 60,
) -> Path:
    """Train and return the path of the checkpoint of the epoch that validated best; a log (.log.csv) is beside it.

    out_dir: a file (.npz), or a folder, in which the file's name comes from the data and the settings. A second call with the
    same ones returns at once; one after a kill goes on at the last state, at most `save_seconds` old, and ends with the weights
    that an uninterrupted call would have had. workers: threads that read and augment ahead; they change no byte.

    Raises `InvalidFile` for unreadable data or weights, `MissingDependency` without the framework, and `CrossXAIError` if the
    loss stops being finite.
    """
    settings = settings or TrainSettings()
    index = {split: PCamIndex.of(data_root, split) for split in ("train", "valid", "test")}
    for split in ("train", "valid"):
        if len(index[split].rows) < 2:
            raise InvalidInput(f"{index[split].data!r}: all labels are the same: nothing to learn or to validate by")
    if not len(index["test"].data):
        raise InvalidInput(f"{index['test'].data!r}: nothing to measure the result by")
    console = Console(stderr=True, quiet=not progress)
    with console.status("Reading all patches once; the next time they are known"):
        data = {split: patches.fingerprint() for split, patches in index.items()}
    identity = _identity(data, settings)
    path, named = Path(out_dir), Path(out_dir).suffix == ".npz"
    if not named:
        path /= f"resnet18-{identity[:16]}.npz"
    if settings.weights and path.exists() and Path(settings.weights).exists() and path.samefile(settings.weights):
        raise InvalidInput(f"{path}: the weights to begin with would be lost: write to another file")
    state = StateFile(path.with_suffix(".training.npz"), identity)
    if _finished(path, identity, named):
        state.remove()  # killed after the checkpoint was written and before its state went
        return path
    weights, constants = initial(settings.weights, settings.seed)
    constants = constants or index["train"].statistics()
    rules = Rules(constants, settings.weight_decay, settings.label_smoothing, settings.frozen)
    learner = _learner(settings.framework, weights, rules)
    rows = {split: index[split].fraction(settings.fraction, settings.seed) for split in ("train", "valid")}
    train = PatchDataset(index["train"].data, rows["train"], settings.augmentation, settings.seed)
    validated = {"valid": PatchDataset(index["valid"].data, rows["valid"]), "test": PatchDataset(index["test"].data)}
    best, status = patch_loop.train(
        learner,
        train,
        lambda: figures(learner.predict, validated["valid"], PREDICTED, workers),
        patch_loop.Plan(
            **settings.model_dump(include={"epochs", "batch_size", "learning_rate", "patience", "seed"}),
            save_seconds=save_seconds,
            workers=workers,
        ),
        state,
        path.with_suffix(".log.csv"),
        progress,
    )
    learner = _learner(settings.framework, best, rules)
    meta = {
        "architecture": "resnet18",
        "task": "classification",
        "n_classes": 2,
        "framework": settings.framework,
        "settings": settings.model_dump(),
        "identity": identity,
        "data": data,
        "patches": {split: len(rows[split]) for split in rows},
        "metrics": {
            split: figures(learner.predict, patches, PREDICTED, workers) for split, patches in validated.items()
        },
        "history": status.history,
        "best_epoch": status.best_epoch,
    }
    weight_files.write(path, best, *constants, meta)
    state.remove()
    return path


def _learner(framework: str, weights: Weights, rules: Rules) -> Learner:
    if framework == "torch":
        require("torch", "torch", "training")
        require("torchvision", "torch", "training")
        from crossxai.studies.training.learner_torch import TorchLearner

        return TorchLearner(weights, rules)
    require("tensorflow", "tensorflow", "training in Keras")
    from crossxai.studies.training.learner_keras import KerasLearner

    return KerasLearner(weights, rules)


def _identity(data: Mapping[str, str], settings: TrainSettings) -> str:
    """sha256 over everything that the result depends on: data, settings, weights to begin with, recipe."""
    content: dict[str, Any] = {"recipe": RECIPE, "data": data, "settings": settings.model_dump()}
    if start := weight_files.content(settings.weights):
        content["weights"] = hashlib.sha256(start).hexdigest()
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _finished(path: Path, identity: str, named: bool) -> bool:
    """`weight_files.finished`; under a name that is this training's own, what is no checkpoint is a damaged one."""
    try:
        return weight_files.finished(path, identity)
    except InvalidFile:
        if named:
            raise
        return False


def figures(predict: Predict, data: PatchDataset, batch_size: int = 64, workers: int = 0) -> Metrics:
    """Those of `metrics_of` on some rows of a split. predict: raw images (n, 96, 96, 3), RGB in [0, 1] → logits (n, 2). workers:
    threads that read ahead."""
    parts = (np.arange(start, min(start + batch_size, len(data))) for start in range(0, len(data), batch_size))
    logits, labels = [], []
    for pixels, expected in data.batches(parts, workers):
        logits.append(np.asarray(predict(pixels.astype(np.float32) / np.float32(255))))
        labels.append(expected)
    outputs = np.concatenate(logits)
    if outputs.shape != (len(data), 2):
        raise InvalidInput(f"predict must give logits ({len(data)}, 2) for {data.data!r}, got {outputs.shape}")
    return metrics_of(outputs, np.concatenate(labels))


def metrics_of(logits: Array, labels: Labels) -> Metrics:
    """n, accuracy, balanced_accuracy, auc (of class 1 against 0) and loss (cross-entropy) of logits (n, 2); NaN if undefined."""
    hit = logits.argmax(axis=1) == labels
    positive = labels == 1
    margin = logits[:, 1] - logits[:, 0]
    losses = logsumexp(logits, axis=1) - logits[np.arange(len(labels)), labels]
    both = bool(positive.any() and not positive.all())
    return {
        "n": len(labels),
        "accuracy": float(hit.mean()),
        "balanced_accuracy": float((hit[positive].mean() + hit[~positive].mean()) / 2) if both else float("nan"),
        "auc": _auc(margin, positive) if both else float("nan"),
        "loss": float(losses.mean()),
    }


def _auc(scores: Array, positive: npt.NDArray[np.bool_]) -> float:
    """Chance that a positive outscores a negative, ties counting half (Mann–Whitney U)."""
    n, m = int(positive.sum()), int((~positive).sum())
    return float((rankdata(scores)[positive].sum() - n * (n + 1) / 2) / (n * m))
