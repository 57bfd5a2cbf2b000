"""Xplique's gradient methods on any model: its attributions run in TensorFlow graphs, gradients come from the question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from crossxai.attribution import Profile
from crossxai.errors import InvalidInput, Unsupported
from crossxai.explainers.method import Answer
from crossxai.explainers.path import PathMethod
from crossxai.explainers.xplique_bridge import XpliqueMethod, differentiating
from crossxai.model import Array
from crossxai.process import require
from crossxai.question import Question


@dataclass(frozen=True, kw_only=True)
class Saliency(XpliqueMethod):
    """|d score / d input|, largest over channels (Simonyan et al. 2013); native and canonical agree."""

    name: ClassVar = "xplique.saliency"
    summary: ClassVar = "absolute gradient"
    family: ClassVar = "gradient"
    reference: ClassVar = "Simonyan et al. 2013"
    conventions: ClassVar = {p: "largest absolute gradient over channels" for p in ("native", "canonical")}
    needs: ClassVar = "gradients"

    def _explain(self, library: Any, question: Question, rows: Array) -> Answer:
        method = differentiating(library.Saliency, batch_size=question.batch_size)
        return (method(question.values[0], rows).numpy(),), {}


@dataclass(frozen=True, kw_only=True)
class GradientInput(XpliqueMethod):
    """Gradient · input (Shrikumar et al. 2016), signed. Native: mean over channels. Canonical: sum over channels."""

    name: ClassVar = "xplique.gradient_input"
    summary: ClassVar = "gradient times input"
    family: ClassVar = "gradient"
    reference: ClassVar = "Shrikumar et al. 2016"
    conventions: ClassVar = {"native": "mean over channels", "canonical": "summed over channels"}
    needs: ClassVar = "gradients"

    def _explain(self, library: Any, question: Question, rows: Array) -> Answer:
        reducer = "mean" if self.profile == "native" else "sum"
        method = differentiating(library.GradientInput, batch_size=question.batch_size, reducer=reducer)
        return (method(question.values[0], rows).numpy(),), {}


@dataclass(frozen=True, kw_only=True)
class IntegratedGradients(PathMethod, XpliqueMethod):
    """Path integral of the gradient from a baseline (Sundararajan et al. 2017, eq. 1), trapezoid rule, signed.

    Native: mean over channels. Canonical: sum over channels, so that completeness holds. The extra `completeness_gap` (n,)
    says how far the map, summed over channels, is from adding up. Xplique holds a whole path at once: `steps` copies of a
    sample and their gradients, of several samples together only as long as 4 · batch_size copies suffice.
    """

    name: ClassVar = "xplique.integrated_gradients"
    summary: ClassVar = "gradients integrated along a path from a baseline"
    family: ClassVar = "path"
    reference: ClassVar = "Sundararajan et al. 2017"
    conventions: ClassVar = {
        "native": "trapezoid rule, mean over channels",
        "canonical": "trapezoid rule, summed over channels",
    }
    needs: ClassVar = "gradients"

    def _explain(self, library: Any, question: Question, rows: Array) -> Answer:
        modality, values = question.one
        native = self.profile == "native"
        method = differentiating(
            library.IntegratedGradients,
            batch_size=max(self.steps, 4 * question.batch_size),
            reducer="mean" if native else "sum",
            steps=self.steps,
            baseline_value=self.baseline,
        )
        maps = method(values, rows).numpy()
        scale = len(modality.features) if native and modality.spatial else 1
        total = scale * maps.reshape(len(maps), -1).sum(axis=1)
        return (maps,), {"completeness_gap": self.completeness_gap(question, total)}


@dataclass(frozen=True, kw_only=True)
class ForGrad(XpliqueMethod):
    """Saliency without its high spatial frequencies (Muzellec et al. 2023): Xplique's `forgrad` of its saliency map.

    sigma: frequencies kept, in cycles per image (15, for 224 pixels in the paper). Of square images alone, and no larger
    than their side. There is no canonical profile: no other library filters.
    """

    name: ClassVar = "xplique.forgrad"
    summary: ClassVar = "absolute gradient, low frequencies only"
    family: ClassVar = "gradient"
    reference: ClassVar = "Muzellec et al. 2023"
    conventions: ClassVar = {"native": "low-pass filter of the largest absolute gradient over channels"}
    needs: ClassVar = "gradients"
    kinds: ClassVar = ("image",)
    profiles: ClassVar[tuple[Profile, ...]] = ("native",)

    sigma: int = 15

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sigma < 1:
            raise InvalidInput(f"{self.name}: sigma must be at least 1, got {self.sigma}")

    def _explain(self, library: Any, question: Question, rows: Array) -> Answer:
        modality, values = question.one
        height, width = values.shape[1:3]
        if height != width:
            raise Unsupported(f"{self.name} filters square images; modality {modality.name!r} is {height} × {width}")
        if self.sigma > height:
            raise InvalidInput(
                f"{self.name}: sigma {self.sigma} is larger than modality {modality.name!r}: write at most {height}"
            )
        maps = differentiating(library.Saliency, batch_size=question.batch_size)(values, rows)
        filtered = require("xplique.commons", "xplique", self.name).forgrad(maps, self.sigma)
        return (filtered.numpy().reshape(*values.shape[:3], 1),), {}
