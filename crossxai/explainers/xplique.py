"""Xplique on any model: its attributions run in TensorFlow graphs, and every score comes from the question.

Xplique casts inputs to float32, so its answers are float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from crossxai.attribution import Profile
from crossxai.errors import InvalidInput, Unsupported
from crossxai.explainers.method import Answer, Method, Passes
from crossxai.explainers.path import PathMethod
from crossxai.explainers.window import WindowMethod
from crossxai.explainers.xplique_bridge import Asking, seeded
from crossxai.process import require
from crossxai.question import Question
from crossxai.resize import bilinear


@dataclass(frozen=True, kw_only=True)
class _Xplique(Method):
    """What Xplique's methods share: images and tables only, since it reduces channels of 4-D arrays alone."""

    library: ClassVar = "xplique"
    kinds: ClassVar[tuple[str, ...]] = ("image", "table")

    def explain(self, question: Question) -> Answer:
        asking = Asking(question)
        import tensorflow as tf

        try:
            return self._explain(require("xplique.attributions", "xplique", self.name), question, asking)
        except tf.errors.OpError as error:
            if asking.failure is not None:
                raise asking.failure from error
            raise

    def _explain(self, library: Any, question: Question, asking: Asking) -> Answer:
        raise NotImplementedError


def _rows(question: Question) -> Any:
    return np.arange(len(question), dtype=np.float32)[:, None]


@dataclass(frozen=True, kw_only=True)
class Saliency(_Xplique):
    """|d score / d input|, largest over channels (Simonyan et al. 2013); native and canonical agree."""

    name: ClassVar = "xplique.saliency"
    summary: ClassVar = "absolute gradient"
    conventions: ClassVar = {p: "largest absolute gradient over channels" for p in ("native", "canonical")}
    needs: ClassVar = "gradients"

    def _explain(self, library: Any, question: Question, asking: Asking) -> Answer:
        (values,) = question.values
        method = library.Saliency(None, operator=asking.gradient, batch_size=question.batch_size)
        return (method(values, _rows(question)).numpy(),), {}


@dataclass(frozen=True, kw_only=True)
class IntegratedGradients(PathMethod, _Xplique):
    """Path integral of the gradient from a baseline (Sundararajan et al. 2017, eq. 1), trapezoid rule, signed.

    Native: mean over channels. Canonical: sum over channels, so that completeness holds. The extra `completeness_gap` (n,)
    says how far the map, summed over channels, is from adding up.
    """

    name: ClassVar = "xplique.integrated_gradients"
    summary: ClassVar = "gradients integrated along a path from a baseline"
    conventions: ClassVar = {
        "native": "trapezoid rule, mean over channels",
        "canonical": "trapezoid rule, summed over channels",
    }
    needs: ClassVar = "gradients"

    def _explain(self, library: Any, question: Question, asking: Asking) -> Answer:
        modality, values = question.one
        native = self.profile == "native"
        method = library.IntegratedGradients(
            None,
            operator=asking.gradient,
            batch_size=max(self.steps, 4 * question.batch_size),
            reducer="mean" if native else "sum",
            steps=self.steps,
            baseline_value=self.baseline,
        )
        maps = method(values, _rows(question)).numpy()
        scale = len(modality.features) if native and modality.spatial else 1
        total = scale * maps.reshape(len(maps), -1).sum(axis=1)
        return (maps,), {"completeness_gap": self.completeness_gap(question, total)}


@dataclass(frozen=True, kw_only=True)
class GradCAM(_Xplique):
    """Grad-CAM (Selvaraju et al. 2017) at `layer`; "" takes the last layer with space.

    Native: ReLU, bicubic resize (which can undershoot below zero), no rescale. Canonical: ReLU, bilinear resize, no rescale.
    """

    name: ClassVar = "xplique.gradcam"
    summary: ClassVar = "class activation map, channels weighted by mean gradients"
    conventions: ClassVar = {
        "native": "ReLU, bicubic resize, no rescale",
        "canonical": "ReLU, bilinear resize, no rescale",
    }
    kinds: ClassVar = ("image",)
    needs: ClassVar = "layers"

    layer: str = ""

    def _explain(self, library: Any, question: Question, asking: Asking) -> Answer:
        import tensorflow as tf

        _, values = question.one
        _, activation, gradient = question.layer_score_and_grad(question.cam_layer(self.layer))
        activation, gradient = activation.astype(np.float32), gradient.astype(np.float32)
        if self.profile == "canonical":
            weights = library.GradCAM._compute_weights(tf.constant(gradient), tf.constant(activation))
            raw = library.GradCAM._apply_weights(weights, tf.constant(activation)).numpy()
            return (bilinear(raw, *values.shape[1:3])[..., None],), {}

        class Fed(library.GradCAM):  # type: ignore[misc]
            """The library's Grad-CAM, with activations and gradients given instead of recorded."""

            def __init__(self) -> None:
                self.batch_size = question.batch_size

            def _gradient(self, _inputs: Any, rows: Any) -> tuple[Any, Any]:
                index = rows.numpy()[:, 0].astype(np.intp)
                return tf.constant(activation[index]), tf.constant(gradient[index])

        return (Fed().explain(values, _rows(question)).numpy(),), {}


