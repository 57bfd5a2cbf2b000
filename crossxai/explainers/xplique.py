"""Xplique on any model: its attributions run in TensorFlow graphs, and every score comes from the question.

Xplique repeats `targets` as it repeats inputs and needs no model when an `operator(model, inputs, targets)` is given: the
targets carry row numbers, and the operator asks the question. Xplique casts inputs to float32, so its answers are float32.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from crossxai.attribution import Profile
from crossxai.errors import InvalidInput, Unsupported
from crossxai.explainers.method import Answer, Method, Passes
from crossxai.process import require
from crossxai.question import Question
from crossxai.resize import bilinear


def _attributions(purpose: str) -> Any:
    return require("xplique.attributions", "xplique", purpose)


def _operator(question: Question, gradient: bool = False) -> Any:
    """Xplique's operator (model, inputs, row numbers) → scores; with `gradient`, differentiable, one pass for both."""
    import tensorflow as tf

    dtype = question.values[0].dtype

    def rows_of(targets: Any) -> Any:
        return targets[:, 0].astype(np.intp)

    def ask(x: Any, targets: Any) -> Any:
        return question.score((x.astype(dtype),), rows_of(targets)).astype(np.float32)

    def ask_both(x: Any, targets: Any) -> Any:
        scores, (grads,) = question.score_and_grad((x.astype(dtype),), rows_of(targets))
        return scores.astype(np.float32), grads.astype(np.float32)

    def operator(_model: Any, inputs: Any, targets: Any) -> Any:
        if not gradient:
            return tf.ensure_shape(tf.numpy_function(ask, [inputs, targets], tf.float32), (inputs.shape[0],))

        @tf.custom_gradient  # type: ignore[untyped-decorator]
        def score(x: Any) -> Any:
            scores, grads = tf.numpy_function(ask_both, [x, targets], (tf.float32, tf.float32))
            grads = tf.ensure_shape(grads, x.shape)

            def backward(upstream: Any) -> Any:
                return grads * tf.reshape(upstream, (-1, *[1] * (len(x.shape) - 1)))

            return tf.ensure_shape(scores, (x.shape[0],)), backward

        return score(inputs)

    return operator


def _rows(question: Question) -> Any:
    return np.arange(len(question), dtype=np.float32)[:, None]


@dataclass(frozen=True, kw_only=True)
class Saliency(Method):
    """|d score / d input|, largest over channels (Simonyan et al. 2013); native and canonical agree."""

    name: ClassVar = "xplique.saliency"
    library: ClassVar = "xplique"
    summary: ClassVar = "absolute gradient"
    conventions: ClassVar = {p: "largest absolute gradient over channels" for p in ("native", "canonical")}
    needs: ClassVar = "gradients"

    def explain(self, question: Question) -> Answer:
        _, values = question.one
        library = _attributions(self.name)
        method = library.Saliency(None, operator=_operator(question, gradient=True), batch_size=question.batch_size)
        return (method(values, _rows(question)).numpy(),), {}


@dataclass(frozen=True, kw_only=True)
class IntegratedGradients(Method):
    """Path integral of the gradient from a baseline (Sundararajan et al. 2017, eq. 1), trapezoid rule, signed.

    Native: mean over channels. Canonical: sum over channels, so that completeness holds. baseline: in raw input space.
    The extra `completeness_gap` (n,) is sum(map) - (score(input) - score(baseline)), with the channel sum.
    """

    name: ClassVar = "xplique.integrated_gradients"
    library: ClassVar = "xplique"
    summary: ClassVar = "gradients integrated along a path from a baseline"
    conventions: ClassVar = {
        "native": "trapezoid rule, mean over channels",
        "canonical": "trapezoid rule, summed over channels",
    }
    needs: ClassVar = "gradients"

    steps: int = 50
    baseline: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 2:
            raise InvalidInput(f"{self.name}: steps must be at least 2, got {self.steps}")

    @property
    def copies(self) -> int:
        return self.steps

    def passes(self, question: Question) -> Passes:
        return self.steps + 2, self.steps  # two more for the completeness gap

    def explain(self, question: Question) -> Answer:
        modality, values = question.one
        native = self.profile == "native"
        method = _attributions(self.name).IntegratedGradients(
            None,
            operator=_operator(question, gradient=True),
            batch_size=max(self.steps, 4 * question.batch_size),
            reducer="mean" if native else "sum",
            steps=self.steps,
            baseline_value=self.baseline,
        )
        maps = method(values, _rows(question)).numpy()
        change = question.score() - question.score((np.full_like(values, self.baseline),), np.arange(len(values)))
        scale = len(modality.features) if native and modality.spatial else 1
        gap = scale * maps.reshape(len(maps), -1).sum(axis=1) - change
        return (maps,), {"completeness_gap": np.asarray(gap)}


