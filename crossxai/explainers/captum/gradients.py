"""Captum's gradients, paths and activation map, on any model."""

from __future__ import annotations

from typing import Any

import numpy as np

from crossxai.errors import InvalidInput
from crossxai.explainers.captum import attribute, attribute_one, captum, forward, joined, room, signed
from crossxai.explainers.families import PathMethod, bilinear, over_channels
from crossxai.explainers.method import Maps, Method, explainer, profiles
from crossxai.question import Question

QUADRATURES = ("gausslegendre", "riemann_trapezoid", "riemann_left", "riemann_right", "riemann_middle")


@explainer("captum.saliency", "absolute gradient", "Simonyan et al. 2013")
@profiles(native="one absolute gradient per channel", canonical="largest absolute gradient over channels")
class Saliency(Method, needs="gradients", family="gradient", joint=True):
    """|d score / d input| (Simonyan et al. 2013)."""

    def explain(self, question: Question) -> Maps:
        maps = attribute(captum(self.name).Saliency(forward(question)), question)
        return tuple(maps) if self.profile == "native" else over_channels(question, maps, np.max), {}


@explainer("captum.input_x_gradient", "input times gradient", "Shrikumar et al. 2016")
@profiles(native="per channel", canonical="summed over channels")
class InputXGradient(Method, needs="gradients", family="gradient", joint=True):
    """Input · gradient (Shrikumar et al. 2016), signed."""

    def explain(self, question: Question) -> Maps:
        maps = attribute(captum(self.name).InputXGradient(forward(question)), question)
        return signed(self, question, maps), {}


@explainer(
    "captum.integrated_gradients", "gradients integrated along a path from a baseline", "Sundararajan et al. 2017"
)
@profiles(native="Gauss-Legendre quadrature, per channel", canonical="trapezoid rule, summed over channels")
class IntegratedGradients(
    PathMethod, choices={"quadrature": QUADRATURES}, needs="gradients", family="path", joint=True, copied_by=""
):
    """Path integral of the gradient from a baseline (Sundararajan et al. 2017, eq. 1), signed.

    The extra `completeness_gap` (n,) says how far the map is from adding up. However many the steps, about four batches of
    copies exist at once.

    Parameters
    ----------
    quadrature : str or None, default None
        One of Captum's rules, by its name; None takes the profile's own.
    """

    quadrature: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.profile == "canonical" and self.quadrature not in (None, "riemann_trapezoid"):
            raise InvalidInput(
                f"{self.name}: the canonical profile is the trapezoid rule; for quadrature {self.quadrature!r} write "
                'profile="native"'
            )

    def explain(self, question: Question) -> Maps:
        method = captum(self.name).IntegratedGradients(forward(question))
        canonical = self.profile == "canonical"
        maps = attribute(
            method,
            question,
            baselines=tuple(self.baseline for _ in question.values),
            n_steps=self.steps,
            method="riemann_trapezoid" if canonical else self.quadrature or "gausslegendre",
            internal_batch_size=room(question, len(question)) * len(question),  # copies of all samples together
        )
        # Captum's trapezoid weights sum to (n - 1) / n (measured: 2 % low at 50 steps): undo that.
        arrays = [v * (self.steps / (self.steps - 1) if canonical else 1.0) for v in maps]
        total = np.sum([v.reshape(len(question), -1).sum(axis=1) for v in arrays], axis=0)
        return signed(self, question, arrays), {"completeness_gap": self.completeness_gap(question, total)}


@explainer("captum.gradient_shap", "gradients at random points of a path from a baseline", "Lundberg & Lee 2017")
@profiles(native="per channel", canonical="summed over channels")
class GradientShap(
    Method, least={"samples": 1, "stdev": 0}, needs="gradients", family="Shapley", joint=True, copied_by="samples"
):
    """Mean of (input - baseline) · gradient at random points between the two (Lundberg & Lee 2017; Erion et al. 2021).

    Captum asks for a distribution of baselines and has no default; ours is one constant. Captum draws the points on the line
    from NumPy's global generator and the noise from torch's: both are seeded for each sample by its name and `seed`.

    Parameters
    ----------
    samples : int, default 5
        Copies of each sample, each at its own point on the line.
    stdev : float, default 0.0
        Standard deviation of the noise on each copy, in raw input units.
    baseline : float, default 0.0
        Where the line starts, in raw input units (0 is black).
    """

    samples: int = 5
    stdev: float = 0.0
    baseline: float = 0.0
    seed: int = 0

    def explain(self, question: Question) -> Maps:
        import torch

        method = captum(self.name).GradientShap(forward(question))
        baselines = tuple(torch.from_numpy(np.full_like(v[:1], self.baseline)) for v in question.values)
        options = {"baselines": baselines, "n_samples": self.samples, "stdevs": float(self.stdev)}
        per_sample = [attribute_one(method, question, row, self.seed, **options) for row in range(len(question))]
        return signed(self, question, joined(per_sample)), {}


@explainer(
    "captum.layer_grad_cam", "class activation map, channels weighted by mean gradients", "Selvaraju et al. 2017"
)
@profiles(native="no ReLU, nearest-neighbour resize, no rescale", canonical="ReLU, bilinear resize, no rescale")
class LayerGradCam(Method, needs="layers", family="activation map", kinds=("image", "volume")):
    """Grad-CAM (Selvaraju et al. 2017, eq. 1 and 2) at a layer.

    The native map is signed, and enlarged by Captum's own `LayerAttribution.interpolate`.
    """

    layer: str = ""

    def explain(self, question: Question) -> Maps:
        import torch

        library = captum(self.name)
        _, values = question.one
        _, activation, gradient = question.layer_score_and_grad(question.cam_layer(self.layer))
        given, gradients = (torch.from_numpy(np.moveaxis(a, -1, 1).copy()) for a in (activation, gradient))
        replay, canonical = _replaying(gradients), self.profile == "canonical"
        cam = library.LayerGradCam(replay, replay.layer).attribute(given, relu_attributions=canonical)
        if canonical:
            return (bilinear(cam[:, 0].detach().numpy(), *values.shape[1:-1])[..., None],), {}
        large = library.LayerAttribution.interpolate(cam, values.shape[1:-1])
        return (large.detach().movedim(1, -1).numpy(),), {}


def _replaying(gradient: Any) -> Any:
    """A module of an activation that Captum can hook: its `layer` gives it on, and its output has that gradient there."""
    import torch

    class Replayed(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x.new_zeros(len(x))  # the method reads gradients, never the score

        @staticmethod
        def backward(ctx: Any, upstream: Any) -> Any:
            return gradient * upstream.reshape(-1, *[1] * (gradient.ndim - 1))

    class Replay(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Identity()

        def forward(self, x: Any) -> Any:
            return Replayed.apply(self.layer(x))

    return Replay()
