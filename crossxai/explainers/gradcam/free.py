"""pytorch-grad-cam's maps that need no gradient: from activations alone, or from scores of changed inputs or activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from crossxai.errors import Unsupported
from crossxai.explainers.families import bilinear
from crossxai.explainers.gradcam import SIGNS, CamMethod, SmoothCam, nchw, recorded, shell
from crossxai.explainers.method import NATIVE, Maps, Passes, explainer, profiles
from crossxai.explainers.native import seeded
from crossxai.model import Array
from crossxai.process import require
from crossxai.question import Question


@explainer("gradcam.eigencam", "first principal component of the activations", "Muhammad & Yeasin 2020")
@profiles(**SIGNS)
class EigenCAM(CamMethod, gradients=False, decomposes=True, constant_passes=(1, 0)):
    """First principal component of the activations (Muhammad & Yeasin 2020), its negative half cut off, whatever the target."""


KERNELS = ("linear", "poly", "rbf", "sigmoid", "cosine")


@dataclass(frozen=True, kw_only=True)
class _Drawing(CamMethod, gradients=False, constant_passes=(1, 0)):
    """Maps for which the library draws from NumPy's global generator: one sample at a time, seeded by its name."""

    def explain(self, question: Question) -> Maps:
        library = require("pytorch_grad_cam", "gradcam", self.name)
        _, activation = question.layer_score(question.cam_layer(self.layer))
        maps = []
        for row in range(len(question)):
            own = activation[row : row + 1]
            with seeded(int(question.rng(row, getattr(self, "seed", 0)).integers(2**32))):
                # A gradient is asked for its shape at most.
                maps.append(self.maps(recorded(self.make(library), own, np.zeros_like(own)), question[[row]]))
        return (np.concatenate(maps),), {}


@explainer("gradcam.kpca_cam", "first kernel principal component of the activations", "Karmani et al. 2024")
class KPCACAM(_Drawing, profiles=NATIVE, original="KPCA_CAM", choices={"kernel": KERNELS}, positive=("gamma",)):
    """First kernel principal component of the activations (Karmani et al. 2024), whatever the target.

    The sign is set by scikit-learn (the largest entry is positive), and what is negative is cut off. On layers of more than
    200 places scikit-learn starts its search at random, which shows in the last digits only.

    Parameters
    ----------
    kernel : str, default 'sigmoid'
        One of scikit-learn's: "linear", "poly", "rbf", "sigmoid" or "cosine".
    gamma : float or None, default None
        Width of the kernel; None is one over the number of channels.
    """

    kernel: str = "sigmoid"
    gamma: float | None = None

    def make(self, library: Any, model: Any = None) -> Any:
        return library.KPCA_CAM(shell(), [], kernel=self.kernel, gamma=self.gamma)


@explainer("gradcam.fem", "where activations stand out of their channel", "Fuad et al. 2020")
@profiles(
    native="activations weighted by how often they stand out, ReLU, rescaled to [0, 1] before and after a resize",
    canonical="places that stand out weighted by mean activation, bilinear resize, no rescale",
)
class FEM(CamMethod, gradients=False, constant_passes=(1, 0)):
    """Where channels are well above their mean (Fuad et al. 2020), whatever the target.

    The canonical profile is the paper's.

    Parameters
    ----------
    k : float, default 2.0
        How many standard deviations above the mean a place has to be.
    """

    k: float = 2.0

    def make(self, library: Any, model: Any = None) -> Any:
        return library.FEM(shell(), [], k=self.k)

    def maps(self, cam: Any, question: Question) -> Array:
        if self.profile == "native":
            return super().maps(cam, question)
        activation = cam.activations_and_grads.activations[0].numpy()
        space = tuple(range(2, activation.ndim))
        mean, sd = (f(axis=space, keepdims=True) for f in (activation.mean, activation.std))
        raw = (mean * (activation >= mean + self.k * sd)).sum(axis=1)
        return np.asarray(bilinear(raw, *question.values[0].shape[1:-1])[..., None])


@explainer("gradcam.randomcam", "activation map with random channel weights")
class RandomCAM(_Drawing, SmoothCam, family="control", profiles=NATIVE):
    """The library's sanity check: channels weighted by uniform numbers in [-1, 1), drawn per sample."""

    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class _PerChannel(SmoothCam, gradients=False):
    """Maps whose channel weights come from one forward pass per channel."""

    def passes(self, question: Question) -> Passes:
        return 1 + question.layers.size(question.cam_layer(self.layer))[-1], 0

    def explain(self, question: Question) -> Maps:
        library = require("pytorch_grad_cam", "gradcam", self.name)
        layer = question.cam_layer(self.layer)
        scores, activation = question.layer_score(layer)
        if self.profile == "canonical":
            cam = recorded(self.make(library), activation)
            weights = self.weights(question, layer, scores, activation)
            cam.get_cam_weights = lambda *_arguments: weights
            return (self.maps(cam, question),), {}
        if activation.ndim != 4:
            raise Unsupported(
                f"{self.name}, profile native: pytorch-grad-cam's own code takes images alone, and "
                f"{question.modalities[0].name!r} is a {question.modalities[0].kind}: write profile canonical"
            )
        maps = []
        for row in range(len(question)):
            model = self.model(question, layer, row, scores[row], activation[row : row + 1])
            cam = recorded(self.make(library, model), activation[row : row + 1])
            cam.target_layers = [getattr(model, "layer", None)]
            maps.append(self.maps(cam, question[[row]]))
        return (np.concatenate(maps),), {}

    def model(self, question: Question, layer: str, row: int, score: float, activation: Array) -> Any:
        """The torch module of one sample that the library asks for scores (m,)."""
        raise NotImplementedError

    def weights(self, question: Question, layer: str, scores: Array, activation: Array) -> Array:
        """Canonical channel weights (n, channels)."""
        raise NotImplementedError


