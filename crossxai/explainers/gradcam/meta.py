"""pytorch-grad-cam's methods around a class activation map: against similar classes, over several layers, over windows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from crossxai.errors import InvalidInput, Unsupported
from crossxai.explainers.gradcam import SmoothCam, nchw, recorded, shell, steered
from crossxai.explainers.method import Maps, Passes, explainer, profiles
from crossxai.model import Array
from crossxai.outputs import sums_to_one
from crossxai.process import require
from crossxai.question import Question
from crossxai.target import Target


@explainer("gradcam.finer_cam", "class activation map of what tells a class from similar ones", "Zhang et al. 2025")
class FinerCAM(SmoothCam, original="GradCAM"):
    """Finer-CAM (Zhang et al. 2025): Grad-CAM of a class's score minus `alpha` times those of similar classes.

    Similar are the classes next in score, up to three, weighted by their probabilities. It explains this difference, whatever
    link the target has; for a region of a segmentation map, of each class's mean over that region. The target must be a
    class among several.

    Parameters
    ----------
    alpha : float, default 1.0
        Weight of the similar classes.
    """

    alpha: float = 1.0

    def explain(self, question: Question) -> Maps:
        weights = question.target.weights
        label = _labels(weights, self.name)
        region = np.stack([w[..., c] for w, c in zip(weights, label, strict=True)])
        target = _Finer(weights, labels=label, region=region, alpha=self.alpha)
        return super().explain(replace(question, target=target))


def _labels(weights: Array, name: str) -> npt.NDArray[np.intp]:
    """The one class per sample that the target's weights, (n, *space, class), speak of."""
    flat = np.abs(weights).reshape(len(weights), -1, weights.shape[-1]).sum(axis=1)
    if flat.shape[1] < 2:
        raise Unsupported(f"{name} tells a class from similar ones, and the model has one output: there is no other")
    if ((flat > 0).sum(axis=1) != 1).any():
        raise Unsupported(f"{name} tells a class from similar ones: the target must be one class per sample")
    return np.asarray(flat.argmax(axis=1))


@dataclass(frozen=True)
class _Finer(Target):
    """The library's own scalar as a target: labels (n,), region (n, *space), which turns a map into a row of class scores."""

    labels: npt.NDArray[np.intp] = None  # type: ignore[assignment]
    region: Array = None  # type: ignore[assignment]
    alpha: float = 1.0

    def __getitem__(self, rows: npt.NDArray[np.intp] | slice) -> Target:
        return replace(self, weights=self.weights[rows], labels=self.labels[rows], region=self.region[rows])

    def score(self, outputs: Array, rows: npt.NDArray[np.intp]) -> Array:
        return self._both(outputs, rows)[0]

    def cotangent(self, outputs: Array, rows: npt.NDArray[np.intp]) -> Array:
        return self._both(outputs, rows)[1]

    def _both(self, outputs: Array, rows: npt.NDArray[np.intp]) -> tuple[Array, Array]:
        import torch
        from pytorch_grad_cam.finer_cam import DEFAULT_COMPARISON_CATEGORIES, FinerWeightedTarget

        self._weights_for(outputs, rows)
        with torch.inference_mode(False), torch.enable_grad():
            given = torch.tensor(outputs, requires_grad=True)
            region = torch.tensor(self.region[rows], dtype=given.dtype)[..., None]
            classes = (given * region).reshape(len(outputs), -1, outputs.shape[-1]).sum(dim=1)
            ordered = [
                np.argsort(np.abs(scores - scores[label]))
                for scores, label in zip(classes.detach().numpy(), self.labels[rows], strict=True)
            ]
            compared = DEFAULT_COMPARISON_CATEGORIES[: outputs.shape[-1] - 1]
            scores = torch.stack([
                FinerWeightedTarget(int(order[0]), [int(order[i]) for i in compared], self.alpha)(row)
                for order, row in zip(ordered, classes, strict=True)
            ])  # fmt: skip
            (gradient,) = torch.autograd.grad(scores.sum(), given)
        return scores.detach().numpy(), gradient.numpy()


