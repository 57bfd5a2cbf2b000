"""pytorch-grad-cam on any model with layers: the library's own weighting, fed with activations from the question.

The library records activations and gradients with hooks on a torch module; an object with the same four members takes
their place, so the model can live in any framework, and a later in-place ReLU cannot spoil what was recorded (on
torchvision's networks the library's own recorder reads the activation after such a ReLU changed it).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from crossxai.explainers.method import Answer, Method
from crossxai.process import require
from crossxai.question import Question
from crossxai.resize import bilinear


@dataclass(frozen=True, kw_only=True)
class _Cam(Method):
    """layer: the layer to draw the map at; "" takes the last one with space.

    Native: ReLU, min-max to [0, 1], bilinear resize, min-max again, per image. Canonical: ReLU, bilinear resize, no rescale.
    """

    library: ClassVar = "gradcam"
    needs: ClassVar = "layers"
    family: ClassVar = "activation map"
    kinds: ClassVar = ("image",)
    cam: ClassVar[str]
    conventions: ClassVar = {
        "native": "ReLU, rescaled to [0, 1] before and after a bilinear resize",
        "canonical": "ReLU, bilinear resize, no rescale",
    }

    layer: str = ""

    def explain(self, question: Question) -> Answer:
        library = require("pytorch_grad_cam", "gradcam", self.name)
        import torch

        _, values = question.one
        layer = question.cam_layer(self.layer)
        _, activation, gradient = question.layer_score_and_grad(layer)
        channels_first = [np.ascontiguousarray(np.moveaxis(a, -1, 1)) for a in (activation, gradient)]
        shell = torch.nn.Module()
        shell.register_parameter("device_marker", torch.nn.Parameter(torch.zeros(1)))
        cam = getattr(library, self.cam)(shell, [])
        cam.activations_and_grads = _Recorded(*channels_first)
        cam.target_layers = [None]
        n, height, width = values.shape[:3]
        picture = torch.empty(n, 1, height, width)
        if self.profile == "native":
            maps = cam(picture, [lambda output: output.sum()] * n)
        else:
            raw = cam.get_cam_image(picture, None, None, *channels_first, False)
            maps = bilinear(np.maximum(raw, 0), height, width)
        return (np.asarray(maps)[..., None],), {}


class _Recorded:
    """Stands in for `ActivationsAndGradients`: what the library would have recorded, already there."""

    def __init__(self, activation: Any, gradient: Any) -> None:
        import torch

        self.activations = [torch.from_numpy(activation)]
        self.gradients = [torch.from_numpy(gradient)]

    def __call__(self, inputs: Any) -> Any:
        import torch

        return torch.zeros(len(inputs), 1, requires_grad=True)  # the library calls backward on its sum, to no effect

    def release(self) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class GradCAM(_Cam):
    """Grad-CAM (Selvaraju et al. 2017, eq. 1 and 2): channels weighted by their mean gradient."""

    name: ClassVar = "gradcam.gradcam"
    summary: ClassVar = "class activation map, channels weighted by mean gradients"
    cam: ClassVar = "GradCAM"


@dataclass(frozen=True, kw_only=True)
class HiResCAM(_Cam):
    """HiResCAM (Draelos & Carin 2020): activation times gradient, summed over channels, no averaging."""

    name: ClassVar = "gradcam.hirescam"
    summary: ClassVar = "class activation map, activations times gradients"
    cam: ClassVar = "HiResCAM"


@dataclass(frozen=True, kw_only=True)
class GradCAMPlusPlus(_Cam):
    """Grad-CAM++ (Chattopadhyay et al. 2018, eq. 19), with the paper's sums."""

    name: ClassVar = "gradcam.gradcam_plus_plus"
    summary: ClassVar = "class activation map, channels weighted by positive gradients"
    cam: ClassVar = "GradCAMPlusPlus"