@explainer(
    "gradcam.scorecam",
    "class activation map, channels weighted by the scores of the image seen through them",
    "Wang et al. 2020",
)
@profiles(
    native="masks resized with corners aligned, ReLU, rescaled to [0, 1] before and after a bilinear resize",
    canonical="masks and map resized bilinearly with half-pixel centres, ReLU, no rescale",
)
class ScoreCAM(_PerChannel):
    """Score-CAM (Wang et al. 2020): channels weighted by the softmax of the scores of the image seen through each.

    A channel, resized to the image and rescaled to [0, 1], dims the raw image towards 0, black. The paper subtracts the score
    of a baseline, which the softmax takes away again.
    """

    def make(self, library: Any, model: Any = None) -> Any:
        cam = super().make(library, model)
        cam.batch_size = 32  # the library's 16 changes nothing but the number of calls
        return cam

    def model(self, question: Question, layer: str, row: int, score: float, activation: Array) -> Any:
        def scores(images: Array) -> Array:
            return question.score((images.astype(question.values[0].dtype),), np.full(len(images), row))

        return _module(scores)

    def weights(self, question: Question, layer: str, scores: Array, activation: Array) -> Array:
        images = question.values[0]
        count = activation.shape[-1]
        rows, channels = np.repeat(np.arange(len(images)), count), np.tile(np.arange(count), len(images))

        def masked(part: Any) -> tuple[Array, ...]:
            masks = bilinear(activation[rows[part], ..., channels[part]], *images.shape[1:-1])
            low, high = (f(axis=tuple(range(1, masks.ndim)), keepdims=True) for f in (masks.min, masks.max))
            masks = (masks - low) / np.where(high > low, high - low, 1)
            return ((images[rows[part]] * masks[..., None]).astype(images.dtype),)

        seen = question.score_stream(rows, masked).reshape(len(images), count).astype(np.float64)
        shares = np.exp(seen - seen.max(axis=1, keepdims=True))
        return np.asarray((shares / shares.sum(axis=1, keepdims=True)).astype(activation.dtype))


@explainer(
    "gradcam.ablationcam",
    "class activation map, channels weighted by the score's drop without them",
    "Desai & Ramaswamy 2020",
)
@profiles(
    native="channels set to 0, or far below any activation if none is 0; rescaled to [0, 1] before and after a resize",
    canonical="channels set to 0, ReLU, bilinear resize, no rescale",
)
class AblationCAM(_PerChannel):
    """Ablation-CAM (Desai & Ramaswamy 2020, eq. 3): channels weighted by the drop of the score without them, relative to the
    score, whose sign turns the map.

    Native: a channel is set to 0 if the smallest activation of the sample is exactly 0, otherwise to 1e7 below the smallest of
    the batch of 32 copies, in which earlier copies are already ablated, so that the value falls from channel to channel.
    """

    def make(self, library: Any, model: Any = None) -> Any:
        # The library's default layer is one object for the whole process.
        cam = super().make(library, model)
        cam.ablation_layer = library.AblationLayer()
        return cam

    def model(self, question: Question, layer: str, row: int, score: float, activation: Array) -> Any:
        def scores(changed: Array) -> Array:
            return question.score_replaced(layer, np.full(len(changed), row), lambda part: changed[part])

        return _module(scores, activation, score)

    def weights(self, question: Question, layer: str, scores: Array, activation: Array) -> Array:
        count = activation.shape[-1]
        rows, channels = np.repeat(np.arange(len(activation)), count), np.tile(np.arange(count), len(activation))

        def ablated(part: Any) -> Array:
            copies: Array = activation[rows[part]]
            copies[np.arange(len(part)), ..., channels[part]] = 0
            return copies

        without = question.score_replaced(layer, rows, ablated).reshape(len(scores), count)
        return np.asarray((scores[:, None] - without) / scores[:, None])


def _module(scores: Any, activation: Array | None = None, score: float = 0.0) -> Any:
    """A torch module, images or activations channels first → scores of them channels last. With an activation it has a `layer`,
    which gives it; as long as the library leaves the layer in place, the module gives the score that is already known."""
    import torch

    class Layer(torch.nn.Module):
        def forward(self, _x: Any) -> Any:
            assert activation is not None
            return nchw(activation)

    def forward(model: Any, x: Any) -> Any:
        if activation is not None:
            x = model.layer(x)
            if isinstance(model.layer, Layer):
                return torch.tensor([score])
        return torch.from_numpy(scores(np.ascontiguousarray(np.moveaxis(x.numpy(), 1, -1))))

    model = shell(forward)
    if activation is not None:
        model.layer = Layer()
    return model.eval()
