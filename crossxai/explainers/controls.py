"""Controls: maps that never read the model. An explainer that does not beat those that know nothing has shown nothing; the oracle
knows the truth, and shows what a metric gives for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from skimage.filters import sobel

from crossxai.errors import InvalidInput, Unsupported
from crossxai.explainers.method import NATIVE, Maps, Method, explainer
from crossxai.question import Question
from crossxai.target import SampleMasks


@explainer("controls.random", "random numbers")
class Random(Method, needs="nothing", family="control", profiles=NATIVE):
    """Uniform noise in [0, 1), drawn per sample from its name and the seed."""

    seed: int = 0

    def explain(self, question: Question) -> Maps:
        modality, values = question.one
        shape = (*values.shape[1:-1], 1) if modality.spatial else values.shape[1:]
        return (np.stack([question.rng(i, self.seed).random(shape, np.float32) for i in range(len(question))]),), {}


@explainer("controls.centre", "a bump in the middle of the image")
class Centre(Method, needs="nothing", family="control", kinds=("image", "volume"), profiles=NATIVE, positive=("sd",)):
    """A Gaussian bump in the middle of the image.

    Parameters
    ----------
    sd : float, default 0.25
        Its standard deviation, as a share of each side of the image.
    """

    sd: float = 0.25

    def explain(self, question: Question) -> Maps:
        _, values = question.one
        bump = np.ones(values.shape[1:-1], np.float32)
        for axis, size in enumerate(values.shape[1:-1]):
            position = ((np.arange(size) + 0.5) / size - 0.5) / self.sd
            profile = np.exp(-0.5 * position**2).astype(np.float32)
            bump *= profile.reshape([-1 if a == axis else 1 for a in range(bump.ndim)])
        return (np.repeat(bump[None, ..., None], len(question), axis=0),), {}


@explainer("controls.edges", "edges of the image", "Adebayo et al. 2018")
class Edges(Method, needs="nothing", family="control", kinds=("image", "volume"), profiles=NATIVE):
    """Sobel edge strength of the channel mean: looks convincing, never reads the model (Adebayo et al. 2018)."""

    def explain(self, question: Question) -> Maps:
        _, values = question.one
        return (np.stack([sobel(image.mean(axis=-1))[..., None] for image in values]).astype(np.float32),), {}


@explainer("controls.oracle", "the known truth, where there is one")
class Oracle(Method, needs="nothing", family="control", kinds=("image", "volume"), profiles=NATIVE):
    """The known truth: 1 on the pixels that decide a sample's label, 0 elsewhere; what a map of the data's own rule would be.

    A sample whose mask is empty has no known truth: its map is NaN, and metrics leave it out. It says what decides the
    *label*; a model may go by something else, and then others score better.

    Parameters
    ----------
    masks : array or mapping, default None
        (n, *space) in the question's order, or (*space) for all samples, booleans or 0 and 1; by modality if several.
    ids : sequence of str, default ()
        The samples' names of the masks: a subset, or another order, then finds each its own.
    """

    masks: Any = None
    ids: Any = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (isinstance(self.ids, list | tuple) and all(isinstance(name, str) for name in self.ids)):
            raise InvalidInput(f"{self.name}: ids are the samples' names, got {self.ids!r}")
        object.__setattr__(self, "ids", tuple(self.ids))
        if isinstance(self.masks, Mapping):
            object.__setattr__(self, "masks", {name: self._held(values) for name, values in self.masks.items()})
        elif self.masks is not None:
            object.__setattr__(self, "masks", self._held(self.masks))

    def _held(self, masks: Any) -> SampleMasks:
        return masks if isinstance(masks, SampleMasks) else SampleMasks(masks, self.ids)

    def explainable(self, question: Question) -> Question:
        question = super().explainable(question)
        if not isinstance(self.masks, Mapping):
            return question
        known = [m.name for m in question.modalities if m.name in self.masks]
        if not known:
            free = ", ".join(m.name for m in question.modalities)
            raise Unsupported(f"{self.name} knows the truth of {', '.join(self.masks) or 'nothing'}, not of {free}")
        return question.only(*known)

    def explain(self, question: Question) -> Maps:
        if self.masks is None:
            raise Unsupported(
                f"{self.name} needs the truth, and none is known here: give masks=… with the pixels that decide each label; "
                'in an experiment, Samples(truth={"image": masks}) of a data factory, or params = { mask = "name" }'
            )
        modality, values = question.one
        held = self.masks[modality.name] if isinstance(self.masks, Mapping) else self.masks
        inside = held.of(question.ids, values.shape[1:-1], self.name)
        maps = np.broadcast_to(inside, values.shape[:-1]).astype(np.float32)
        maps[~maps.reshape(len(maps), -1).any(axis=1)] = np.nan
        return (maps[..., None],), {}

    def _in_chunks(self, question: Question) -> Maps:
        return self.explain(question)  # nothing is computed, and masks without names go by the question's own order
