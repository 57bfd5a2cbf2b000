"""Xplique's gradients, paths and statistics under noise on any model; gradients come from the question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from crossxai.errors import InvalidInput, Unsupported
from crossxai.explainers.families import PathMethod, noise
from crossxai.explainers.method import Maps, Method, explainer, profiles
from crossxai.explainers.xplique import NumberedQuestion, XpliqueMethod, planes, swapped
from crossxai.model import Array
from crossxai.process import require
from crossxai.question import Question


@explainer("xplique.saliency", "absolute gradient", "Simonyan et al. 2013")
@profiles(native="largest absolute gradient over channels", canonical="largest absolute gradient over channels")
class Saliency(XpliqueMethod, kinds=Method.kinds, needs="gradients", family="gradient"):
    """|d score / d input|, largest over channels (Simonyan et al. 2013)."""

    def _explain(self, library: Any, question: Question, asked: NumberedQuestion) -> Maps:
        method = asked.differentiating(library.Saliency, batch_size=question.batch_size)
        return (method(planes(question.values[0]), asked.rows).numpy(),), {}


@explainer("xplique.gradient_input", "gradient times input", "Shrikumar et al. 2016")
@profiles(native="mean over channels", canonical="summed over channels")
class GradientInput(XpliqueMethod, kinds=Method.kinds, needs="gradients", family="gradient"):
    """Gradient · input (Shrikumar et al. 2016), signed."""

    def _explain(self, library: Any, question: Question, asked: NumberedQuestion) -> Maps:
        reducer = "mean" if self.profile == "native" else "sum"
        method = asked.differentiating(library.GradientInput, batch_size=question.batch_size, reducer=reducer)
        return (method(planes(question.values[0]), asked.rows).numpy(),), {}


@explainer(
    "xplique.integrated_gradients", "gradients integrated along a path from a baseline", "Sundararajan et al. 2017"
)
@profiles(native="trapezoid rule, mean over channels", canonical="trapezoid rule, summed over channels")
class IntegratedGradients(PathMethod, XpliqueMethod, kinds=Method.kinds, needs="gradients", family="path"):
    """Path integral of the gradient from a baseline (Sundararajan et al. 2017, eq. 1), trapezoid rule, signed.

    The extra `completeness_gap` (n,) says how far the map, summed over channels, is from adding up. Xplique holds a whole path
    at once: `steps` copies of a sample and their gradients, of several samples together only as long as 4 · batch_size copies
    suffice; it asks for at most so many gradients at a time.
    """

    def _explain(self, library: Any, question: Question, asked: NumberedQuestion) -> Maps:
        modality, values = question.one
        native = self.profile == "native"
        method = asked.differentiating(
            library.IntegratedGradients,
            batch_size=4 * question.batch_size,
            reducer="mean" if native else "sum",
            steps=self.steps,
            baseline_value=self.baseline,
        )
        maps = method(planes(values), asked.rows).numpy()
        scale = len(modality.features) if native and modality.spatial else 1
        total = scale * maps.reshape(len(maps), -1).sum(axis=1)
        return (maps,), {"completeness_gap": self.completeness_gap(question, total)}


@explainer("xplique.forgrad", "absolute gradient, low frequencies only", "Muzellec et al. 2023")
@profiles(native="low-pass filter of the largest absolute gradient over channels")
class ForGrad(XpliqueMethod, needs="gradients", family="gradient", kinds=("image",), least={"sigma": 1}):
    """Saliency without its high spatial frequencies (Muzellec et al. 2023): Xplique's `forgrad` of its saliency map.

    Of square images alone. There is no canonical profile: no other library filters.

    Parameters
    ----------
    sigma : int, default 15
        The highest frequency that stays, in cycles per image (15, for 224 pixels in the paper), at most the image's side.
    """

    sigma: int = 15

    def _explain(self, library: Any, question: Question, asked: NumberedQuestion) -> Maps:
        modality, values = question.one
        height, width = values.shape[1:3]
        if height != width:
            raise Unsupported(f"{self.name} filters square images; modality {modality.name!r} is {height} × {width}")
        if self.sigma > height:
            raise InvalidInput(
                f"{self.name}: sigma {self.sigma} is larger than modality {modality.name!r}: write at most {height}"
            )
        maps = asked.differentiating(library.Saliency, batch_size=question.batch_size)(values, asked.rows)
        filtered = require("xplique.commons", "xplique", self.name).forgrad(maps, self.sigma)
        return (filtered.numpy().reshape(*values.shape[:3], 1),), {}


@dataclass(frozen=True, kw_only=True)
class _Noisy(
    XpliqueMethod, kinds=Method.kinds, least={"samples": 1}, positive=("sd",), needs="gradients", family="smoothing"
):
    """What Xplique's statistics under noise share.

    Parameters
    ----------
    sd : float, default 0.2
        Of the noise: absolute, in raw input units (native), or a share of the modality's declared range (canonical; of 1 without
        one).

    Notes
    -----
    Xplique draws inside a traced function, whose random state depends on the calls before; the noise that every library shares
    takes its place. At most `samples` draws and 4 · batch_size copies exist at once.
    """

    samples: int = 50
    sd: float = 0.2
    seed: int = 0

    def _explain(self, library: Any, question: Question, asked: NumberedQuestion) -> Maps:
        modality, values = question.one
        native = self.profile == "native"
        low, high = (0.0, 1.0) if native or modality.range is None else modality.range
        method = asked.differentiating(
            getattr(library, self.original),
            batch_size=4 * question.batch_size,
            reducer="mean" if native else "sum",
            nb_samples=self.samples,
            noise=self.sd * (high - low),
        )
        module = "xplique.attributions.gradient_statistics.gradient_statistic"
        owner = require(module, "xplique", self.name).GradientStatistic
        with swapped(owner, _perturb_samples=_Draws(question, self.samples, self.seed)):
            return (method(planes(values), asked.rows).numpy(),), {}


class _Draws:
    """Xplique's noise, input by input: copies of several inputs with all their noise, or of one with the next part of it."""

    def __init__(self, question: Question, samples: int, seed: int) -> None:
        self.parts = ((row, planes(noise(question, row, samples, seed)[0])) for row in range(len(question)))
        self.left: Array = np.empty(0)

    def __call__(self, inputs: Any, copies: int, sd: float) -> Any:
        import tensorflow as tf

        drawn = []
        for _ in range(len(inputs)):
            if not len(self.left):
                _, self.left = next(self.parts)
            part, self.left = self.left[:copies], self.left[copies:]
            drawn.append(part)
        return tf.repeat(inputs, copies, axis=0) + tf.constant(sd * np.concatenate(drawn), tf.float32)


