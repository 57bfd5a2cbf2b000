"""Train ResNet-18 on a data set in PatchCamelyon's format, in PyTorch or in Keras: one path, one checkpoint for both."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from rich.console import Console

from crossxai.errors import InvalidFile, InvalidInput
from crossxai.process import require
from crossxai.studies.networks import weight_files
from crossxai.studies.networks.weight_files import IMAGENET, Weights, initial
from crossxai.studies.pcam.dataset import Augmentation, PatchDataset, PCamIndex
from crossxai.studies.training import patch_loop
from crossxai.studies.training.learner import Learner, Rules, StateFile
from crossxai.studies.training.tasks import figures

RECIPE = 2
"""Raised when the code changes what is trained, so that checkpoints of the old code are not taken for the new."""

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
    waiting = (
        Console(stderr=True).status("Reading all patches once; the next time they are known")
        if progress
        else nullcontext()
    )
    with waiting:
        data = {split: held.fingerprint() for split, held in index.items()}
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
            settings.epochs,
            settings.batch_size,
            settings.learning_rate,
            settings.patience,
            settings.seed,
            save_seconds,
            workers,
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
        "metrics": {split: figures(learner.predict, held, PREDICTED, workers) for split, held in validated.items()},
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
    what: dict[str, Any] = {"recipe": RECIPE, "data": data, "settings": settings.model_dump()}
    if settings.weights and settings.weights != IMAGENET:
        try:
            with open(settings.weights, "rb") as file:
                what["weights"] = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise InvalidFile(
                f"{settings.weights}: no weights to read there ({error.strerror}); name an .npz of this project or a .pth, "
                f"or {IMAGENET!r}"
            ) from error
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _finished(path: Path, identity: str, named: bool) -> bool:
    """`weight_files.finished`; under a name that is this training's own, what is no checkpoint is a damaged one."""
    try:
        return weight_files.finished(path, identity)
    except InvalidFile:
        if named:
            raise
        return False
