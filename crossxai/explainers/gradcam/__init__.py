"""pytorch-grad-cam's own code, fed with activations and gradients from the question: what its maps share, and the plain ones.
No hooks record them, so the model can live in any framework, and no later in-place ReLU spoils what was recorded."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from crossxai.errors import Unsupported
from crossxai.explainers.families import bilinear
from crossxai.explainers.method import NATIVE, Maps, Method, explainer, profiles
from crossxai.explainers.native import patched
from crossxai.model import Array
from crossxai.process import require
from crossxai.question import Question

MOST_PLACES = 2**14
"""Whose matrix of places × places takes 1 GiB; no layer of an image network that a map is drawn at by itself has as many."""
SIGNS = {
    "native": "sign as rounding has it, ReLU, rescaled to [0, 1] before and after a bilinear resize",
    "canonical": "largest value positive, ReLU, bilinear resize, no rescale",
}
"""What the profiles do where there is a principal component."""


@dataclass(frozen=True, kw_only=True)
@profiles(
    native="ReLU, rescaled to [0, 1] before and after a bilinear resize", canonical="ReLU, bilinear resize, no rescale"
)
class CamMethod(Method, needs="layers", family="activation map", kinds=("image", "volume"), constant_passes=(1, 1)):
    """What class activation maps share."""

    gradients: ClassVar[bool] = True
    """Whether the weights need gradients; if not, no backward pass is made."""
    decomposes: ClassVar[bool] = False
    """Whether it takes a principal component, for which the library holds a matrix of places × places."""

    layer: str = ""

    def explain(self, question: Question) -> Maps:
        library = require("pytorch_grad_cam", "gradcam", self.name)
        layer = question.cam_layer(self.layer)
        if self.gradients:
            _, activation, gradient = question.layer_score_and_grad(layer)
            cam = recorded(self.make(library), activation, gradient)
        else:
            cam = recorded(self.make(library), question.layer_score(layer)[1])
        return (self.maps(cam, question),), {}

    def make(self, library: Any, model: Any = None) -> Any:
        """The library's object, on a model without layers unless there is another."""
        return getattr(library, self.original)(shell() if model is None else model, [])

    def maps(self, cam: Any, question: Question) -> Array:
        """(n, [depth,] height, width, 1) from what the library's object has recorded."""
        require_planes(question, self.name)
        pictures = nchw(question.values[0])
        smooth = bool(getattr(self, "eigen_smooth", False))
        if (self.decomposes or smooth) and self.drawn_at(question):
            places = math.prod(question.layers.size(self.drawn_at(question)[0])[:-1])
            if places > MOST_PLACES:
                raise Unsupported(
                    f"{self.name} takes a principal component of {places} places, for which pytorch-grad-cam holds a matrix of "
                    f"{places} × {places} numbers: name a coarser layer, of at most {MOST_PLACES} places"
                )
        targets = [lambda output: output.sum()] * len(pictures)
        with steered(cam, canonical=self.profile == "canonical"):
            return np.asarray(cam(pictures, targets, eigen_smooth=smooth))[..., None]

    def notes(self, question: Question) -> tuple[str, ...]:
        notes = super().notes(question)
        if len(question.modalities[0].axes) == 4 and self.profile == "native":
            notes += ("pytorch-grad-cam enlarges maps of volumes by a cubic spline, corners on corners",)
        return notes


def require_planes(question: Question, who: str) -> None:
    """Raise `Unsupported` for what the library has no code for: it knows images and volumes."""
    modality, _ = question.one
    if len(modality.axes) not in (3, 4):
        raise Unsupported(
            f"{who}: pytorch-grad-cam knows images and volumes; {modality.name!r} has the axes {', '.join(modality.axes)}: "
            "take reference.gradcam"
        )


@dataclass(frozen=True, kw_only=True)
class SmoothCam(CamMethod):
    """What class activation maps share whose channels are weighted.

    Parameters
    ----------
    eigen_smooth : bool, default False
        Take the first principal component of the weighted channels instead of their sum; natively rounding decides its sign,
        and with it which half of the map is cut off.
    """

    eigen_smooth: bool = False


def nchw(values: Array) -> Any:
    """Images (n, y, x, c), or volumes (n, z, y, x, c), as a torch tensor, channels first."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(values, -1, 1)))


def shell(forward: Callable[[Any, Any], Any] | None = None, layers: Sequence[Any] = ()) -> Any:
    """A torch module with one parameter, all that the library asks of a model whose passes are already made. forward:
    (module, images) → what it gives of the samples `module.rows`; layers: what the library finds in it."""
    import torch

    class Shell(torch.nn.Module):
        rows: Any = None

        def __init__(self) -> None:
            super().__init__()
            self.register_parameter("device_marker", torch.nn.Parameter(torch.zeros(1)))
            for number, layer in enumerate(layers):
                self.add_module(str(number), layer)

        def forward(self, x: Any) -> Any:
            assert forward is not None
            return forward(self, x)

    return Shell()


def recorded(cam: Any, activation: Array, gradient: Array | None = None) -> Any:
    """The library's object with activations and gradients (n, y, x, channel) given instead of recorded."""
    cam.activations_and_grads = _Recorded(nchw(activation), None if gradient is None else nchw(gradient))
    cam.target_layers = [None]
    return cam


