"""Whether a method's maps depend on what the network has learned: the randomisation tests of Adebayo et al. 2018.

One library stands for all, as they agree on one definition; every model is asked, since frameworks differ in their layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from crossxai.attribution import Explainer
from crossxai.errors import Unsupported
from crossxai.evaluation.metrics import similarity
from crossxai.evaluation.metrics.similarity import Similarity
from crossxai.explainers import get
from crossxai.model import Array, Model, Randomisable
from crossxai.question import Question

STAGES = 5
"""How many depths are drawn anew, evenly from the top layer to all."""


@dataclass(frozen=True)
class Sanity:
    """Likeness of a model's maps to those of copies with weights drawn anew, and to an edge detector's.

    explainer: whose maps. layers: the names at each stage, from the output down: what is drawn anew last (cascading) or alone.
    cascading, alone: measure ("spearman", "ssim", "hog") -> mean over samples by stage. edges: measure -> mean of the likeness to
    Sobel's edges of the image, which no weight can change; NaN where that is not defined. refusal: why nothing was measured.
    """

    explainer: str
    layers: tuple[str, ...] = ()
    cascading: Mapping[Similarity, Array] | None = None
    alone: Mapping[Similarity, Array] | None = None
    edges: Mapping[Similarity, float] | None = None
    refusal: str = ""


def sanity_of(explainer: Explainer, question: Question, stages: int = STAGES, seed: int = 0) -> Sanity:
    """The randomisation tests of one explainer; at most twice `stages` explanations more."""
    model = question.model
    if not isinstance(model, Randomisable):
        return Sanity(explainer.name, refusal=f"model {model.name!r} has no weights that can be drawn anew")
    try:
        own = _units(explainer, question)
        weighted = model.weighted(question.inputs)
        depths = [int(d) for d in np.unique(np.rint(np.linspace(0, len(weighted), stages + 1)))[1:]]
        if not depths:
            return Sanity(explainer.name, refusal=f"model {model.name!r} has no layer with weights")
        measures: tuple[Similarity, ...] = ("spearman", "ssim", "hog") if own.ndim == 3 else ("spearman",)

        def stage_by_stage(copied: Callable[[int], Model]) -> dict[Similarity, Array]:
            # the copies are the model with other weights: what was measured of it holds of them
            maps = [_units(explainer, replace(question, model=copied(depth), check="off")) for depth in depths]
            return {m: np.array([_mean(similarity.between(own, other, m)) for other in maps]) for m in measures}

        return Sanity(
            explainer.name,
            tuple(weighted[depth - 1] for depth in depths),
            stage_by_stage(lambda depth: model.randomised(question.inputs, depth, seed)),
            stage_by_stage(lambda depth: model.randomised(question.inputs, depth, seed, alone=True)),
            _edges(question, own, measures),
        )
    except Unsupported as error:
        return Sanity(explainer.name, refusal=str(error))


def _mean(values: Array) -> float:
    """The mean of the samples that have a value."""
    return float(values[~np.isnan(values)].mean()) if not np.isnan(values).all() else float("nan")


def _edges(question: Question, own: Array, measures: tuple[Similarity, ...]) -> dict[Similarity, float]:
    if own.ndim != 3:
        return dict.fromkeys(measures, float("nan"))
    edges = _units(get("controls.edges"), question)
    return {m: _mean(similarity.between(own, edges, m)) for m in measures}


def _units(explainer: Explainer, question: Question) -> Array:
    """One value per place (n, y, x), or per column (n, features), on the input's grid."""
    (maps,) = explainer(question).values
    if maps.ndim == 2:
        return maps
    size = question.values[0].shape[1:-1]
    return np.broadcast_to(maps.sum(axis=-1), (len(maps), *size))
