"""Xplique's methods that need layers: its weighting of a layer's activations, and its rewriting of ReLUs on a Keras twin, which
is flat: inside another layer, or fused into one, it would overlook a ReLU without a word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from crossxai.errors import Unsupported
from crossxai.explainers.families import bilinear
from crossxai.explainers.method import Maps, Method, explainer, profiles
from crossxai.explainers.native import forgotten
from crossxai.explainers.twins import KerasTwinScores
from crossxai.explainers.xplique import NumberedQuestion, XpliqueMethod, in_space, planes
from crossxai.process import require, streams_kept
from crossxai.question import Question


@dataclass(frozen=True, kw_only=True)
class _Cam(XpliqueMethod, needs="layers", family="activation map", kinds=("image", "volume")):
    """What Xplique's activation maps share."""

    layer: str = ""

    def _explain(self, library: Any, question: Question, asked: NumberedQuestion) -> Maps:
        import tensorflow as tf

        _, values = question.one
        _, activation, gradient = question.layer_score_and_grad(question.cam_layer(self.layer))
        activation, gradient = activation.astype(np.float32), gradient.astype(np.float32)
        kind = getattr(library, self.original)
        if self.profile == "canonical":
            shown, slopes = tf.constant(planes(activation)), tf.constant(planes(gradient))
            weights = self._canonical_weights(kind, slopes, shown)
            raw = kind._apply_weights(weights, shown).numpy()
            return (bilinear(in_space(raw[..., None], activation)[..., 0], *values.shape[1:-1])[..., None],), {}
        if values.ndim == 5:
            raise Unsupported(
                f"{self.name}, profile native: Xplique enlarges maps of images alone, and "
                f"{question.modalities[0].name!r} is a volume: write profile canonical"
            )

        class Fed(kind):  # type: ignore[misc,valid-type]
            """The library's own, with activations and gradients given instead of recorded."""

            def __init__(self) -> None:
                self.batch_size = question.batch_size

            def _gradient(self, _inputs: Any, targets: Any) -> tuple[Any, Any]:
                index = targets.numpy()[:, 0].astype(np.intp)
                return tf.constant(activation[index]), tf.constant(gradient[index])

        return (Fed().explain(values, asked.rows).numpy(),), {}

    def _canonical_weights(self, kind: Any, gradient: Any, activation: Any) -> Any:
        return kind._compute_weights(gradient, activation)


@explainer("xplique.gradcam", "class activation map, channels weighted by mean gradients", "Selvaraju et al. 2017")
@profiles(native="ReLU, bicubic resize, no rescale", canonical="ReLU, bilinear resize, no rescale")
class GradCAM(_Cam):
    """Grad-CAM (Selvaraju et al. 2017).

    The bicubic resize can undershoot below zero.
    """


@explainer(
    "xplique.gradcam_plus_plus",
    "class activation map, channels weighted by positive gradients",
    "Chattopadhyay et al. 2018",
)
@profiles(
    native="means over space, ReLU, bicubic resize, no rescale",
    canonical="sums over space, ReLU, bilinear resize, no rescale",
)
class GradCAMPlusPlus(_Cam, original="GradCAMPP"):
    """Grad-CAM++ (Chattopadhyay et al. 2018, eq. 19).

    Natively the denominator has the mean activation where the paper has the sum: other weights, not another scale.
    """

    def _canonical_weights(self, kind: Any, gradient: Any, activation: Any) -> Any:
        # The library takes means: of the activation times the area, which is its sum, and then of the weights.
        area = float(activation.shape[1] * activation.shape[2])
        return area * kind._compute_weights(gradient, area * activation)


@explainer("xplique.fem", "places where a layer's channels stand out, whatever the target", "Fuad et al. 2020")
@profiles(native="channel means of the places above k sd, bicubic resize, no rescale")
class FEM(
    XpliqueMethod, needs="layers", family="activation map", kinds=("image",), least={"k": 0}, constant_passes=(1, 0)
):
    """Feature explanation method (Fuad et al. 2020): where each channel of a layer stands out, weighted by its mean.

    The map does not depend on the target. Bicubic resize (which can undershoot below zero), no rescale. There is no canonical
    profile: pytorch-grad-cam's method of this name weights activations by the share of such places, which is another map.

    Parameters
    ----------
    k : float, default 2.0
        How many standard deviations above its mean a channel has to be.
    """

    layer: str = ""
    k: float = 2.0

    def _explain(self, library: Any, question: Question, asked: NumberedQuestion) -> Maps:
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
@profiles(native="mean over channels", canonical="summed over channels")
class _Rewritten(XpliqueMethod, kinds=Method.kinds, needs="module", family="propagation", constant_passes=(2, 1)):
    """What Xplique's rewriting of ReLUs shares.

    Notes
    -----
    The extra `twin_gap` (n,) is |score of the rewritten twin - score of the model|. A network without a ReLU is `Unsupported`,
    since the map would be the plain gradient. ReLU6 counts as a ReLU (guided, Xplique lets gradients through above 6 too); no
    other activation does.
    """

    def _explain(self, library: Any, question: Question, asked: NumberedQuestion) -> Maps:
        (values,) = question.values
        scores = KerasTwinScores(question)
        network = scores.rebuilt.module
        overriding = require("xplique.commons.model_override", "xplique", self.name)
        batching = require("xplique.commons.operators_operations", "xplique", self.name).operator_batching
        if not any(overriding.is_relu(layer) for layer in network.layers):
            raise Unsupported(
                f"{self.name} changes the gradient at ReLUs, and model {question.model.name!r} has none: use xplique.saliency"
            )
        # Xplique copies the network, and new layers draw weights.
        with forgotten(library.Saliency, network), streams_kept():
            method = getattr(library, self.original)(
                network,
                operator=scores.operator,
                batch_size=question.batch_size,
                reducer="mean" if self.profile == "native" else "sum",
            )
            # Not traced: that takes longer than a few batches, and TensorFlow keeps the graph of every custom gradient for ever.
            method.batch_gradient = batching(method.gradient.python_function)
            return (method(planes(values), asked.rows).numpy(),), {"twin_gap": scores.gap()}


@explainer("xplique.guided_backprop", "gradient through positive paths", "Springenberg et al. 2014")
class GuidedBackprop(_Rewritten):
    """Gradient whose negative parts are cut at every ReLU on the way back (Springenberg et al. 2014)."""


@explainer("xplique.deconv_net", "gradient with ReLUs applied backwards", "Zeiler & Fergus 2014")
class DeconvNet(_Rewritten):
    """Gradient that passes every ReLU backwards through a ReLU instead of its derivative (Zeiler & Fergus 2014)."""
