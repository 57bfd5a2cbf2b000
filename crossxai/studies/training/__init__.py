"""Training: ResNet-18 on patches (`fit`), the fusion networks on the medical sets (`fit_fusion`), and their held-out figures."""

from __future__ import annotations

from crossxai.studies.training.fusion import FusionSettings, fit_fusion
from crossxai.studies.training.patch_figures import Metrics, evaluate, metrics_of
from crossxai.studies.training.resnet18 import RECIPE, TrainSettings, fit

__all__ = [
    "RECIPE",
    "FusionSettings",
    "Metrics",
    "TrainSettings",
    "evaluate",
    "fit",
    "fit_fusion",
    "metrics_of",
]
