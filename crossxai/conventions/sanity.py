"""Whether a method's maps depend on what the network has learned: the randomisation tests of Adebayo et al. 2018, of its weights
and of the labels that it was trained on.

One library stands for all, as they agree on one definition; every model is asked, since frameworks differ in their layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from crossxai.attribution import Explainer
from crossxai.conventions.retraining import Retrained, Training
from crossxai.errors import CrossXAIError, Unsupported
from crossxai.evaluation.metrics import similarity
from crossxai.evaluation.metrics.similarity import Similarity
from crossxai.explainers import get
from crossxai.model import Array, Model, Randomisable
from crossxai.question import Question

STAGES = 5
"""How many depths are drawn anew, evenly from the top layer to all."""
PAIRS = (("own", "labels"), ("own", "shuffled"), ("labels", "shuffled"), ("start", "shuffled"))
"""The model's own maps and those of its copies that are laid beside each other."""


@dataclass(frozen=True)
class Sanity:
    """Likeness of a model's maps to those of copies with weights drawn anew, and to an edge detector's.

    explainer: whose maps. layers: the names at each stage, from the output down: what is drawn anew last (cascading) or alone.
    cascading, alone: measure ("spearman", "ssim", "hog") -> mean over samples by stage. edges: measure -> mean of the likeness to
    Sobel's edges of the image, which no weight can change; NaN where that is not defined. refusal: why nothing was measured.
    training: of copies on labels and on shuffled ones, None where it was not asked for. labels: two of the model ("own") and its
    copies -> measure -> mean likeness of their maps, such as "labels and shuffled"; empty where the training has a refusal.
    """

    explainer: str
    layers: tuple[str, ...] = ()
    cascading: Mapping[Similarity, Array] | None = None
    alone: Mapping[Similarity, Array] | None = None
    edges: Mapping[Similarity, float] | None = None
    refusal: str = ""
    training: Training | None = None
    labels: Mapping[str, Mapping[Similarity, float]] = field(default_factory=dict)


def sanity_of(
    explainer: Explainer, question: Question, retrained: Retrained | None = None, stages: int = STAGES, seed: int = 0
) -> Sanity:
    """The randomisation tests of one explainer; at most twice `stages` explanations more, and one of each retrained copy."""
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

        def units_of(copy: Model) -> Array:
            # copies are the model with other weights: what was measured of it holds of them
            return _units(explainer, replace(question, model=copy, check="off"))

        def stage_by_stage(copied: Callable[[int], Model]) -> dict[Similarity, Array]:
            maps = [units_of(copied(depth)) for depth in depths]
            return {m: np.array([_mean(similarity.between(own, other, m)) for other in maps]) for m in measures}

        training, labels = _labels(own, units_of, retrained, measures)
        return Sanity(
            explainer.name,
            tuple(weighted[depth - 1] for depth in depths),
            stage_by_stage(lambda depth: model.randomised(question.inputs, depth, seed)),
            stage_by_stage(lambda depth: model.randomised(question.inputs, depth, seed, alone=True)),
            _edges(question, own, measures),
            training=training,
            labels=labels,
        )
    except Unsupported as error:
        return Sanity(explainer.name, refusal=str(error))


def _labels(
    own: Array, units_of: Callable[[Model], Array], retrained: Retrained | None, measures: tuple[Similarity, ...]
) -> tuple[Training | None, dict[str, dict[Similarity, float]]]:
    """The training, and how alike the maps of the model and its copies are."""
    if retrained is None or retrained.training.refusal:
        return None if retrained is None else retrained.training, {}
    maps: dict[str, Array] = {"own": own}
    try:
        maps |= {name: units_of(copy) for name, copy in retrained.copies.items()}
    except CrossXAIError as error:  # the other tests stand
        return replace(retrained.training, refusal=str(error)), {}
    return retrained.training, {
        f"{one} and {other}": {m: _mean(similarity.between(maps[one], maps[other], m)) for m in measures}
        for one, other in PAIRS
    }


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
