"""Xplique's methods that need layers: its weighting of a layer's activations, and its rewriting of ReLUs on a Keras twin.

A bridge has no ReLUs to rewrite, and neither has a Keras model what is inside another layer or fused into one: there the
library gives the plain gradient without a word. The twin is flat, and every activation is a layer of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from crossxai.attribution import Needs, Profile
from crossxai.errors import Unsupported
from crossxai.explainers.families import bilinear
from crossxai.explainers.method import Maps, Passes
from crossxai.explainers.twins import KerasTwinScores
from crossxai.explainers.xplique import XpliqueMethod
from crossxai.model import Array
from crossxai.process import require, streams_kept
from crossxai.question import Question


@dataclass(frozen=True, kw_only=True)
class _Cam(XpliqueMethod):
    """What Xplique's activation maps share."""

    family: ClassVar = "activation map"
    kinds: ClassVar = ("image",)
    needs: ClassVar[Needs] = "layers"
    cam: ClassVar[str]

    layer: str = ""

    def _explain(self, library: Any, question: Question, rows: Array) -> Maps:
        import tensorflow as tf

        _, values = question.one
        _, activation, gradient = question.layer_score_and_grad(question.cam_layer(self.layer))
        activation, gradient = activation.astype(np.float32), gradient.astype(np.float32)
        kind = getattr(library, self.cam)
        if self.profile == "canonical":
            weights = self._canonical_weights(kind, tf.constant(gradient), tf.constant(activation))
            raw = kind._apply_weights(weights, tf.constant(activation)).numpy()
            return (bilinear(raw, *values.shape[1:3])[..., None],), {}

        class Fed(kind):  # type: ignore[misc,valid-type]
            """The library's own, with activations and gradients given instead of recorded."""

            def __init__(self) -> None:
                self.batch_size = question.batch_size

            def _gradient(self, _inputs: Any, targets: Any) -> tuple[Any, Any]:
                index = targets.numpy()[:, 0].astype(np.intp)
                return tf.constant(activation[index]), tf.constant(gradient[index])

        return (Fed().explain(values, rows).numpy(),), {}

    def _canonical_weights(self, kind: Any, gradient: Any, activation: Any) -> Any:
        return kind._compute_weights(gradient, activation)


@dataclass(frozen=True, kw_only=True)
class GradCAM(_Cam):
    """Grad-CAM (Selvaraju et al. 2017).

    The bicubic resize can undershoot below zero.
    """

    name: ClassVar = "xplique.gradcam"
    summary: ClassVar = "class activation map, channels weighted by mean gradients"
    reference: ClassVar = "Selvaraju et al. 2017"
    conventions: ClassVar = {
        "native": "ReLU, bicubic resize, no rescale",
        "canonical": "ReLU, bilinear resize, no rescale",
    }
    cam: ClassVar = "GradCAM"


@dataclass(frozen=True, kw_only=True)
class GradCAMPlusPlus(_Cam):
    """Grad-CAM++ (Chattopadhyay et al. 2018, eq. 19).

    Natively the denominator has the mean activation where the paper has the sum: other weights, not another scale.
    """

    name: ClassVar = "xplique.gradcam_plus_plus"
    summary: ClassVar = "class activation map, channels weighted by positive gradients"
    reference: ClassVar = "Chattopadhyay et al. 2018"
    conventions: ClassVar = {
        "native": "means over space, ReLU, bicubic resize, no rescale",
        "canonical": "sums over space, ReLU, bilinear resize, no rescale",
    }
    cam: ClassVar = "GradCAMPP"

    def _canonical_weights(self, kind: Any, gradient: Any, activation: Any) -> Any:
        # The library takes means: of the activation times the area, which is its sum, and then of the weights.
        area = float(activation.shape[1] * activation.shape[2])
        return area * kind._compute_weights(gradient, area * activation)


