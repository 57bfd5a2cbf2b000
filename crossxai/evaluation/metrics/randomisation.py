"""Whether maps depend on what the model has learnt, and on the class they are asked about.

Maps that stay as they were explain something else than the model: edges, often. The controls (random, centre, edges) stay.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from crossxai.attribution import Attribution, Axis, Explainer, Range, Scores
from crossxai.errors import Unsupported
from crossxai.evaluation.curves import ranks
from crossxai.evaluation.metrics import similarity
from crossxai.evaluation.metrics.reexplaining import ReexplainingMetric, blocks, generators
from crossxai.evaluation.metrics.similarity import Similarity
from crossxai.evaluation.parameters import whole
from crossxai.model import Modality, Randomisable
from crossxai.question import Question


@dataclass(frozen=True, kw_only=True)
class _Compared(ReexplainingMetric):
    """A metric of how similar a map is to another one.

    Parameters
    ----------
    similarity : {"spearman", "pearson", "ssim"}
        See `similarity.between`; signed: a map turned upside down is not similar to itself.
    """

    similarity: Similarity = "spearman"

    higher_is_better: ClassVar[bool] = False
    axis: ClassVar[Axis] = "randomisation"
    range: ClassVar[Range] = (-1.0, 1.0)

    @property
    def invariant_to(self) -> str:
        """Ranks do not change under a monotone rescaling, values do."""
        return "order" if self.similarity == "spearman" else "scale"

    def __post_init__(self) -> None:
        super().__post_init__()
        similarity.check(self.similarity, self.name)

    def check(self, question: Question) -> None:
        super().check(question)
        modality = ranks.modality_of(question, self.modality, self.name)
        similarity.check_space(self.similarity, modality, self.name)


@dataclass(frozen=True, kw_only=True)
class ModelRandomisation(_Compared):
    """Likeness of a map to the maps of the model with its weights drawn anew, from the output down; lower is better.

    Parameters
    ----------
    stages : int
        How many depths, evenly from the top layer with weights to all of them, fewer if there are fewer layers.

    Notes
    -----
    The value is the mean over the stages. The curve runs over the share of layers drawn anew, and starts at 0 with the map
    itself. extras["all"]: the likeness with every layer drawn. How weights are drawn: `crossxai.adapters.checks`; Adebayo
    et al. draw from the initialiser instead, which a trained network does not name.
    """

    stages: int = 5

    name: ClassVar[str] = "model_randomisation"
    source: ClassVar[str] = "Adebayo et al. 2018"
    curve_over: ClassVar[str] = "layers"

    def __post_init__(self) -> None:
        super().__post_init__()
        whole(self.stages, 1, f"{self.name}: stages")

    @property
    def together(self) -> bool:
        return True  # one copy of the network per depth, not per block

    def check(self, question: Question) -> None:
        super().check(question)
        if not isinstance(question.model, Randomisable):
            raise Unsupported(
                f"{self.name} needs weights that can be drawn anew, which model {question.model.name!r} does not have"
            )

    def explanations(self, question: Question, explainer: Explainer) -> int:
        return len(self.depths(question)) - 1

    def depths(self, question: Question) -> list[int]:
        """Numbers of layers drawn anew, from 0."""
        model = question.model
        assert isinstance(model, Randomisable)
        layers = len(model.weighted(question.inputs))
        if not layers:
            raise Unsupported(f"{self.name}: model {model.name!r} has no layer with weights")
        depths: list[int] = np.unique(np.rint(np.linspace(0, layers, self.stages + 1)).astype(int)).tolist()
        return depths

    def measure(self, question: Question, attribution: Attribution, modality: Modality, explainer: Explainer) -> Scores:
        own, model, depths = self.of(question, attribution, modality), question.model, self.depths(question)
        assert isinstance(model, Randomisable)
        curve = np.empty((len(question), len(depths)))
        curve[:, 0] = similarity.between(own, own, self.similarity)
        for stage, depth in enumerate(depths[1:], start=1):
            other = replace(question, model=model.randomised(question.inputs, depth, self.seed))
            for rows in blocks(question, explainer):
                moved = self.of(other[rows], explainer(other[rows]), modality)
                curve[rows, stage] = similarity.between(own[rows], moved, self.similarity)
        return self.scores(curve[:, 1:].mean(axis=1), curve, np.array(depths) / depths[-1], all=curve[:, -1])


@dataclass(frozen=True, kw_only=True)
class RandomLogit(_Compared):
    """Likeness of a map to the map of another class, drawn per sample; lower is better."""

    name: ClassVar[str] = "random_logit"
    source: ClassVar[str] = "Sixt et al. 2020"

    def check(self, question: Question) -> None:
        super().check(question)
        if question.target.weights.shape[-1] < 2:
            raise Unsupported(f"{self.name} needs another class to ask about, the model gives one output")

    def explanations(self, question: Question, explainer: Explainer) -> int:
        return 1

    def measure(self, question: Question, attribution: Attribution, modality: Modality, explainer: Explainer) -> Scores:
        weights = question.target.weights
        steps = [int(rng.integers(1, weights.shape[-1])) for rng in generators(question, self.seed)]
        rolled = np.stack([np.roll(w, step, axis=-1) for w, step in zip(weights, steps, strict=True)])
        other = replace(question, target=replace(question.target, weights=rolled))
        own, moved = self.of(question, attribution, modality), self.of(other, explainer(other), modality)
        return self.scores(similarity.between(own, moved, self.similarity))
