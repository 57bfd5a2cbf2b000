"""Small parameters for tests that run every explainer: the referee's, and those of explainers without a file of their own."""

from __future__ import annotations

from typing import Any

CHEAP: dict[str, dict[str, Any]] = {
    "captum.integrated_gradients": {"steps": 7},
    "captum.occlusion": {"patch": 8, "stride": 4},
    "lime.image": {"samples": 40},
    "reference.integrated_gradients": {"steps": 7},
    "reference.kernel_shap": {"patch": 8, "samples": 30},
    "reference.lime": {"samples": 40},
    "reference.occlusion": {"patch": 8, "stride": 4},
    "reference.rise": {"samples": 40},
    "reference.shapley": {"patch": 8},
    "reference.smooth_grad": {"samples": 5},
    "xplique.integrated_gradients": {"steps": 7},
    "xplique.occlusion": {"patch": 8, "stride": 4},
    "xplique.rise": {"samples": 40},
}