@dataclass(frozen=True, kw_only=True)
class Occlusion(WindowMethod, _Xplique):
    """Drop of the score when a sliding patch is replaced by `baseline` (Zeiler & Fergus 2014).

    Native: Xplique's 3 × 3 patches at stride 3, overlapping drops summed, an uncovered border left at 0. Canonical: divided
    by the number of patches over each pixel; the patches must then cover the image exactly.
    """

    name: ClassVar = "xplique.occlusion"
    summary: ClassVar = "score drop under a sliding patch"
    conventions: ClassVar = {
        "native": "overlapping patches summed, an uncovered border left at 0",
        "canonical": "overlapping patches averaged",
    }
    needs: ClassVar = "scores"

    patch: int = 3
    stride: int = 3

    def passes(self, question: Question) -> Passes:
        modality, values = question.one
        space = values.shape[1:-1] if modality.spatial else values.shape[1:]
        return 1 + math.prod((size - self.patch) // self.stride + 1 for size in space), 0

    def _explain(self, library: Any, question: Question, asking: Asking) -> Answer:
        modality, values = question.one
        space = values.shape[1:-1] if modality.spatial else values.shape[1:]
        self.check_space(question, tables=True)
        method = library.Occlusion(
            None,
            operator=asking.score,
            batch_size=question.batch_size,
            patch_size=self.patch,
            patch_stride=self.stride,
            occlusion_value=self.baseline,
        )
        if self.profile == "canonical" and any((size - self.patch) % self.stride for size in space):
            raise Unsupported(
                f"{self.name}, profile canonical: patches of {self.patch} at stride {self.stride} leave a border of {space} "
                "uncovered; choose them so that (size - patch) is a multiple of stride"
            )
        maps = method(values, _rows(question)).numpy()
        if self.profile == "canonical":
            masks = library.Occlusion._get_masks(values.shape[1:], method.patch_size, method.patch_stride).numpy()
            count = masks.sum(axis=0).astype(np.float32)
            maps = maps / (count[..., None] if modality.spatial else count)
        return (maps,), {}


@dataclass(frozen=True, kw_only=True)
class Rise(_Xplique):
    """Mean of random masks, weighted by the score under each (Petsiuk et al. 2018), one sample and one seed at a time.

    Xplique draws one crop per batch of 32 masks and divides by the sum of the masks; there is no canonical profile, since
    the paper's one crop per mask does not exist in Xplique.
    """

    name: ClassVar = "xplique.rise"
    summary: ClassVar = "mean of random masks weighted by their scores"
    needs: ClassVar = "scores"
    profiles: ClassVar[tuple[Profile, ...]] = ("native",)

    samples: int = 4000
    grid: int = 7
    keep: float = 0.5
    baseline: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples < 1 or self.grid < 1 or not 0 < self.keep < 1:
            raise InvalidInput(f"{self.name}: needs samples ≥ 1, grid ≥ 1 and 0 < keep < 1, got {self}")

    def passes(self, question: Question) -> Passes:
        return self.samples, 0

    def _explain(self, library: Any, question: Question, asking: Asking) -> Answer:
        (values,) = question.values
        method = library.Rise(
            None,
            operator=asking.score,
            nb_samples=self.samples,
            grid_size=self.grid,
            preservation_probability=self.keep,
            mask_value=self.baseline,
        )
        maps = []
        for row in range(len(question)):
            with seeded(library.Rise, int(question.rng(row, self.seed).integers(2**31))):
                maps.append(method(values[row : row + 1], _rows(question)[row : row + 1]).numpy())
        return (np.concatenate(maps),), {}
