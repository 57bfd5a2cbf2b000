"""Controls: maps that know nothing of the model; an explainer that does not beat them has shown nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from skimage.filters import sobel

from crossxai.attribution import Profile
from crossxai.errors import InvalidInput
from crossxai.explainers.method import Answer, Method
from crossxai.question import Question


@dataclass(frozen=True, kw_only=True)
class Random(Method):
    """Uniform noise in [0, 1), drawn per sample from its name and the seed."""

    name: ClassVar = "controls.random"
    library: ClassVar = "controls"
    summary: ClassVar = "random numbers"
    needs: ClassVar = "nothing"
    family: ClassVar = "control"
    profiles: ClassVar[tuple[Profile, ...]] = ("native",)

    seed: int = 0

    def explain(self, question: Question) -> Answer:
        modality, values = question.one
        shape = (*values.shape[1:-1], 1) if modality.spatial else values.shape[1:]
        return (np.stack([question.rng(i, self.seed).random(shape, np.float32) for i in range(len(question))]),), {}


@dataclass(frozen=True, kw_only=True)
class Centre(Method):
    """A Gaussian bump in the middle of the image; sd is a fraction of each side."""

    name: ClassVar = "controls.centre"
    library: ClassVar = "controls"
    summary: ClassVar = "a bump in the middle of the image"
    needs: ClassVar = "nothing"
    family: ClassVar = "control"
    kinds: ClassVar = ("image", "volume")
    profiles: ClassVar[tuple[Profile, ...]] = ("native",)

    sd: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sd <= 0:
            raise InvalidInput(f"{self.name}: sd must be positive, got {self.sd}")

    def explain(self, question: Question) -> Answer:
        _, values = question.one
        bump = np.ones(values.shape[1:-1], np.float32)
        for axis, size in enumerate(values.shape[1:-1]):
            position = ((np.arange(size) + 0.5) / size - 0.5) / self.sd
            profile = np.exp(-0.5 * position**2).astype(np.float32)
            bump *= profile.reshape([-1 if a == axis else 1 for a in range(bump.ndim)])
        return (np.repeat(bump[None, ..., None], len(question), axis=0),), {}


@dataclass(frozen=True, kw_only=True)
class Edges(Method):
    """Sobel edge strength of the channel mean: looks convincing, never asks the model (Adebayo et al. 2018)."""

    name: ClassVar = "controls.edges"
    library: ClassVar = "controls"
    summary: ClassVar = "edges of the image"
    needs: ClassVar = "nothing"
    family: ClassVar = "control"
    reference: ClassVar = "Adebayo et al. 2018"
    kinds: ClassVar = ("image", "volume")
    profiles: ClassVar[tuple[Profile, ...]] = ("native",)

    def explain(self, question: Question) -> Answer:
        _, values = question.one
        return (np.stack([sobel(image.mean(axis=-1))[..., None] for image in values]).astype(np.float32),), {}
