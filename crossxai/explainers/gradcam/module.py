"""pytorch-grad-cam's methods that need the network itself: on a torch twin of any model that gives a graph, see `twins`.
The extra `twin_gap` (n,) of every map here is |score of the twin - score of the model|."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossxai.errors import InvalidInput, Unsupported
from crossxai.explainers.gradcam import SmoothCam, nchw, shell
from crossxai.explainers.method import Maps, Method, explainer, profiles
from crossxai.explainers.twins import TorchTwinScores
from crossxai.model import Array
from crossxai.porting.graph import ACTIVATIONS, LINEAR, Graph
from crossxai.process import require
from crossxai.question import Question


@dataclass(frozen=True, kw_only=True)
class _TwinCam(SmoothCam, needs="module", constant_passes=(2, 1)):
    """Maps whose passes go through the twin, in pieces of so many samples."""

    def explain(self, question: Question) -> Maps:
        library = require("pytorch_grad_cam", "gradcam", self.name)
        twin = TorchTwinScores(question)
        cam = self.prepare(library, twin)
        maps, scores = [], []
        for start in range(0, len(question), self.piece(question)):
            part = question[start : start + self.piece(question)]
            cam.model.rows = np.arange(start, start + len(part))
            twin.seen.clear()
            maps.append(self.maps(cam, part))
            scores.append(twin.seen[0])
            # Left there, the library would try to detach gradients that are views, and fail, when it is thrown away.
            cam.activations_and_grads.activations = cam.activations_and_grads.gradients = []
        return (np.concatenate(maps),), {"twin_gap": twin.gap(np.concatenate(scores))}

    def prepare(self, library: Any, twin: TorchTwinScores) -> Any:
        """The library's object on the twin."""
        raise NotImplementedError

    def piece(self, question: Question) -> int:
        """Samples per pass."""
        return question.batch_size


def _scoring(twin: TorchTwinScores, shown: Sequence[Any] = ()) -> Any:
    """The twin's scores as a torch module of one image tensor, of the samples `rows`; `shown`: the layers to be found in it."""
    return shell(lambda module, x: twin.module(x.to(twin.dtype), twin.rows(module.rows)), shown)


@explainer("gradcam.fullgrad", "input times gradient plus bias times gradient of all layers", "Srinivas & Fleuret 2019")
@profiles(native="each channel of each layer rescaled to [0, 1], then the sum")
class FullGrad(_TwinCam, kinds=("image",)):
    """Input × gradient plus the bias × gradient of every convolution and batch norm (Srinivas & Fleuret 2019, eq. 7).

    The library takes absolute values, and rescales each channel of each layer to [0, 1] before it adds them up. Of several
    modalities, the layers that the free one reaches count; it is drawn at all of them, so there is no layer to name.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layer:
            raise InvalidInput(f"{self.name} adds up all layers: leave layer empty, got {self.layer!r}")

    def prepare(self, library: Any, twin: TorchTwinScores) -> Any:
        graph = twin.rebuilt.graph
        # The library collects the biases of convolutions and batch norms of images.
        flat = {op for op in LINEAR | ACTIVATIONS if not op.endswith(("1d", "3d"))}
        twin.require_rules(flat | {"max_pool2d", "global_max_pool", "multiply"}, self.name)
        _, values = twin.question.one
        start = graph.inputs[[m.name for m in twin.question.model.modalities].index(twin.question.free[0])]
        # In the order in which they run, which is the one in which the library pairs biases with gradients.
        cam = self.make(library, _scoring(twin, [twin.rebuilt.module.layer(node) for node in _reached(graph, start)]))
        cam.get_target_width_height = lambda _x: (values.shape[2], values.shape[1])
        return cam

    def piece(self, question: Question) -> int:
        return 1  # it enlarges every channel of every layer to the size of the image


def _reached(graph: Graph, start: str) -> list[str]:
    """Nodes that an input reaches, in order, without the input itself."""
    reached = {start}
    for node in graph.nodes:
        if reached.intersection(node.inputs):
            reached.add(node.name)
    return [node.name for node in graph.nodes if node.name in reached and node.name != start]


@explainer(
    "gradcam.shapleycam", "class activation map, channels weighted by gradients with their curvature", "Cai 2025"
)
class ShapleyCAM(_TwinCam, constant_passes=(2, 2)):
    """Shapley-CAM (Cai 2025): channels weighted by the mean of gradient - ½ Hessian × activation.

    Where the score is piecewise linear in the activation, as a logit behind ReLUs and pools is, the Hessian is zero and the map
    is Grad-CAM's: ask for the probability (link = "softmax"), or at a layer before something curved.
    """

    def prepare(self, library: Any, twin: TorchTwinScores) -> Any:
        layer = twin.layer(self.layer, self.name)
        # The second derivative is asked of gradients that depend on nothing otherwise.
        twin.rebuilt.module.requires_grad_(True)
        return library.ShapleyCAM(_scoring(twin), [layer])


@explainer("gradcam.guided_backprop", "gradient through positive paths", "Springenberg et al. 2014")
@profiles(native="per channel", canonical="summed over channels")
class GuidedBackprop(Method, needs="module", family="propagation", kinds=("image",), constant_passes=(2, 1)):
    """Gradient whose negative parts are cut at every ReLU on the way back (Springenberg et al. 2014), one image at a time.

    A network without a ReLU is `Unsupported`, since the map would be the plain gradient; the library leaves ReLU6 as it is. It
    also leaves one shared ReLU behind, in the twin and not in the model.
    """

    def explain(self, question: Question) -> Maps:
        import torch

        library = require("pytorch_grad_cam", "gradcam", self.name)
        twin = TorchTwinScores(question)
        if not any(isinstance(layer, torch.nn.ReLU) for layer in twin.rebuilt.module.modules()):
            raise Unsupported(
                f"{self.name}: model {question.model.name!r} has no ReLU to guide: it would be the gradient"
            )

        model = shell(lambda module, x: twin.module(x, twin.rows(module.rows))[:, None], [twin.module])
        guided = library.GuidedBackpropReLUModel(model)
        maps: list[Array] = []
        for row in range(len(question)):
            model.rows = np.array([row])
            maps.append(guided(nchw(question.values[0][row : row + 1]).to(twin.dtype), 0))
        stacked = np.stack(maps)
        stacked = stacked if self.profile == "native" else stacked.sum(axis=-1, keepdims=True)
        return (stacked,), {"twin_gap": twin.gap(np.concatenate(twin.seen))}
