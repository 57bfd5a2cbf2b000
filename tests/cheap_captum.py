"""Parameters with which Captum's explainers are fast and say something on images of 16 pixels."""

from __future__ import annotations

from typing import Any

GROUPS = {"patch": 8}
CHEAP: dict[str, dict[str, Any]] = {
    "captum.integrated_gradients": {"steps": 5},
    "captum.occlusion": {"patch": 8, "stride": 4},
    "captum.feature_ablation": GROUPS,
    "captum.feature_permutation": GROUPS,
    "captum.shapley_value_sampling": {**GROUPS, "samples": 4},
    "captum.kernel_shap": {**GROUPS, "samples": 30},
    "captum.lime": {**GROUPS, "samples": 30},
}