@dataclass(frozen=True, kw_only=True)
class FEM(XpliqueMethod):
    """Feature explanation method (Fuad et al. 2020): where each channel of a layer stands out, weighted by its mean.

    The map does not depend on the target. Bicubic resize (which can undershoot below zero), no rescale. There is no canonical
    profile: pytorch-grad-cam's method of this name weights activations by the share of such places, which is another map.

    Parameters
    ----------
    layer : str, default ''
        The layer to draw the map at; "" takes the last one with space that the score depends on.
    k : float, default 2.0
        How many standard deviations above its mean a channel has to be.
    """

    name: ClassVar = "xplique.fem"
    summary: ClassVar = "places where a layer's channels stand out, whatever the target"
    family: ClassVar = "activation map"
    reference: ClassVar = "Fuad et al. 2020"
    conventions: ClassVar = {"native": "channel means of the places above k sd, bicubic resize, no rescale"}
    kinds: ClassVar = ("image",)
    needs: ClassVar = "layers"
    profiles: ClassVar[tuple[Profile, ...]] = ("native",)
    least: ClassVar = {"k": 0}

    layer: str = ""
    k: float = 2.0

    def passes(self, question: Question) -> Passes:
        return 1, 0

    def _explain(self, library: Any, question: Question, rows: Array) -> Maps:
        import tensorflow as tf

        _, values = question.one
        _, activation = question.layer_score(question.cam_layer(self.layer))
        parts = iter(range(0, len(values), question.batch_size))

        class Fed(library.FEM):  # type: ignore[misc]
            """The library's own, with activations given instead of recorded; it asks batch by batch, in order."""

            def __init__(self, k: float) -> None:
                self.batch_size, self.k = question.batch_size, tf.cast(k, tf.float32)

            def model(self, images: Any) -> Any:
                start = next(parts)
                return tf.constant(activation[start : start + len(images)], tf.float32)

        return (Fed(self.k).explain(values).numpy(),), {}


@dataclass(frozen=True, kw_only=True)
class _Rewritten(XpliqueMethod):
    """What Xplique's rewriting of ReLUs shares.

    Notes
    -----
    The extra `twin_gap` (n,) is |score of the rewritten twin - score of the model|. A network without a ReLU is `Unsupported`,
    since the map would be the plain gradient. ReLU6 counts as a ReLU (guided, Xplique lets gradients through above 6 too); no
    other activation does.
    """

    family: ClassVar = "propagation"
    needs: ClassVar[Needs] = "module"
    conventions: ClassVar = {"native": "mean over channels", "canonical": "summed over channels"}
    kind: ClassVar[str]

    def passes(self, question: Question) -> Passes:
        return 2, 1  # one forward pass more than the map needs: the model's own score, for the gap

    def _explain(self, library: Any, question: Question, rows: Array) -> Maps:
        (values,) = question.values
        scores = KerasTwinScores(question)
        network = scores.rebuilt.module
        overriding = require("xplique.commons.model_override", "xplique", self.name)
        batching = require("xplique.commons.operators_operations", "xplique", self.name).operator_batching
        if not any(overriding.is_relu(layer) for layer in network.layers):
            raise Unsupported(
                f"{self.name} changes the gradient at ReLUs, and model {question.model.name!r} has none: use xplique.saliency"
            )
        with _forgotten(library, network), streams_kept():  # Xplique copies the network, and new layers draw weights
            method = getattr(library, self.kind)(
                network,
                operator=scores.operator,
                batch_size=question.batch_size,
                reducer="mean" if self.profile == "native" else "sum",
            )
            # Not traced: that takes longer than a few batches, and TensorFlow keeps the graph of every custom gradient for ever.
            method.batch_gradient = batching(method.gradient.python_function)
            return (method(values, rows).numpy(),), {"twin_gap": scores.gap()}


@contextmanager
def _forgotten(library: Any, network: Any) -> Iterator[None]:
    """Xplique keeps every Keras model it has seen, for ever, in a class: not this one."""
    cache = library.Saliency._cache_models
    try:
        yield
    finally:
        for key in [key for key, model in cache.items() if model is network]:
            del cache[key]


@dataclass(frozen=True, kw_only=True)
class GuidedBackprop(_Rewritten):
    """Gradient whose negative parts are cut at every ReLU on the way back (Springenberg et al. 2014)."""

    name: ClassVar = "xplique.guided_backprop"
    summary: ClassVar = "gradient through positive paths"
    reference: ClassVar = "Springenberg et al. 2014"
    kind: ClassVar = "GuidedBackprop"


@dataclass(frozen=True, kw_only=True)
class DeconvNet(_Rewritten):
    """Gradient that passes every ReLU backwards through a ReLU instead of its derivative (Zeiler & Fergus 2014)."""

    name: ClassVar = "xplique.deconv_net"
    summary: ClassVar = "gradient with ReLUs applied backwards"
    reference: ClassVar = "Zeiler & Fergus 2014"
    kind: ClassVar = "DeconvNet"
