"""Training: ResNet-18 on patches (`fit`), the fusion networks on the medical sets (`fit_fusion`), and their held-out figures."""

from __future__ import annotations

from crossxai.studies.training.fusion import FusionSettings, fit_fusion
from crossxai.studies.training.resnet18 import TrainSettings, fit

__all__ = ["FusionSettings", "TrainSettings", "fit", "fit_fusion"]
