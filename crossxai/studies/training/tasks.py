"""What is learnt from which arrays, by which loss, and the figures of a model on held-out samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp
from scipy.stats import rankdata

from crossxai.errors import InvalidInput
from crossxai.model import Array, Modality
from crossxai.studies.pcam.dataset import Labels, PatchDataset
from crossxai.studies.pcam.reading import PCam

if TYPE_CHECKING:
    import torch

    from crossxai.studies.medical import MedicalSet


@dataclass(frozen=True)
class Task:
    """architecture: the network's name. outputs: width of its last layer. modalities: in the network's order; features: names of
    a table's columns. epochs, patience: defaults, measured on 300 samples. figures: those to show, the first decides."""

    name: str
    architecture: str
    outputs: int
    modalities: tuple[str, ...]
    epochs: int
    patience: int
    batch_size: int
    figures: tuple[str, ...]

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
        """Held-out figures of raw outputs (n, *out), channels last: those of `figures` and the number of samples."""
        if self.name == "classification":
            return metrics_of(outputs, targets)
        if self.name == "regression":
            error = outputs.astype(np.float64) - targets
            constant = len(targets) < 2 or np.ptp(outputs) == 0 or np.ptp(targets) == 0
            r = float("nan") if constant else float(np.corrcoef(outputs[:, 0], targets[:, 0])[0, 1])
            return {
                "n": len(targets),
                "rmse": float(np.sqrt((error**2).mean())),
                "r": r,
                "mae": float(abs(error).mean()),
            }
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
        Task("classification", "fusion_classifier", 2, ("ct", "table"), 12, 4, 16, ("accuracy", "auc")),
        Task("regression", "fusion_regressor", 1, ("t1", "t2"), 12, 6, 16, ("rmse", "r")),
        Task("segmentation", "fusion_unet", 1, ("flair", "t1ce"), 12, 4, 8, ("dice", "iou")),
    )
}


Metrics = dict[str, float]
Predict = Callable[[npt.NDArray[np.float32]], Array]


def evaluate(predict: Predict, data: Sequence[PCam], batch_size: int = 64) -> dict[str, Metrics]:
    """Split → n, accuracy, balanced_accuracy, auc (of class 1 against 0) and loss (cross-entropy).

    predict: raw images (n, 96, 96, 3), RGB in [0, 1] → logits (n, 2). What a single class leaves undefined is NaN.
    """
    return {part.split: figures(predict, PatchDataset(part), batch_size) for part in data}


def figures(predict: Predict, data: PatchDataset, batch_size: int = 64, workers: int = 0) -> Metrics:
    """The figures of `evaluate` on some rows of a split; workers: threads that read ahead."""
    parts = (np.arange(start, min(start + batch_size, len(data))) for start in range(0, len(data), batch_size))
    logits, labels = [], []
    for pixels, wanted in data.batches(parts, workers):
        logits.append(np.asarray(predict(pixels.astype(np.float32) / np.float32(255))))
        labels.append(wanted)
    outputs = np.concatenate(logits)
    if outputs.shape != (len(data), 2):
        raise InvalidInput(f"predict must give logits ({len(data)}, 2) for {data.data!r}, got {outputs.shape}")
    return metrics_of(outputs, np.concatenate(labels))


def metrics_of(logits: Array, labels: Labels) -> Metrics:
    """The figures of `evaluate` from logits (n, 2) and labels (n,)."""
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
