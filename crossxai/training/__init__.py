"""Training: ResNet-18 on patches (`fit`), the fusion networks on the medical sets (`fit_fusion`), and their held-out figures."""

from __future__ import annotations

from crossxai.training.fusion import FusionSettings, fit_fusion
from crossxai.training.resnet18 import (
    RECIPE,
    Labels,
    Metrics,
    TrainSettings,
    augmented,
    channel_statistics,
    evaluate,
    fit,
    metrics_of,
)

__all__ = [
    "RECIPE",
    "FusionSettings",
    "Labels",
    "Metrics",
    "TrainSettings",
    "augmented",
    "channel_statistics",
    "evaluate",
    "fit",
    "fit_fusion",
    "metrics_of",
]
