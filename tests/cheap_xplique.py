"""Parameters that make Xplique's explainers fast and meaningful on images of 16 pixels."""

from __future__ import annotations

from typing import Any

CHEAP: dict[str, dict[str, Any]] = {
    "xplique.integrated_gradients": {"steps": 5},
    "xplique.smooth_grad": {"samples": 4},
    "xplique.square_grad": {"samples": 4},
    "xplique.var_grad": {"samples": 4},
    "xplique.forgrad": {"sigma": 4},
    "xplique.occlusion": {"patch": 2, "stride": 2},
    "xplique.rise": {"samples": 40, "grid": 4},
    "xplique.lime": {"samples": 30, "segmentation": "grid", "patch": 4},
    "xplique.kernel_shap": {"samples": 30, "segmentation": "grid", "patch": 4},
    "xplique.sobol": {"grid": 4, "designs": 4},
    "xplique.hsic": {"grid": 4, "designs": 40},
}
