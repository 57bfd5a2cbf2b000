"""pytorch-grad-cam's maps from activations and gradients, on any model with layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from crossxai.attribution import Profile
from crossxai.explainers.gradcam import SIGNS, CamMethod, SmoothCam
from crossxai.model import Array

NATIVE: tuple[Profile, ...] = ("native",)


@dataclass(frozen=True, kw_only=True)
class GradCAM(SmoothCam):
    """Grad-CAM (Selvaraju et al. 2017, eq. 1 and 2): channels weighted by their mean gradient."""

    name: ClassVar = "gradcam.gradcam"
    summary: ClassVar = "class activation map, channels weighted by mean gradients"
    reference: ClassVar = "Selvaraju et al. 2017"
    cam: ClassVar = "GradCAM"


@dataclass(frozen=True, kw_only=True)
class HiResCAM(SmoothCam):
    """HiResCAM (Draelos & Carin 2020): activation times gradient, summed over channels, no averaging.

    Its guarantee, that it marks only what the class score used, does not hold with `eigen_smooth`.
    """

    name: ClassVar = "gradcam.hirescam"
    summary: ClassVar = "class activation map, activations times gradients"
    reference: ClassVar = "Draelos & Carin 2020"
    cam: ClassVar = "HiResCAM"


@dataclass(frozen=True, kw_only=True)
class GradCAMElementWise(SmoothCam):
    """Activation times gradient, each product cut off at zero before the sum over channels (the library's own method)."""

    name: ClassVar = "gradcam.gradcam_elementwise"
    summary: ClassVar = "class activation map, positive products of activations and gradients"
    reference: ClassVar = "Gildenblat 2021"
    cam: ClassVar = "GradCAMElementWise"


@dataclass(frozen=True, kw_only=True)
class GradCAMPlusPlus(SmoothCam):
    """Grad-CAM++ (Chattopadhyay et al. 2018, eq. 19).

    Native adds 1e-6 to the denominator, which decides the weights wherever gradients are below 7e-4, as those of a
    segmented region can be. Canonical is the paper's sum over space, relu(g) / (2 + g · sum(A)), without it.
    """

    name: ClassVar = "gradcam.gradcam_plus_plus"
    summary: ClassVar = "class activation map, channels weighted by positive gradients"
    reference: ClassVar = "Chattopadhyay et al. 2018"
    cam: ClassVar = "GradCAMPlusPlus"
    conventions: ClassVar = {
        "native": "weights summed over space, 1e-6 in the denominator, rescaled to [0, 1] before and after a bilinear resize",
        "canonical": "weights summed over space, bilinear resize, no rescale",
    }

    def make(self, library: Any, model: Any = None) -> Any:
        cam = super().make(library, model)
        if self.profile == "canonical":
            cam.get_cam_weights = _plus_plus_weights
        return cam


def _plus_plus_weights(_x: Any, _layer: Any, _targets: Any, activation: Array, gradient: Array) -> Array:
    denominator = 2 + gradient * activation.sum(
        axis=(2, 3), keepdims=True
    )  # both sides divided by the squared gradient
    safe = np.where(denominator == 0, 1, denominator)
    return np.asarray(np.where(denominator == 0, 0, np.maximum(gradient, 0) / safe).sum(axis=(2, 3)))


@dataclass(frozen=True, kw_only=True)
class XGradCAM(SmoothCam):
    """XGrad-CAM (Fu et al. 2020): channels weighted by their gradients, averaged where the activation is."""

    name: ClassVar = "gradcam.xgradcam"
    summary: ClassVar = "class activation map, channels weighted by gradients averaged over the activation"
    reference: ClassVar = "Fu et al. 2020"
    cam: ClassVar = "XGradCAM"


@dataclass(frozen=True, kw_only=True)
class LayerCAM(SmoothCam):
    """LayerCAM (Jiang et al. 2021): activation times positive gradient, summed over channels."""

    name: ClassVar = "gradcam.layercam"
    summary: ClassVar = "class activation map, activations times positive gradients"
    reference: ClassVar = "Jiang et al. 2021"
    cam: ClassVar = "LayerCAM"


@dataclass(frozen=True, kw_only=True)
class EigenGradCAM(CamMethod):
    """First principal component of activation times gradient (after Muhammad & Yeasin 2020), its negative half cut off.

    Natively rounding decides the sign; canonical turns it so that the largest value is positive.
    """

    name: ClassVar = "gradcam.eigengradcam"
    summary: ClassVar = "first principal component of activations times gradients"
    reference: ClassVar = "Muhammad & Yeasin 2020"
    cam: ClassVar = "EigenGradCAM"
    conventions: ClassVar = SIGNS


@dataclass(frozen=True, kw_only=True)
class SegEigenCAM(CamMethod):
    """Seg-Eigen-CAM (Chung & Ying 2025, eq. 10 to 13): first principal component of activation times |gradient|, turned so
    that its largest value is positive."""

    name: ClassVar = "gradcam.segeigencam"
    summary: ClassVar = "first principal component of activations times absolute gradients"
    reference: ClassVar = "Chung & Ying 2025"
    profiles: ClassVar = NATIVE
    cam: ClassVar = "SegEigenCAM"