@dataclass(frozen=True, kw_only=True)
class GradCAM(Method):
    """Grad-CAM (Selvaraju et al. 2017) at `layer`; "" takes the last layer with space.

    Native: ReLU, bicubic resize (which can undershoot below zero), no rescale. Canonical: ReLU, bilinear resize, no rescale.
    """

    name: ClassVar = "xplique.gradcam"
    library: ClassVar = "xplique"
    summary: ClassVar = "class activation map, channels weighted by mean gradients"
    conventions: ClassVar = {
        "native": "ReLU, bicubic resize, no rescale",
        "canonical": "ReLU, bilinear resize, no rescale",
    }
    needs: ClassVar = "layers"

    layer: str = ""

    def explain(self, question: Question) -> Answer:
        library = _attributions(self.name)
        import tensorflow as tf

        _, values = question.one
        _, activation, gradient = question.layer_score_and_grad(question.cam_layer(self.layer))
        activation, gradient = activation.astype(np.float32), gradient.astype(np.float32)
        if self.profile == "canonical":
            weights = library.GradCAM._compute_weights(tf.constant(gradient), tf.constant(activation))
            raw = library.GradCAM._apply_weights(weights, tf.constant(activation)).numpy()
            return (bilinear(raw, *values.shape[1:3])[..., None],), {}

        class Fed(library.GradCAM):  # type: ignore[misc, name-defined]
            """The library's Grad-CAM, with activations and gradients given instead of recorded."""

            def __init__(self) -> None:
                self.batch_size = question.batch_size

            def _gradient(self, _inputs: Any, rows: Any) -> tuple[Any, Any]:
                index = rows.numpy()[:, 0].astype(np.intp)
                return tf.constant(activation[index]), tf.constant(gradient[index])

        return (Fed().explain(values, _rows(question)).numpy(),), {}


@dataclass(frozen=True, kw_only=True)
class Occlusion(Method):
    """Drop of the score when a sliding patch is replaced by `baseline` (Zeiler & Fergus 2014).

    Native: Xplique's 3 × 3 patches at stride 3, overlapping drops summed, an uncovered border left at 0. Canonical: divided
    by the number of patches over each pixel; the patches must then cover the image exactly.
    """

    name: ClassVar = "xplique.occlusion"
    library: ClassVar = "xplique"
    summary: ClassVar = "score drop under a sliding patch"
    conventions: ClassVar = {
        "native": "overlapping patches summed, an uncovered border left at 0",
        "canonical": "overlapping patches averaged",
    }
    needs: ClassVar = "scores"

    patch: int = 3
    stride: int = 3
    baseline: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.stride <= self.patch:
            raise InvalidInput(
                f"{self.name}: 0 < stride ≤ patch is needed, got stride {self.stride}, patch {self.patch}"
            )

    def passes(self, question: Question) -> Passes:
        modality, values = question.one
        space = values.shape[1:-1] if modality.spatial else values.shape[1:]
        return 1 + math.prod((size - self.patch) // self.stride + 1 for size in space), 0

    def explain(self, question: Question) -> Answer:
        modality, values = question.one
        space = values.shape[1:-1] if modality.spatial else values.shape[1:]
        if any(size < self.patch for size in space):
            raise InvalidInput(f"{self.name}: patch {self.patch} is larger than modality {modality.name!r} {space}")
        library = _attributions(self.name)
        method = library.Occlusion(
            None,
            operator=_operator(question),
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
class Rise(Method):
    """Mean of random masks, weighted by the score under each (Petsiuk et al. 2018), one sample and one seed at a time.

    Xplique draws one crop per batch of 32 masks and divides by the sum of the masks; there is no canonical profile, since
    the paper's one crop per mask does not exist in Xplique.
    """

    name: ClassVar = "xplique.rise"
    library: ClassVar = "xplique"
    summary: ClassVar = "mean of random masks weighted by their scores"
    needs: ClassVar = "scores"
    profiles: ClassVar[tuple[Profile, ...]] = ("native",)
    stochastic: ClassVar = True

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

    def explain(self, question: Question) -> Answer:
        _, values = question.one
        library = _attributions(self.name)
        method = library.Rise(
            None,
            operator=_operator(question),
            nb_samples=self.samples,
            grid_size=self.grid,
            preservation_probability=self.keep,
            mask_value=self.baseline,
        )
        maps = []
        for row in range(len(question)):
            with _seeded(library.Rise, int(question.rng(row, self.seed).integers(2**31))):
                maps.append(method(values[row : row + 1], _rows(question)[row : row + 1]).numpy())
        return (np.concatenate(maps),), {}


@contextmanager
def _seeded(rise: Any, seed: int) -> Iterator[None]:
    """Masks that depend on the seed alone; TensorFlow's global seed and the class are left as found.

    Xplique draws inside tf.functions, whose random state belongs to their traces and so to the calls before; run eagerly,
    the same two functions follow the global seed.
    """
    import tensorflow as tf
    from tensorflow.python.eager import context

    before = context.global_seed()
    traced = {name: vars(rise)[name] for name in ("_get_masks", "_apply_masks")}
    for name, function in traced.items():
        setattr(rise, name, staticmethod(function.__func__.python_function))
    tf.random.set_seed(seed)
    try:
        yield
    finally:
        tf.random.set_seed(before)
        for name, function in traced.items():
            setattr(rise, name, function)
