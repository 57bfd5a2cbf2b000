"""Captum on any model: its attributions run in torch, and every forward and backward goes through the question.

The bridge is diagonal: scores are independent per sample, so the forward fetches score and gradient at once and the
backward multiplies. Captum repeats `additional_forward_args` as it repeats inputs, so a row number rides along with each
copy and recovers that copy's own target and held modalities.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from crossxai.explainers.method import Answer, Method, Passes, channel_sum
from crossxai.explainers.path import PathMethod
from crossxai.explainers.window import WindowMethod
from crossxai.process import require
from crossxai.question import Question


def _attr(purpose: str) -> Any:
    return require("captum.attr", "captum", purpose)


def _forward(question: Question) -> Any:
    """A torch function of (*inputs, rows) that gives the question's scores, differentiable once."""
    import torch

    class Scores(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, wanted: bool, rows: Any, *inputs: Any) -> Any:
            arrays = tuple(x.detach().numpy() for x in inputs)
            if not wanted:
                return torch.from_numpy(question.score(arrays, rows.numpy()))
            scores, gradients = question.score_and_grad(arrays, rows.numpy())
            ctx.gradients = [torch.from_numpy(g) for g in gradients]
            return torch.from_numpy(scores)

        @staticmethod
        @torch.autograd.function.once_differentiable  # second order is refused, never silently wrong
        def backward(ctx: Any, upstream: Any) -> Any:
            scaled = [g * upstream.reshape(-1, *[1] * (g.ndim - 1)).to(g.dtype) for g in ctx.gradients]
            return (None, None, *scaled)

    def forward(*arguments: Any) -> Any:
        *inputs, rows = arguments
        wanted = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
        return Scores.apply(wanted, rows, *inputs)

    return forward


def _attribute(attribution: Any, question: Question, gradients: bool = True, **arguments: Any) -> Any:
    import torch

    inputs = tuple(torch.tensor(v, requires_grad=gradients) for v in question.values)
    rows = torch.arange(len(question))
    return attribution.attribute(inputs, additional_forward_args=(rows,), **arguments)


@dataclass(frozen=True, kw_only=True)
class Saliency(Method):
    """|d score / d input| (Simonyan et al. 2013). Native: per channel. Canonical: largest over channels."""

    name: ClassVar = "captum.saliency"
    library: ClassVar = "captum"
    summary: ClassVar = "absolute gradient"
    conventions: ClassVar = {
        "native": "one absolute gradient per channel",
        "canonical": "largest absolute gradient over channels",
    }
    needs: ClassVar = "gradients"
    joint: ClassVar = True

    def explain(self, question: Question) -> Answer:
        method = _attr(self.name).Saliency(_forward(question))
        maps = [m.detach().numpy() for m in _attribute(method, question)]
        if self.profile == "canonical":
            maps = [v.max(axis=-1, keepdims=True) if m.spatial else v for m, v in _by_modality(question, maps)]
        return tuple(maps), {}


@dataclass(frozen=True, kw_only=True)
class InputXGradient(Method):
    """Input · gradient (Shrikumar et al. 2016), signed. Native: per channel. Canonical: summed over channels."""

    name: ClassVar = "captum.input_x_gradient"
    library: ClassVar = "captum"
    summary: ClassVar = "input times gradient"
    conventions: ClassVar = {"native": "per channel", "canonical": "summed over channels"}
    needs: ClassVar = "gradients"
    joint: ClassVar = True

    def explain(self, question: Question) -> Answer:
        method = _attr(self.name).InputXGradient(_forward(question))
        maps = [m.detach().numpy() for m in _attribute(method, question)]
        return _signed(self, question, maps), {}


@dataclass(frozen=True, kw_only=True)
class IntegratedGradients(PathMethod):
    """Path integral of the gradient from a baseline (Sundararajan et al. 2017, eq. 1), signed.

    Native: Captum's Gauss-Legendre quadrature, per channel. Canonical: the trapezoid rule on `steps` points from 0 to 1,
    summed over channels. The extra `completeness_gap` (n,) says how far the map is from adding up.
    """

    name: ClassVar = "captum.integrated_gradients"
    library: ClassVar = "captum"
    summary: ClassVar = "gradients integrated along a path from a baseline"
    conventions: ClassVar = {
        "native": "Gauss-Legendre quadrature, per channel",
        "canonical": "trapezoid rule, summed over channels",
    }
    needs: ClassVar = "gradients"
    joint: ClassVar = True

    def explain(self, question: Question) -> Answer:
        method = _attr(self.name).IntegratedGradients(_forward(question))
        canonical = self.profile == "canonical"
        maps = _attribute(
            method,
            question,
            baselines=tuple(self.baseline for _ in question.values),
            n_steps=self.steps,
            method="riemann_trapezoid" if canonical else "gausslegendre",
        )
        # Captum's trapezoid weights sum to (n - 1) / n (measured: 2 % low at 50 steps): undo that.
        arrays = [m.detach().numpy() * (self.steps / (self.steps - 1) if canonical else 1.0) for m in maps]
        total = np.sum([a.reshape(len(question), -1).sum(axis=1) for a in arrays], axis=0)
        return _signed(self, question, arrays), {"completeness_gap": self.completeness_gap(question, total)}


@dataclass(frozen=True, kw_only=True)
class Occlusion(WindowMethod):
    """Drop of the score when a sliding window is replaced by `baseline` (Zeiler & Fergus 2014), all channels at once.

    Captum has no default window; ours is 16 × 16 pixels at stride 8 (one column at a time for tables). Overlapping windows
    are averaged and the border is covered, which is also the canonical definition. Captum answers in float32.
    """

    name: ClassVar = "captum.occlusion"
    library: ClassVar = "captum"
    summary: ClassVar = "score drop under a sliding window"
    conventions: ClassVar = {
        p: "overlapping windows averaged, a clipped window at the border" for p in ("native", "canonical")
    }
    needs: ClassVar = "scores"
    joint: ClassVar = True

    @property
    def copies(self) -> int:
        return 8

    def passes(self, question: Question) -> Passes:
        total = 1
        for modality, values in zip(question.modalities, question.values, strict=True):
            space = values.shape[1:-1]
            windows = [-(-max(size - self.patch, 0) // self.stride) + 1 for size in space]
            total += math.prod(windows) if modality.spatial else values.shape[-1]
        return total, 0

    def explain(self, question: Question) -> Answer:
        method = _attr(self.name).Occlusion(_forward(question))
        self.check_space(question)
        windows, strides = [], []
        for modality, values in zip(question.modalities, question.values, strict=True):
            space = values.shape[1:-1]
            windows.append((*(self.patch for _ in space), values.shape[-1] if modality.spatial else 1))
            strides.append((*(self.stride for _ in space), 1))
        maps = _attribute(
            method,
            question,
            gradients=False,
            sliding_window_shapes=tuple(windows),
            strides=tuple(strides),
            baselines=tuple(self.baseline for _ in windows),
            perturbations_per_eval=self.copies,
        )
        # A window spans all channels, so every channel of Captum's map holds the same number: keep one.
        arrays = [m.detach().numpy() for m in maps]
        return tuple(v[..., :1] if m.spatial else v for m, v in _by_modality(question, arrays)), {}


def _by_modality(question: Question, maps: list[Any]) -> Any:
    return zip(question.modalities, maps, strict=True)


def _signed(method: Method, question: Question, maps: list[Any]) -> Any:
    if method.profile == "native":
        return tuple(maps)
    return tuple(channel_sum(v) if m.spatial else v for m, v in _by_modality(question, maps))