@explainer("gradcam.refine_cam", "product of class activation maps of several layers", "arXiv 2605.14641, 2026")
@profiles(native="product over layers, rescaled to [0, 1]")
class RefineCAM(SmoothCam):
    """Product of the Grad-CAM++ maps of several layers (arXiv 2605.14641), each rescaled to [0, 1].

    Parameters
    ----------
    layer : str
        The layers' names, separated by commas; the library has no default. "" takes the last layer at the image's resolution, at
        half of it, at a quarter of it and so on, which leaves out layers that only pad.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layer and not all(name.strip() for name in self.layer.split(",")):
            raise InvalidInput(f"{self.name}: layer names are separated by single commas, got {self.layer!r}")

    def passes(self, question: Question) -> Passes:
        count = len(self._chosen(question))
        return count, count

    def explain(self, question: Question) -> Maps:
        library = require("pytorch_grad_cam", "gradcam", self.name)
        import torch

        chosen = self._chosen(question)
        cam = library.RefineCAM(shell(), [torch.nn.Identity() for _ in chosen])
        for base, layer in zip(cam.base_cam_per_layer, chosen, strict=True):
            recorded(base, *question.layer_score_and_grad(layer)[1:])
        return (self.maps(cam, question),), {}

    def drawn_at(self, question: Question) -> list[str]:
        return self._chosen(question)

    def _chosen(self, question: Question) -> list[str]:
        if self.layer:
            return [question.cam_layer(name.strip()) for name in self.layer.split(",")]
        side = question.values[0].shape[-3]  # y
        ladder = {rounded(side / 2**k) for k in range(side.bit_length()) for rounded in (math.floor, math.ceil)}
        every = question.cam_layers()
        last = {size[-3]: name for name, size in every.items() if size[-3] in ladder and size[-3] > 1}
        return list(dict.fromkeys([*last.values(), list(every)[-1]]))


class _Probability(Target):
    """What the library takes for weights: the softmax of outputs, or themselves where they are one already."""

    def score(self, outputs: Array, rows: npt.NDArray[np.intp]) -> Array:
        return Target(self.weights, "identity" if sums_to_one(outputs) else "softmax").score(outputs, rows)


@explainer("gradcam.sess", "class activation maps in windows of the image enlarged", "Tursun et al. 2022")
@profiles(native="averaged over windows, blurred, rescaled to [0, 1]")
class SESS(SmoothCam, kinds=("image",), least={"sizes": 1}):
    """SESS (Tursun et al. 2022): Grad-CAM in windows of the image enlarged step by step, averaged where they overlap, each
    weighted by the probability that the model gives in the window.

    Windows have the image's size and do not overlap but at the borders. With a single output the weight is the score, if
    positive; for a region of a segmentation map there is no map, since the windows do not show the region.

    Parameters
    ----------
    sizes : int, default 12
        To how many sizes the image is enlarged, by 2/7 of its own at a time.
    """

    sizes: int = 12

    def passes(self, question: Question) -> Passes:
        side = question.values[0].shape[1]
        step = round(side * 2 / 7)
        windows = sum((-(-step * i // side) + 1) ** 2 for i in range(self.sizes))
        return 2 * windows, windows

    def explain(self, question: Question) -> Maps:
        library = require("pytorch_grad_cam", "gradcam", self.name)
        height, width = question.values[0].shape[1:3]
        if height != width:
            raise Unsupported(f"{self.name} looks through square windows, and the image is {height} × {width}")
        if question.target.weights.ndim > 2:
            raise Unsupported(f"{self.name} looks at windows of an enlarged image: a region of a map is not in them")
        layer = question.cam_layer(self.layer)
        return (np.concatenate([self._one(library, question, row, layer) for row in range(len(question))]),), {}

    def _one(self, library: Any, question: Question, row: int, layer: str) -> Array:
        import torch

        sharing = question.target.weights.shape[-1] > 1 and question.target.link == "identity"
        weighing = replace(question, target=_Probability(question.target.weights)) if sharing else question

        def copies(x: Any) -> tuple[tuple[Array], npt.NDArray[np.intp]]:
            images = np.ascontiguousarray(np.moveaxis(x.numpy(), 1, -1)).astype(question.values[0].dtype)
            return (images,), np.full(len(images), row)

        class Windows:
            """What the library records, asked for the windows it passes."""

            def __call__(self, x: Any) -> Any:
                _, activation, gradient = question.layer_score_and_grad(layer, *copies(x))
                self.activations, self.gradients = [nchw(activation)], [nchw(gradient)]
                return torch.zeros(len(x), 1, requires_grad=True)

            def release(self) -> None:
                pass

        cam = library.SESS(
            shell(lambda _module, x: torch.from_numpy(weighing.score(*copies(x)))),
            [],
            num_scales=self.sizes,
            use_softmax_scores=False,
        )
        cam.base_cam.activations_and_grads = Windows()
        cam.base_cam.target_layers = [None]
        pictures = nchw(question.values[0][row : row + 1])
        with steered(cam.base_cam, canonical=False):  # alone: another thread may have steered it
            return np.asarray(cam(pictures, [lambda output: output], self.eigen_smooth))[..., None]
