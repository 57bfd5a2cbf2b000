"""Parameters that make explainers fast and meaningful on images of 16 pixels, for the tests that run them all."""

from __future__ import annotations

from typing import Any

import numpy as np

MIDDLE = np.zeros((16, 16))
MIDDLE[4:12, 4:12] = 1
GROUPS = {"patch": 8}
GRID = {"samples": 30, "segmentation": "grid", "patch": 4}
CHEAP: dict[str, dict[str, Any]] = {
    "captum.feature_ablation": GROUPS,
    "captum.feature_permutation": GROUPS,
    "captum.integrated_gradients": {"steps": 7},
    "captum.kernel_shap": {**GROUPS, "samples": 30},
    "captum.lime": {**GROUPS, "samples": 30},
    "captum.occlusion": {"patch": 8, "stride": 4},
    "captum.shapley_value_sampling": {**GROUPS, "samples": 4},
    "controls.oracle": {"masks": MIDDLE},
    # Natively rounding decides a component's sign, and on one of the networks the two frameworks do not agree on it.
    "gradcam.eigengradcam": {"profile": "canonical"},
    "gradcam.sess": {"sizes": 3},
    "lime.image": {"samples": 40},
    "lime.tabular": {"samples": 60},
    "reference.integrated_gradients": {"steps": 7},
    "reference.kernel_shap": {"patch": 8, "samples": 30},
    "reference.lime": {"samples": 40},
    "reference.occlusion": {"patch": 8, "stride": 4},
    "reference.rise": {"samples": 40},
    "reference.drise": {"samples": 40},
    "reference.shapley": {"patch": 8},
    "reference.smooth_grad": {"samples": 5},
    "xplique.forgrad": {"sigma": 4},
    "xplique.hsic": {"grid": 4, "designs": 40},
    "xplique.integrated_gradients": {"steps": 5},
    "xplique.kernel_shap": GRID,
    "xplique.lime": GRID,
    "xplique.occlusion": {"patch": 2, "stride": 2},
    "xplique.rise": {"samples": 40, "grid": 4},
    "xplique.smooth_grad": {"samples": 4},
    "xplique.sobol": {"grid": 4, "designs": 4},
    "xplique.square_grad": {"samples": 4},
    "xplique.var_grad": {"samples": 4},
}