@explainer("xplique.smooth_grad", "mean gradient under noise", "Smilkov et al. 2017")
@profiles(
    native="signed gradients under noise of an absolute sd, mean over channels",
    canonical="signed gradients under noise of a sd relative to the range, summed over channels",
)
class SmoothGrad(_Noisy):
    """Mean gradient under Gaussian noise (Smilkov et al. 2017), signed."""


@explainer("xplique.square_grad", "mean squared gradient under noise", "Hooker et al. 2019")
@profiles(
    native="squared gradients under noise of an absolute sd, mean over channels",
    canonical="squared gradients under noise of a sd relative to the range, summed over channels",
)
class SquareGrad(_Noisy):
    """Mean squared gradient under Gaussian noise (Hooker et al. 2019)."""


@explainer("xplique.var_grad", "variance of the gradient under noise", "Adebayo et al. 2018")
@profiles(
    native="unbiased variance under noise of an absolute sd, mean over channels",
    canonical="population variance under noise of a sd relative to the range, summed over channels",
)
class VarGrad(_Noisy, least={"samples": 2}):
    """Variance of the gradient under Gaussian noise (Adebayo et al. 2018)."""

    def _explain(self, library: Any, question: Question, asked: NumberedQuestion) -> Maps:
        (maps,), extras = super()._explain(library, question, asked)
        return (maps if self.profile == "native" else maps * np.float32((self.samples - 1) / self.samples),), extras
