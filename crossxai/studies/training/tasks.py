"""The three fusion tasks: what is learnt from which arrays, by which loss, judged by which figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from crossxai.errors import InvalidInput
from crossxai.model import Array, Modality
from crossxai.studies.training.patch_figures import Metrics, metrics_of

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
        found, true = outputs > 0, targets > 0.5
        overlap = (found & true).sum((1, 2, 3))
        both, either = found.sum((1, 2, 3)) + true.sum((1, 2, 3)), (found | true).sum((1, 2, 3))
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
