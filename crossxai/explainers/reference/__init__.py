"""The referee: canonical definitions in NumPy, written straight from the equations, short and slow; a library's canonical
profile has to equal them on the same question. Here are those that read gradients and layers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crossxai.attribution import Profile
from crossxai.explainers.families import PathMethod, bilinear, noise, over_channels
from crossxai.explainers.method import Maps, Method, Passes, explainer, profiles
from crossxai.model import Array, Inputs
from crossxai.question import Question


@dataclass(frozen=True, kw_only=True)
class Referee(Method, profiles=("canonical",), joint=True):
    """A definition that libraries are compared with: canonical alone, and one call for all free modalities."""

    profile: Profile = "canonical"


@explainer("reference.saliency", "absolute gradient", "Simonyan et al. 2013")
@profiles(canonical="largest absolute gradient over channels")
class Saliency(Referee, needs="gradients", family="gradient"):
    """|d score / d input|, the largest over channels (Simonyan et al. 2013, section 3.1)."""

    def explain(self, question: Question) -> Maps:
        _, gradients = question.score_and_grad()
        return over_channels(question, [np.abs(g) for g in gradients], np.max), {}


@explainer("reference.gradient_x_input", "input times gradient", "Shrikumar et al. 2016")
@profiles(canonical="summed over channels")
class GradientXInput(Referee, needs="gradients", family="gradient"):
    """Input · d score / d input, signed, summed over channels (Shrikumar et al. 2016)."""

    def explain(self, question: Question) -> Maps:
        _, gradients = question.score_and_grad()
        return over_channels(question, [x * g for x, g in zip(question.values, gradients, strict=True)]), {}


@explainer(
    "reference.integrated_gradients", "gradients integrated along a path from a baseline", "Sundararajan et al. 2017"
)
@profiles(canonical="trapezoid rule, summed over channels")
class IntegratedGradients(Referee, PathMethod, needs="gradients", family="path"):
    """(x - b) times the mean gradient along the straight path from b to x (Sundararajan et al. 2017, eq. 1).

    The trapezoid rule on `steps` points from 0 to 1, both included; signed, summed over channels. The extra
    `completeness_gap` (n,) is the sum of the map minus score(x) - score(b).
    """

    def passes(self, question: Question) -> Passes:
        return self.steps, self.steps  # the ends of the path give the two scores of the completeness gap

    def explain(self, question: Question) -> Maps:
        alphas = np.linspace(0, 1, self.steps)
        weights = np.full(self.steps, 1 / (self.steps - 1))
        weights[[0, -1]] /= 2
        points = tuple(
            np.stack([self.baseline + a * (x - self.baseline) for a in alphas]).astype(x.dtype) for x in question.values
        )
        scores, gradients = _all(question, points)
        maps = [
            (x - x.dtype.type(self.baseline)) * np.tensordot(weights, g, axes=1).astype(g.dtype)
            for x, g in zip(question.values, gradients, strict=True)
        ]
        total = sum(v.reshape(len(question), -1).sum(axis=1) for v in maps)
        return over_channels(question, maps), {"completeness_gap": np.asarray(total - (scores[-1] - scores[0]))}


@explainer("reference.smooth_grad", "mean gradient under noise", "Smilkov et al. 2017")
@profiles(canonical="signed mean, summed over channels, noise as a share of the range")
class SmoothGrad(Referee, copied_by="samples", least={"samples": 1, "sd": 0}, needs="gradients", family="smoothing"):
    """Mean gradient of noisy copies of the input (Smilkov et al. 2017), signed, summed over channels.

    Parameters
    ----------
    sd : float, default 0.15
        Of the Gaussian noise, as a share of the modality's declared range, which counts as 1 where none is declared.
    """

    samples: int = 50
    sd: float = 0.15
    seed: int = 0

    def explain(self, question: Question) -> Maps:
        drawn = [noise(question, row, self.samples, self.seed) for row in range(len(question))]
        widths = [1.0 if m.range is None else m.range[1] - m.range[0] for m in question.modalities]
        points = tuple(
            x + x.dtype.type(self.sd * width) * np.stack([draws[i] for draws in drawn], axis=1)
            for i, (x, width) in enumerate(zip(question.values, widths, strict=True))
        )
        _, gradients = _all(question, points)
        return over_channels(question, [g.mean(axis=0) for g in gradients]), {}


@explainer("reference.gradcam", "class activation map, channels weighted by mean gradients", "Selvaraju et al. 2017")
@profiles(canonical="ReLU, bilinear resize, no rescale")
class GradCAM(Referee, needs="layers", family="activation map", kinds=("image", "volume"), joint=False):
    """ReLU of a layer's activation, channels weighted by their mean gradient (Selvaraju et al. 2017, eq. 1 and 2).

    The map is resized bilinearly, with half-pixel centres, and not rescaled.
    """

    layer: str = ""

    def explain(self, question: Question) -> Maps:
        _, values = question.one
        _, activation, gradient = question.layer_score_and_grad(question.cam_layer(self.layer))
        weights = gradient.mean(axis=tuple(range(1, gradient.ndim - 1)))
        raw = np.maximum(np.einsum("n...c,nc->n...", activation, weights), 0)
        return (bilinear(raw, *values.shape[1:-1])[..., None],), {}


def _all(question: Question, points: Inputs) -> tuple[Array, Inputs]:
    """Scores (points, n) and gradients (points, n, *axes) at points (points, n, *axes) of every sample."""
    count, n = points[0].shape[:2]
    flat = tuple(p.reshape(count * n, *p.shape[2:]) for p in points)
    scores, gradients = question.score_and_grad(flat, np.tile(np.arange(n), count))
    return scores.reshape(count, n), tuple(g.reshape(count, n, *g.shape[1:]) for g in gradients)
