"""What each library does: the options it uses where they are not the canonical ones, and the file of its that says so."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from crossxai.attribution import Explainer
from crossxai.conventions.convention import CANONICAL, Setting


@dataclass(frozen=True)
class Usage:
    """A library's own way.

    method: the name of the definition. options: what its native profile does other than the canonical one. source: the file of
    the library that decides it.
    """

    method: str
    options: Setting
    source: str


USAGES: dict[str, Usage] = {
    "captum.saliency": Usage("saliency", {"channels": "each"}, "captum/attr/_core/saliency.py"),
    "xplique.saliency": Usage("saliency", {}, "xplique/attributions/saliency.py"),
    "reference.saliency": Usage("saliency", {}, ""),
    "captum.input_x_gradient": Usage("gradient_x_input", {"channels": "each"}, "captum/attr/_core/input_x_gradient.py"),
    "xplique.gradient_input": Usage("gradient_x_input", {"channels": "mean"}, "xplique/attributions/gradient_input.py"),
    "reference.gradient_x_input": Usage("gradient_x_input", {}, ""),
    "captum.integrated_gradients": Usage(
        "integrated_gradients",
        {"channels": "each", "quadrature": "gausslegendre"},
        "captum/attr/_core/integrated_gradients.py",
    ),
    "xplique.integrated_gradients": Usage(
        "integrated_gradients", {"channels": "mean"}, "xplique/attributions/integrated_gradients.py"
    ),
    "reference.integrated_gradients": Usage("integrated_gradients", {}, ""),
    "captum.smooth_grad": Usage(
        "smooth_grad", {"channels": "each", "noisy": "absolute", "draws": "torch"}, "captum/attr/_core/noise_tunnel.py"
    ),
    "xplique.smooth_grad": Usage(
        "smooth_grad", {"channels": "mean"}, "xplique/attributions/gradient_statistics/smoothgrad.py"
    ),
    "reference.smooth_grad": Usage("smooth_grad", {}, ""),
    "captum.layer_grad_cam": Usage(
        "gradcam", {"relu": "none", "resize": "nearest"}, "captum/attr/_core/layer/grad_cam.py"
    ),
    "xplique.gradcam": Usage("gradcam", {"resize": "bicubic"}, "xplique/attributions/grad_cam.py"),
    "gradcam.gradcam": Usage("gradcam", {"rescale": "twice"}, "pytorch_grad_cam/utils/image.py"),
    "reference.gradcam": Usage("gradcam", {}, ""),
    "xplique.gradcam_plus_plus": Usage(
        "gradcam_plus_plus", {"resize": "bicubic", "space": "mean"}, "xplique/attributions/grad_cam_pp.py"
    ),
    "gradcam.gradcam_plus_plus": Usage(
        "gradcam_plus_plus", {"rescale": "twice", "epsilon": 1e-6}, "pytorch_grad_cam/grad_cam_plusplus.py"
    ),
    "captum.occlusion": Usage("occlusion", {}, "captum/attr/_core/occlusion.py"),
    "xplique.occlusion": Usage(
        "occlusion", {"overlap": "summed", "border": "left"}, "xplique/attributions/occlusion.py"
    ),
    "reference.occlusion": Usage("occlusion", {}, ""),
    "xplique.rise": Usage(
        "rise", {"draws": "xplique", "crop": "batch", "normaliser": "masks"}, "xplique/attributions/rise.py"
    ),
    "reference.rise": Usage("rise", {}, ""),
    "captum.guided_backprop": Usage(
        "guided_backprop", {"channels": "each"}, "captum/attr/_core/guided_backprop_deconvnet.py"
    ),
    "xplique.guided_backprop": Usage(
        "guided_backprop", {"channels": "mean"}, "xplique/attributions/guided_backpropagation.py"
    ),
    "captum.deep_lift": Usage("deep_lift", {"channels": "each", "pools": "captum"}, "captum/attr/_core/deep_lift.py"),
    "captum.lime": Usage(
        "lime",
        {"draws": "captum", "distance": "input_cosine", "width": 1.0, "regressor": "lasso", "penalty": 0.01},
        "captum/attr/_core/lime.py",
    ),
    "xplique.lime": Usage(
        "lime",
        {
            "draws": "xplique",
            "baseline": 0.5,
            "baseline_units": "range",
            "distance": "euclidean",
            "kernel": "whole",
            "width": 45.0,
            "penalty": 2.0,
        },
        "xplique/attributions/lime.py",
    ),
    "lime.image": Usage("lime", {"draws": "lime", "fill": "segment_mean"}, "lime/lime_image.py, lime/lime_base.py"),
    "reference.lime": Usage("lime", {}, ""),
    "captum.kernel_shap": Usage(
        "kernel_shap", {"draws": "captum", "ends": "heavy"}, "captum/attr/_core/kernel_shap.py"
    ),
    "xplique.kernel_shap": Usage(
        "kernel_shap",
        {"draws": "xplique", "baseline": 0.5, "baseline_units": "range", "ends": "free"},
        "xplique/attributions/kernel_shap.py",
    ),
    "reference.kernel_shap": Usage("kernel_shap", {}, ""),
}
"""Explainer -> what it does."""


QUICKSHIFT = ("lime.image", "reference.lime")
"""Explainers whose segmentation "" stands for this one of images."""


def explainers_of(method: str) -> list[str]:
    """The explainers that have a method, the referee last."""
    names = [name for name, usage in USAGES.items() if usage.method == method]
    return sorted(names, key=lambda name: name.startswith("reference."))


def setting_of(explainer: Explainer) -> Setting:
    """The setting that an explainer's parameters and profile stand for."""
    usage = USAGES[explainer.name]
    canonical = dict(CANONICAL[usage.method])
    own: dict[str, Any] = {f.name: getattr(explainer, f.name) for f in fields(explainer)}  # type: ignore[arg-type]
    if own.get("fill") is not None:  # what lime and Xplique call the one value of hidden groups
        own["baseline"], own["baseline_units"], own["fill"] = own["fill"], "raw", "value"
    if explainer.name in QUICKSHIFT and own.get("segmentation") == "":
        own["segmentation"] = "quickshift"
    own = {name: value for name, value in own.items() if value != ""}
    numbers = {name: own[name] for name in canonical if own.get(name) is not None}
    options = usage.options if explainer.profile == "native" else {}
    return {**canonical, **options, **numbers}
