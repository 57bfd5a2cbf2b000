"""An explainer, a metric and a data source of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from crossxai import Attribution, InvalidInput, Modality, Question, Scores
from crossxai.evaluation.curves import ranks
from crossxai.explainers import Method
from crossxai.files import Samples


@dataclass(frozen=True, kw_only=True)
class Contrast(Method):
    """Gradient times what an input differs by from its own mean per channel, summed over channels.

    times: what the mean is multiplied by; 0 gives input times gradient.
    """

    name: ClassVar = "example.contrast"
    library: ClassVar = "example"
    summary: ClassVar = "gradient times difference from the image's mean"
    needs: ClassVar = "gradients"  # one forward and one backward pass: what `passes` announces unless told otherwise
    family: ClassVar = "gradient"
    kinds: ClassVar = ("image", "volume")
    profiles: ClassVar = ("native",)
    joint: ClassVar = True

    times: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.times < 0:
            raise InvalidInput(f"{self.name}: times must be at least 0, got {self.times}")

    def explain(self, question: Question):
        _, gradients = question.score_and_grad()
        maps = []
        for values, gradient in zip(question.values, gradients, strict=True):
            space = tuple(range(1, values.ndim - 1))
            difference = values - self.times * values.mean(axis=space, keepdims=True)
            maps.append((difference * gradient).sum(axis=-1, keepdims=True))
        return tuple(maps), {}  # one map per free modality, and extras (n, …) by name


@dataclass(frozen=True)
class TopDrop:
    """Drop of the score when the most relevant units become zero; higher is better."""

    share: float = 0.1
    modality: str = ""
    seed: int = 0

    name: ClassVar = "example.top_drop"
    higher_is_better: ClassVar = True

    def __call__(self, question: Question, attribution: Attribution) -> Scores:
        modality = ranks.modality_of(question, self.modality, self.name)
        relevance = ranks.units(question, attribution, modality)
        rows = np.arange(len(question))
        order = ranks.order(question, relevance, rows, self.seed)  # ties are drawn, not in raster order
        alone = question.only(modality.name)
        copies = alone.values[0].copy()
        flat = copies.reshape(len(copies), order.shape[1], -1)
        flat[rows[:, None], order[:, : round(self.share * order.shape[1])]] = 0
        drop = question.score() - alone.score((copies,))
        value = np.where(ranks.usable(relevance), drop, np.nan)  # a map that is not finite is undefined, not bad
        return Scores(self.name, value, self.higher_is_better, params={"share": self.share, "modality": modality.name})


class Stripes:
    """Noise with a bright line that lies or stands: `source = "stripes"` in an experiment's `[data]`."""

    name: ClassVar = "stripes"

    def problem(self, data) -> str:
        return "stripes are drawn anew: root and task say nothing" if data.root or data.task else ""

    def samples(self, experiment):
        n = experiment.data.n
        images = np.random.default_rng(experiment.seed).random((n, 16, 16, 3), dtype=np.float32) / 2
        labels = np.arange(n) % 2
        images[labels == 0, 8] = 1
        images[labels == 1, :, 8] = 1
        ids = tuple(f"stripe {i}" for i in range(n))
        samples = Samples(ids, (Modality.image(),), {"image": images}, labels, ("lies", "stands"))
        return samples, {"description": "Noise with a bright line."}
