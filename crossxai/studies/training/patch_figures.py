"""Figures of a model of patches on labelled ones: accuracy, AUC, loss; streamed, so that a split may be of any size."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp
from scipy.stats import rankdata

from crossxai.errors import InvalidInput
from crossxai.model import Array
from crossxai.studies.pcam.dataset import Labels, PatchDataset
from crossxai.studies.pcam.reading import PCam

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
    found = np.concatenate(logits)
    if found.shape != (len(data), 2):
        raise InvalidInput(f"predict must give logits ({len(data)}, 2) for {data.data!r}, got {found.shape}")
    return metrics_of(found, np.concatenate(labels))


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