class _Recorded:
    """Stands in for `ActivationsAndGradients`: what the library would have recorded, already there."""

    def __init__(self, activation: Any, gradient: Any) -> None:
        self.activations = [activation]
        self.gradients = [] if gradient is None else [gradient]

    def __call__(self, inputs: Any) -> Any:
        import torch

        return torch.zeros(len(inputs), 1, requires_grad=True)  # the library calls backward on its sum, to no effect

    def release(self) -> None:
        pass


def steered(cam: Any, canonical: bool) -> AbstractContextManager[None]:
    """The library without progress bars and warnings on screen, which it has no option to turn off. canonical: maps are
    resized and not rescaled, and principal components turned as Seg-Eigen-CAM turns them; as they come, rounding
    decides their sign."""
    names: dict[str, Any] = {"tqdm": SimpleNamespace(tqdm=lambda steps: steps), "print": lambda *_words: None}
    if canonical:
        components = importlib.import_module("pytorch_grad_cam.utils.svd_on_activations")
        names["get_2d_projection"] = components.get_2d_projection_with_sign_correction
        names["scale_cam_image"] = _resized
    modules = [importlib.import_module(m) for m in {"pytorch_grad_cam.base_cam", type(cam).__module__}]
    return patched(modules, **names)


def _resized(maps: Array, size: tuple[int, ...] | None = None) -> Array:
    """Takes the place of the library's min-max and resize to (width, height), of volumes (width, height, depth)."""
    return maps if size is None else bilinear(maps, *size[::-1])


@explainer("gradcam.gradcam", "class activation map, channels weighted by mean gradients", "Selvaraju et al. 2017")
class GradCAM(SmoothCam):
    """Grad-CAM (Selvaraju et al. 2017, eq. 1 and 2): channels weighted by their mean gradient."""


@explainer("gradcam.hirescam", "class activation map, activations times gradients", "Draelos & Carin 2020")
class HiResCAM(SmoothCam):
    """HiResCAM (Draelos & Carin 2020): activation times gradient, summed over channels, no averaging.

    Its guarantee, that it marks only what the class score used, does not hold with `eigen_smooth`.
    """


@explainer(
    "gradcam.gradcam_elementwise",
    "class activation map, positive products of activations and gradients",
    "Gildenblat 2021",
)
class GradCAMElementWise(SmoothCam):
    """Activation times gradient, each product cut off at zero before the sum over channels (the library's own method)."""


@explainer(
    "gradcam.gradcam_plus_plus",
    "class activation map, channels weighted by positive gradients",
    "Chattopadhyay et al. 2018",
)
@profiles(
    native="weights summed over space, 1e-6 in the denominator, rescaled to [0, 1] before and after a bilinear resize",
    canonical="weights summed over space, bilinear resize, no rescale",
)
class GradCAMPlusPlus(SmoothCam):
    """Grad-CAM++ (Chattopadhyay et al. 2018, eq. 19).

    Native adds 1e-6 to the denominator, which decides the weights wherever gradients are below 7e-4, as those of a
    segmented region can be. Canonical is the paper's sum over space, relu(g) / (2 + g · sum(A)), without it.
    """

    def make(self, library: Any, model: Any = None) -> Any:
        cam = super().make(library, model)
        if self.profile == "canonical":
            cam.get_cam_weights = _plus_plus_weights
        return cam


def _plus_plus_weights(_x: Any, _layer: Any, _targets: Any, activation: Array, gradient: Array) -> Array:
    # Both sides are divided by the squared gradient.
    space = tuple(range(2, activation.ndim))
    denominator = 2 + gradient * activation.sum(axis=space, keepdims=True)
    safe = np.where(denominator == 0, 1, denominator)
    return np.asarray(np.where(denominator == 0, 0, np.maximum(gradient, 0) / safe).sum(axis=space))


@explainer(
    "gradcam.xgradcam",
    "class activation map, channels weighted by gradients averaged over the activation",
    "Fu et al. 2020",
)
class XGradCAM(SmoothCam):
    """XGrad-CAM (Fu et al. 2020): channels weighted by their gradients, averaged where the activation is."""


@explainer("gradcam.layercam", "class activation map, activations times positive gradients", "Jiang et al. 2021")
class LayerCAM(SmoothCam):
    """LayerCAM (Jiang et al. 2021): activation times positive gradient, summed over channels."""


@explainer("gradcam.eigengradcam", "first principal component of activations times gradients", "Muhammad & Yeasin 2020")
@profiles(**SIGNS)
class EigenGradCAM(CamMethod, decomposes=True):
    """First principal component of activation times gradient (after Muhammad & Yeasin 2020), its negative half cut off."""


@explainer(
    "gradcam.segeigencam", "first principal component of activations times absolute gradients", "Chung & Ying 2025"
)
class SegEigenCAM(CamMethod, profiles=NATIVE, decomposes=True):
    """Seg-Eigen-CAM (Chung & Ying 2025, eq. 10 to 13): first principal component of activation times |gradient|, turned so
    that its largest value is positive."""
